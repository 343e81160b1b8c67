//! When a channel that fails is talked about, and when it is switched off (`delivery.md` section 6). Never in silence.

use crate::absence::{Absence, awake_for};
use crate::time::{Span, Timestamp};

/// Deliveries that must have been given up before a channel is switched off for failing.
const GIVEN_UP_MIN: u64 = 10;
const OFF_AFTER: Span = Span::from_secs(120 * 3_600);
/// How long it must have failed for the first and the second warning.
const WARN_AFTER: [Span; 2] = [Span::from_secs(24 * 3_600), Span::from_secs(72 * 3_600)];

/// What a channel's failures come to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It is said that it fails, for the how manieth time.
    Warn(u64),
    /// It is switched off.
    Disable,
}

/// Judges a channel at which everything failed since `failing_since`; `given_up` deliveries were, and `warnings` times
/// that was said. Our `absences` since then (oldest first) do not count: nothing was sent to it meanwhile.
pub fn judge(
    failing_since: Timestamp,
    given_up: u64,
    warnings: u64,
    absences: &[Absence],
    now: Timestamp,
) -> Option<Trouble> {
    let failing = awake_for(failing_since, now, absences);
    if failing >= OFF_AFTER && given_up >= GIVEN_UP_MIN {
        return Some(Trouble::Disable);
    }
    let due = WARN_AFTER.iter().filter(|after| failing >= **after).count() as u64;
    (due > warnings).then_some(Trouble::Warn(due))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_channel_is_warned_about_twice_and_then_switched_off() {
        use Trouble::{Disable, Warn};
        let table = [
            (23, 99, 0, None),
            (24, 0, 0, Some(Warn(1))),
            (24, 0, 1, None),
            (71, 0, 1, None),
            (72, 0, 1, Some(Warn(2))),
            (80, 0, 0, Some(Warn(2))),
            (119, 99, 2, None),
            (120, 9, 2, None),
            (120, 10, 2, Some(Disable)),
            (120, 10, 0, Some(Disable)),
            (5_000, 9, 2, None),
        ];
        let since = Timestamp::from_secs(1_000);
        for (hours, given_up, warnings, trouble) in table {
            let now = since + Span::from_secs(hours * 3_600);
            assert_eq!(
                judge(since, given_up, warnings, &[], now),
                trouble,
                "{hours} h, {given_up}, {warnings}"
            );
        }
    }
    #[test]
    fn our_absence_is_not_their_failing() {
        use Trouble::{Disable, Warn};
        let at = |hours: i64| Timestamp::from_secs(hours * 3_600);
        let away = |from: i64, to: i64| Absence {
            from: at(from),
            to: at(to),
        };
        let table: [(i64, &[Absence], Option<Trouble>); 6] = [
            (121, &[], Some(Disable)),
            (121, &[away(0, 121)], None),
            (121, &[away(1, 98)], Some(Warn(1))),
            (121, &[away(1, 2)], Some(Disable)),
            (122, &[away(1, 4)], Some(Warn(2))),
            (240, &[away(-50, 10), away(20, 130)], Some(Disable)),
        ];
        for (now, absences, trouble) in table {
            assert_eq!(
                judge(at(0), 10, 0, absences, at(now)),
                trouble,
                "{now} {absences:?}"
            );
        }
    }
}
