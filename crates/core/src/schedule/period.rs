//! The simple schedule: a ping is expected a fixed time after the last one. No zone, no clock changes.

use crate::time::{Span, Timestamp};

const UNITS: [(&str, i64); 4] = [("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)];
const MICROS: i64 = 1_000_000;

/// `after` and the period. `None` if that is beyond what a timestamp holds, or if the period is not above zero,
/// which would not be later.
pub(super) fn next_after(period: Span, after: Timestamp) -> Option<Timestamp> {
    if period.as_micros() <= 0 {
        return None;
    }
    after
        .as_micros()
        .checked_add(period.as_micros())
        .map(Timestamp::from_micros)
}

/// "every hour", "every 1 day, 2 hours and 5 minutes". Parts of a second are left out.
pub(super) fn words(period: Span) -> String {
    let mut rest = period.as_micros() / MICROS;
    let mut parts = Vec::new();
    for (unit, secs) in UNITS {
        let count = rest / secs;
        rest %= secs;
        if count != 0 {
            parts.push((count, unit));
        }
    }
    let named = |(count, unit): &(i64, &str)| format!("{count} {unit}{}", if *count == 1 { "" } else { "s" });
    match parts.as_slice() {
        [] => "at once".to_owned(),
        [(1, unit)] => format!("every {unit}"),
        [only] => format!("every {}", named(only)),
        [head @ .., last] => {
            let head: Vec<String> = head.iter().map(named).collect();
            format!("every {} and {}", head.join(", "), named(last))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_added_to_the_last_ping() {
        let after = Timestamp::from_micros(1_700_000_000_123_456);
        assert_eq!(
            next_after(Span::from_secs(60), after),
            Some(Timestamp::from_micros(1_700_000_060_123_456))
        );
    }

    #[test]
    fn a_period_that_cannot_be_later_has_no_next_time() {
        let after = Timestamp::from_micros(0);
        assert_eq!(next_after(Span::from_secs(0), after), None);
        assert_eq!(next_after(Span::from_secs(-60), after), None);
        assert_eq!(
            next_after(Span::from_secs(60), Timestamp::from_micros(i64::MAX)),
            None
        );
    }

    #[test]
    fn a_period_reads_as_a_person_would_say_it() {
        for (secs, expected) in [
            (60, "every minute"),
            (300, "every 5 minutes"),
            (3_600, "every hour"),
            (86_400, "every day"),
            (5_400, "every 1 hour and 30 minutes"),
            (93_900, "every 1 day, 2 hours and 5 minutes"),
            (604_800, "every 7 days"),
            (61, "every 1 minute and 1 second"),
            (0, "at once"),
        ] {
            assert_eq!(words(Span::from_secs(secs)), expected);
        }
    }
}
