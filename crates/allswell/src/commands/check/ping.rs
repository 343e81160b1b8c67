//! `allswell check ping`: one ping, with its body.

use std::io::{IsTerminal, Write};

use allswell_core::exchange::escaped;
use allswell_store::pings::Ping;
use anyhow::{Result, anyhow};
use serde_json::{Value, json};

use super::not_here;
use crate::cli::OneCheck;
use crate::commands::{Answer, printable, scope_of};
use crate::config::Config;
use crate::house;

/// `allswell check ping`. A file or a pipe gets the body as it came, and people what does nothing to their terminal.
pub async fn ping(config: &Config, answer: Answer, one: OneCheck, n: u64) -> Result<()> {
    let house = house::open(config).await?;
    let (project, id) = (one.project, one.check);
    let (ping, body) = house
        .store
        .read(async move |reader| {
            let scope = scope_of(reader, project).await?;
            if reader.check(scope, id).await?.is_none() {
                return Err(not_here(id, project));
            }
            let before = i64::try_from(n).unwrap_or(i64::MAX).saturating_add(1);
            let mut newest = reader.pings_page(scope, id, before, 1).await?;
            let ping = newest.pop().filter(|ping| ping.n == n).ok_or_else(|| {
                anyhow!("ping {n} is not in the log of check {id}; `allswell check show` lists the newest there are")
            })?;
            let body = reader.ping_body(scope, id, n).await?;
            Ok::<_, anyhow::Error>((ping, body))
        })
        .await?;
    let mut value = document(&ping);
    value["body"] = json!(body.as_deref().map(String::from_utf8_lossy));
    let (is_json, on_terminal) = (answer.is_json(), std::io::stdout().is_terminal());
    match body {
        Some(body) if !is_json && !on_terminal => {
            eprintln!("{}", line(&ping));
            let mut out = std::io::stdout().lock();
            out.write_all(&body)?;
            Ok(out.flush()?)
        }
        Some(body) => answer.give(
            &value,
            &format!("{}\n\n{}\n", line(&ping), escaped(&body).trim_end_matches('\n')),
        ),
        None => {
            let why = if ping.body_bytes > 0 {
                "its body is no longer kept"
            } else {
                "it had no body"
            };
            answer.give(&value, &format!("{}\n{why}\n", line(&ping)))
        }
    }
}

/// A ping as `check show` and `check ping` answer it in JSON.
pub fn document(ping: &Ping) -> Value {
    json!({
        "n": ping.n, "at": ping.at.to_string(), "kind": ping.kind.word(), "exit_status": ping.exit_status,
        "method": ping.method, "from": ping.remote_addr, "user_agent": ping.user_agent,
        "run": ping.rid.map(|rid| rid.to_string()), "body_bytes": ping.body_bytes,
    })
}

/// A ping in one line.
pub fn line(ping: &Ping) -> String {
    let status = ping
        .exit_status
        .map_or_else(String::new, |status| format!(", exit status {status}"));
    let body = match ping.body_bytes {
        0 => String::new(),
        1 => ", 1 byte".to_owned(),
        bytes => format!(", {bytes} bytes"),
    };
    format!(
        "{}  {:4}  {:8} {} from {}{status}{body}",
        ping.at.floor_secs(),
        ping.n,
        ping.kind.word(),
        printable(&ping.method),
        printable(ping.remote_addr.as_deref().unwrap_or("?")),
    )
}
