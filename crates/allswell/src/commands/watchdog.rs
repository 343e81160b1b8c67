//! `allswell watchdog`: whether the server lives, by the rounds that it makes of its own check.

use allswell_core::scope::SystemScope;
use allswell_core::time::{Span, Timestamp};
use allswell_engine::loops::now;
use allswell_store::watchdog::Round;
use anyhow::{Result, bail};
use serde_json::json;

use super::Answer;
use crate::config::Config;
use crate::house;

/// A round a minute: with this, two have failed.
const AGE_MAX: Span = Span::from_secs(180);

/// Says when each node made its last round, and fails if none did lately.
pub async fn run(config: &Config, answer: Answer) -> Result<()> {
    let store = house::open_to_look(config).await?;
    let rounds = store
        .read(async |reader| reader.watchdog_rounds(SystemScope::operator()).await)
        .await?;
    let now = now();
    let lives = rounds.iter().any(|round| is_fresh(round, now));
    let shown: Vec<_> = rounds
        .iter()
        .map(|round| {
            json!({
                "node": round.node.to_string(),
                "pinged_at": round.pinged.to_string(),
                "swept_at": round.swept.map(|at| at.to_string()),
                "lives": is_fresh(round, now),
            })
        })
        .collect();
    let told = config.watchdog.url.is_some();
    let lines: String = rounds.iter().map(|round| line(round, now)).collect();
    let note = if told {
        ""
    } else {
        "watchdog.url is not set: nobody else is told\n"
    };
    answer.give(
        &json!({ "lives": lives, "tells": told, "nodes": shown }),
        &format!("{lines}{note}"),
    )?;
    if !lives {
        bail!(
            "no server has stored and swept a ping of its own within {} s",
            AGE_MAX.as_secs()
        );
    }
    Ok(())
}

fn is_fresh(round: &Round, now: Timestamp) -> bool {
    round.swept.is_some_and(|swept| now - swept <= AGE_MAX)
}

fn line(round: &Round, now: Timestamp) -> String {
    let word = if is_fresh(round, now) {
        "lives"
    } else {
        "is silent"
    };
    let ago = |at: Timestamp| format!("{} s ago", (now - at).as_secs().max(0));
    let swept = round.swept.map_or_else(|| "never".to_owned(), ago);
    format!(
        "node {} {word}: its last ping was stored {}, the last one swept came {swept}\n",
        round.node,
        ago(round.pinged)
    )
}
