//! Lengths of time as people type them.

use allswell_core::limits::{PERIOD_SECS_MAX, PERIOD_SECS_MIN};
use allswell_core::time::Span;

const UNITS: [(char, i64); 5] = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400), ('w', 604_800)];

/// A period or a grace, in seconds.
pub fn secs(text: &str) -> Result<i64, String> {
    secs_within(text, PERIOD_SECS_MIN, PERIOD_SECS_MAX)
        .ok_or_else(|| format!("expected {}", expected(PERIOD_SECS_MIN, PERIOD_SECS_MAX)))
}

/// What is allowed between these bounds, in words.
pub fn expected(least_secs: i64, most_secs: i64) -> String {
    let [least, most] = [least_secs, most_secs].map(Span::from_secs);
    format!("{least} to {most}, in seconds or with a unit, like 90, 90s, 5m, 1h, 1h30m or 1d")
}

/// Seconds between these bounds; `None` for anything else.
pub fn secs_within(text: &str, least_secs: i64, most_secs: i64) -> Option<i64> {
    secs_of(text).filter(|secs| (least_secs..=most_secs).contains(secs))
}

/// A number of seconds, or numbers with their units in a row.
fn secs_of(text: &str) -> Option<i64> {
    if let Ok(secs) = text.parse() {
        return Some(secs);
    }
    let (mut total, mut number) = (0_i64, String::new());
    for c in text.chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let (_, secs) = UNITS.into_iter().find(|(unit, _)| *unit == c)?;
        let count: i64 = number.parse().ok()?;
        total = total.checked_add(count.checked_mul(secs)?)?;
        number.clear();
    }
    (number.is_empty() && !text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_seconds_or_numbers_with_units() {
        for (text, read) in [
            ("90", Some(90)),
            ("90s", Some(90)),
            ("5m", Some(300)),
            ("1h", Some(3_600)),
            ("1h30m", Some(5_400)),
            ("1d", Some(86_400)),
            ("2w", Some(1_209_600)),
            ("60", Some(60)),
            ("365d", Some(31_536_000)),
            ("59", None),
            ("366d", None),
            ("", None),
            ("h", None),
            ("1h30", None),
            ("1.5h", None),
            ("-5m", None),
            ("1 h", None),
            ("99999999999999999999d", None),
            ("9999999999999999d", None),
        ] {
            assert_eq!(secs(text).ok(), read, "{text}");
        }
        let refused = secs("30").expect_err("too short");
        assert!(
            refused.starts_with("expected 1 min to 365 d, in seconds or with a unit"),
            "{refused}"
        );
    }
}
