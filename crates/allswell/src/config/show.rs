//! `config show`: the effective value of each setting and where it came from.
//!
//! The text is itself a configuration file (of the same meaning, but for the secrets), so that it can be
//! compared and kept. Values are rendered when they are loaded, secrets as `***`; no secret reaches this far.

use std::fmt::Write as _;

use serde_json::{Map, json};

use super::KeyRingSource;
use super::load::Loaded;
use super::settings::SETTINGS;
use super::source::Source;
use super::value::Value;

const MASK: &str = "***";

/// A value fit to be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    Text(String),
    Number(u64),
    Truth(bool),
    List(Vec<String>),
    Numbers(Vec<u16>),
    /// A secret that was left to a file of its own, by that file's path.
    InFile(String),
}

/// Renders a value without its secrets.
pub fn shown(value: &Value) -> Shown {
    let text = |text: Option<String>| Shown::Text(text.unwrap_or_default());
    match value {
        Value::Address(address) => text(Some(address.to_string())),
        Value::AddressOrOff(address) => text(address.map(|address| address.to_string())),
        Value::SiteUrl(url) => text(url.as_ref().map(|url| url.to_string())),
        Value::Path(path) => text(Some(path.display().to_string())),
        Value::PathOrNone(path) => text(path.as_ref().map(|path| path.display().to_string())),
        Value::Networks(networks) => {
            Shown::List(networks.iter().map(|network| network.to_string()).collect())
        }
        Value::Hosts(hosts) => Shown::List(hosts.iter().map(|host| host.to_string()).collect()),
        Value::Ports(ports) => Shown::Numbers(ports.clone()),
        Value::Addresses(addresses) => {
            Shown::List(addresses.iter().map(|address| address.to_string()).collect())
        }
        Value::Nat64(prefixes) => Shown::List(
            prefixes
                .iter()
                .map(|prefix| prefix.network().to_string())
                .collect(),
        ),
        Value::Nameservers(servers) => Shown::List(servers.iter().map(|server| server.to_string()).collect()),
        Value::Audience(audience) => text(Some(audience.word().to_owned())),
        Value::ProxyUrl(url) => text(url.as_ref().map(|_| MASK.to_owned())),
        Value::Database(url) => text(url.as_ref().map(|url| url.masked())),
        Value::KeyRing(Some(KeyRingSource::File { path, .. })) => Shown::InFile(path.display().to_string()),
        Value::KeyRing(ring) => text(ring.as_ref().map(|_| MASK.to_owned())),
        Value::SecretText(secret) => text(secret.as_ref().map(|_| MASK.to_owned())),
        Value::Label(label) => text(Some(label.clone())),
        Value::Word(word) => text(Some((*word).to_owned())),
        Value::RateOrNone(rate) => text(rate.map(|rate| rate.to_string())),
        Value::Waits(schedule) => text(Some(schedule.to_string())),
        Value::Switch(truth) => Shown::Truth(*truth),
        Value::SwitchOrNone(None) => text(None),
        Value::SwitchOrNone(Some(truth)) => Shown::Truth(*truth),
        Value::Number(number) => Shown::Number(*number),
    }
}

/// The effective settings as text, or as one JSON object with `value` and `from` for each name.
pub fn config_show(loaded: &Loaded, as_json: bool) -> String {
    let rows = rows(loaded);
    if as_json {
        show_json(&rows)
    } else {
        show_text(&rows)
    }
}

struct Row {
    /// `section.key`
    name: String,
    value: Shown,
    source: String,
}

/// A row for each setting. The key ring has two, as it is shown where it is: `ring` or `ring_file`.
fn rows(loaded: &Loaded) -> Vec<Row> {
    let mut rows = Vec::new();
    for setting in SETTINGS {
        let source = loaded
            .sources
            .get(setting.name)
            .unwrap_or(&Source::Default)
            .to_string();
        match (&loaded.shown[setting.name], setting.file_name()) {
            (Shown::InFile(path), Some(file_name)) => {
                let unset = Shown::Text(String::new());
                rows.push(Row {
                    name: setting.name.to_owned(),
                    value: unset,
                    source: "default".to_owned(),
                });
                rows.push(Row {
                    name: file_name,
                    value: Shown::Text(path.clone()),
                    source,
                });
            }
            (value, _) => rows.push(Row {
                name: setting.name.to_owned(),
                value: value.clone(),
                source,
            }),
        }
    }
    rows
}

fn show_json(rows: &[Row]) -> String {
    let entries = rows.iter().map(|row| {
        let value = match &row.value {
            Shown::Text(text) | Shown::InFile(text) => json!(text),
            Shown::Number(number) => json!(number),
            Shown::Truth(truth) => json!(truth),
            Shown::List(items) => json!(items),
            Shown::Numbers(numbers) => json!(numbers),
        };
        (row.name.clone(), json!({ "value": value, "from": row.source }))
    });
    let mut text = format!("{:#}", serde_json::Value::Object(entries.collect::<Map<_, _>>()));
    text.push('\n');
    text
}

fn show_text(rows: &[Row]) -> String {
    let lines: Vec<(&str, String, &str)> = rows
        .iter()
        .map(|row| {
            let (section, key) = row.name.rsplit_once('.').unwrap_or(("", &row.name));
            (
                section,
                format!("{key} = {}", toml_value(&row.value)),
                row.source.as_str(),
            )
        })
        .collect();
    let width = lines
        .iter()
        .map(|(_, assignment, _)| assignment.chars().count())
        .max()
        .unwrap_or_default();
    let mut text = String::new();
    let mut section_now = "";
    for (section, assignment, source) in &lines {
        if *section != section_now {
            let _ = write!(text, "\n[{section}]\n");
            section_now = section;
        }
        let _ = writeln!(text, "{assignment:width$}  # {source}");
    }
    text
}

fn toml_value(value: &Shown) -> String {
    match value {
        Shown::Text(text) | Shown::InFile(text) => toml_text(text),
        Shown::Number(number) => number.to_string(),
        Shown::Truth(truth) => truth.to_string(),
        Shown::Numbers(numbers) => {
            let numbers: Vec<String> = numbers.iter().map(u16::to_string).collect();
            format!("[{}]", numbers.join(", "))
        }
        Shown::List(items) => {
            format!(
                "[{}]",
                items
                    .iter()
                    .map(|item| toml_text(item))
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        }
    }
}

fn toml_text(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(letter));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}
