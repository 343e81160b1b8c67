//! `allswell schedule`

use std::io::BufRead;

use allswell_core::schedule::{Mark, Occurrence, Schedule, Zones};
use allswell_core::time::Timestamp;
use allswell_engine::loops::now;
use anyhow::{Result, anyhow};
use serde_json::{Value, json};

use super::Answer;
use crate::system;

/// `allswell schedule next`
pub fn next(
    expr: &str,
    tz: &str,
    after: Option<&str>,
    count: usize,
    zones: &Zones,
    answer: Answer,
) -> Result<()> {
    let after = match after {
        Some(text) => instant(text)?,
        None => now(),
    };
    let schedule = Schedule::parse_with(expr, tz, zones).map_err(|error| anyhow!("{error}"))?;
    let occurrences: Vec<Occurrence> = schedule.occurrences(after).take(count).collect();
    let mut lines = format!("{}\n", schedule.describe());
    for occurrence in &occurrences {
        lines.push_str(&format!(
            "{}  {}{}\n",
            occurrence.at,
            occurrence.local,
            mark_for_people(occurrence)
        ));
    }
    if occurrences.len() < count {
        lines.push_str("and never again\n");
    }
    let next: Vec<String> = occurrences
        .iter()
        .map(|occurrence| occurrence.at.to_string())
        .collect();
    let detail = occurrences.iter().map(|occurrence| {
        let mark = match occurrence.mark {
            Mark::None => Value::Null,
            Mark::Gap => json!("gap"),
            Mark::Repeat => json!("repeat"),
        };
        json!({ "at": occurrence.at.to_string(), "local": occurrence.local, "mark": mark, "planned": occurrence.planned })
    });
    let detail: Vec<Value> = detail.collect();
    answer.give(
        &json!({ "words": schedule.describe(), "next": next, "occurrences": detail }),
        &lines,
    )
}

/// What the clock on the wall does at an occurrence, where it does something odd.
fn mark_for_people(occurrence: &Occurrence) -> String {
    match (occurrence.mark, &occurrence.planned) {
        (Mark::None, _) => String::new(),
        (Mark::Gap, Some(planned)) => format!("  (instead of {planned}, which the clock skips)"),
        (Mark::Gap, None) => "  (the clock skips the planned time)".to_owned(),
        (Mark::Repeat, _) => "  (the clock shows this time twice that day)".to_owned(),
    }
}

/// `allswell schedule next --stdin`: a line of JSON for each line, whatever it holds.
pub fn next_of_lines(count: usize, zones: &Zones) -> Result<()> {
    for line in std::io::stdin().lock().lines() {
        let answer =
            next_of_line(&line?, count, zones).unwrap_or_else(|error| json!({ "error": error.to_string() }));
        system::print(&format!("{answer}\n"))?;
    }
    Ok(())
}

fn next_of_line(line: &str, count: usize, zones: &Zones) -> Result<Value> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [expr, tz, after] = fields.as_slice() else {
        return Err(anyhow!("a line is EXPRESSION<TAB>ZONE<TAB>AFTER"));
    };
    let after = instant(after)?;
    let schedule =
        Schedule::parse_with(&expr.replace("\\n", "\n"), tz, zones).map_err(|error| anyhow!("{error}"))?;
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
