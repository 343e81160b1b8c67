//! `allswell schedule`

use std::io::BufRead;

use allswell_core::schedule::Schedule;
use allswell_core::time::Timestamp;
use allswell_engine::loops::now;
use anyhow::{Result, anyhow};
use serde_json::{Value, json};

use super::Answer;
use crate::system;

/// `allswell schedule next`
pub fn next(expr: &str, tz: &str, after: Option<&str>, count: usize, answer: Answer) -> Result<()> {
    let after = match after {
        Some(text) => instant(text)?,
        None => now(),
    };
    let schedule = Schedule::parse(expr, tz).map_err(|error| anyhow!("{error}"))?;
    let instants = following(&schedule, after, count);
    let mut lines = format!("{}\n", schedule.describe());
    for instant in &instants {
        lines.push_str(&format!("{instant}\n"));
    }
    if instants.len() < count {
        lines.push_str("and never again\n");
    }
    let shown: Vec<String> = instants.iter().map(Timestamp::to_string).collect();
    answer.give(&json!({ "words": schedule.describe(), "next": shown }), &lines)
}

/// `allswell schedule next --stdin`: a line of JSON for each line, whatever it holds.
pub fn next_of_lines(count: usize) -> Result<()> {
    for line in std::io::stdin().lock().lines() {
        let answer =
            next_of_line(&line?, count).unwrap_or_else(|error| json!({ "error": error.to_string() }));
        system::print(&format!("{answer}\n"))?;
    }
    Ok(())
}

fn next_of_line(line: &str, count: usize) -> Result<Value> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [expr, tz, after] = fields.as_slice() else {
        return Err(anyhow!("a line is EXPRESSION<TAB>ZONE<TAB>AFTER"));
    };
    let after = instant(after)?;
    let schedule = Schedule::parse(&expr.replace("\\n", "\n"), tz).map_err(|error| anyhow!("{error}"))?;
    let shown: Vec<String> = following(&schedule, after, count)
        .iter()
        .map(Timestamp::to_string)
        .collect();
    Ok(json!({ "next": shown }))
}

fn instant(text: &str) -> Result<Timestamp> {
    Timestamp::parse_rfc3339(text)
        .ok_or_else(|| anyhow!("--after: {text:?} is not an instant like 2026-01-31T12:00:00Z"))
}

fn following(schedule: &Schedule, after: Timestamp, count: usize) -> Vec<Timestamp> {
    std::iter::successors(schedule.next_after(after), |at| schedule.next_after(*at))
        .take(count)
        .collect()
}
