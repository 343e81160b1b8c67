//! Flags of a webhook as the fields that the API takes: one place judges both.

use std::path::Path;

use allswell_core::secret::Secret;
use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value, json};

use crate::cli::{EditChannel, WebhookFlags};
use crate::system;

const INPUT_BYTES_MAX: u64 = 262_144;
const SECRET_FILE_BYTES_MAX: u64 = 4_096;

/// The first line of a file that others cannot read.
pub(super) fn first_line(path: &Path) -> Result<Secret<String>> {
    let text = system::read_secret_file(path, SECRET_FILE_BYTES_MAX)?;
    Ok(Secret::new(text.lines().next().unwrap_or_default().to_owned()))
}

/// Which calls a channel has already.
#[derive(Copy, Clone, Default)]
pub(super) struct Has {
    pub(super) down: bool,
    pub(super) up: bool,
}

/// The fields of a webhook that flags name. A flag for both calls is for those that the channel has or is given here.
pub(super) fn fields(flags: &WebhookFlags, has: Has) -> Result<Map<String, Value>> {
    let mut fields = match &flags.from {
        None => Map::new(),
        Some(path) => from_file(path)?,
    };
    let given = |name: &str, url: &Option<String>, fields: &Map<String, Value>| {
        url.is_some() || fields.get(name).is_some_and(Value::is_object)
    };
    let down = has.down || given("down", &flags.down_url, &fields);
    let up = has.up || given("up", &flags.up_url, &fields);
    for (name, shared, url, method, headers, body) in [
        (
            "down",
            down,
            &flags.down_url,
            &flags.down_method,
            &flags.down_header,
            &flags.down_body,
        ),
        (
            "up",
            up,
            &flags.up_url,
            &flags.up_method,
            &flags.up_header,
            &flags.up_body,
        ),
    ] {
        let one_or_both = |one: &Option<String>, both: &Option<String>| {
            one.clone().or_else(|| both.clone().filter(|_| shared))
        };
        let mut call = Map::new();
        let texts = [
            ("url", url.clone()),
            ("method", one_or_both(method, &flags.method)),
            ("body", one_or_both(body, &flags.body)),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                call.insert(key.to_owned(), text.into());
            }
        }
        let both: &[String] = if shared { &flags.header } else { &[] };
        for (flag, lines) in [("--header", both), ("--down-header or --up-header", headers)] {
            for line in lines {
                let (key, value) = header(flag, line)?;
                let headers = call.entry("headers").or_insert_with(|| json!({}));
                headers[key] = value.into();
            }
        }
        if !call.is_empty() {
            overlay(fields.entry(name).or_insert_with(|| json!({})), call);
        }
    }
    let mut signing = Map::new();
    let texts = [
        ("form", flags.sign.clone()),
        ("key_id", flags.key_id.clone()),
        ("header_prefix", flags.header_prefix.clone()),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            signing.insert(key.to_owned(), text.into());
        }
    }
    if let Some(path) = &flags.signing_secret_file {
        signing.insert("secret".to_owned(), first_line(path)?.reveal().as_str().into());
    }
    if !signing.is_empty() {
        overlay(fields.entry("signing").or_insert_with(|| json!({})), signing);
    }
    Ok(fields)
}

/// A merge patch out of the flags of an edit.
pub(super) fn patch(flags: &EditChannel, has: Has) -> Result<Map<String, Value>> {
    let mut fields = fields(&flags.webhook, has)?;
    if let Some(name) = &flags.name {
        fields.insert("name".to_owned(), name.as_str().into());
    }
    if flags.enable {
        fields.insert("enabled".to_owned(), true.into());
    }
    for (gone, has, name) in [(flags.no_down, has.down, "down"), (flags.no_up, has.up, "up")] {
        if gone {
            fields.insert(name.to_owned(), Value::Null);
        } else if has && let Some(headers) = removed(&flags.remove_header) {
            let call = fields.entry(name).or_insert_with(|| json!({}));
            let mut with = Map::new();
            with.insert("headers".to_owned(), headers);
            overlay(call, with);
        }
    }
    Ok(fields)
}

fn removed(names: &[String]) -> Option<Value> {
    let nulls: Map<String, Value> = names.iter().map(|name| (name.clone(), Value::Null)).collect();
    (!nulls.is_empty()).then_some(Value::Object(nulls))
}

/// Puts members over those of an object, headers one by one.
fn overlay(into: &mut Value, members: Map<String, Value>) {
    let Value::Object(into) = into else {
        *into = Value::Object(members);
        return;
    };
    for (key, value) in members {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => old.extend(new),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

fn header<'l>(flag: &str, line: &'l str) -> Result<(&'l str, &'l str)> {
    let (name, value) = line
        .split_once(':')
        .ok_or_else(|| anyhow!("{flag}: write it as 'Name: value'"))?;
    Ok((name.trim(), value.trim()))
}

fn from_file(path: &Path) -> Result<Map<String, Value>> {
    let text = if path == Path::new("-") {
        system::read_stdin(INPUT_BYTES_MAX)?
    } else {
        system::read_small_file(path, INPUT_BYTES_MAX)?
    };
    match serde_json::from_str(&text).context("--from: this is not JSON")? {
        Value::Object(fields) => Ok(fields),
        _ => bail!("--from: this is not a JSON object"),
    }
}
