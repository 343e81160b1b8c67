//! From an instant to the next one: a grid of wall times meets the clock of a zone.
//!
//! The rules for the two hours a year that go wrong are two answers, `Policy`. The table of the module
//! documentation is these three constants:
//!
//! | | in the skipped hour | in the repeated hour |
//! |---|---|---|
//! | `FIXED`, cron at fixed times | once, at the first instant after the gap | first pass only |
//! | `WILDCARD`, cron with `*` in minute or hour | nothing | both passes |
//! | `CALENDAR`, OnCalendar | nothing | first pass only |
//!
//! Invariant: what is found is later than what was asked for, always. A search takes one step of the grid per
//! gap or repeated hour that it meets, and meets at most a few a year.

use jiff::Timestamp;
use jiff::civil::{DateTime, datetime};
use jiff::{SignedDuration, ToSpan};

use super::clock::{Clock, Reading};
use super::grid::Grid;

/// What happens in the hour that is skipped and in the one that is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    /// A time in the skipped hour runs right after it.
    gap_runs: bool,
    /// A time in the repeated hour runs in the second pass also.
    second_pass_runs: bool,
}

pub(super) const FIXED: Policy = Policy {
    gap_runs: true,
    second_pass_runs: false,
};
pub(super) const WILDCARD: Policy = Policy {
    gap_runs: false,
    second_pass_runs: true,
};
pub(super) const CALENDAR: Policy = Policy {
    gap_runs: false,
    second_pass_runs: false,
};

/// Why an occurrence is not an ordinary one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Nothing odd: the clock shows this time once.
    None,
    /// The time named was skipped by the clock; this is the first instant after the gap.
    Gap,
    /// The clock shows this time twice.
    Repeat,
}

/// An occurrence found: when, and the wall time that was asked for (which differs in a gap).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub at: Timestamp,
    pub planned: DateTime,
    pub mark: Mark,
}

/// The wall times that are searched; far from the ends of jiff's calendar, so that no step leaves it.
const EARLIEST: DateTime = datetime(1, 1, 1, 0, 0, 0, 0);
const LATEST: DateTime = datetime(9900, 1, 1, 0, 0, 0, 0);

/// The wall time of the first second after `after`. `None` beyond the year 9900.
fn start(clock: &Clock, after: Timestamp) -> Option<DateTime> {
    let wall = clock.shows(after).max(EARLIEST);
    if wall > LATEST {
        return None;
    }
    Some(wall.saturating_add(1.second()))
}

/// The last year in which to look, `years` after the one in which the search begins.
pub(super) fn year_after(clock: &Clock, after: Timestamp, years: i16) -> i16 {
    start(clock, after).map_or(0, |wall| wall.year().saturating_add(years).min(9998))
}

/// The first occurrence that is later than `after`, a whole second, within `last_year`.
pub(super) fn next(
    grid: &impl Grid,
    clock: &Clock,
    policy: Policy,
    after: Timestamp,
    last_year: i16,
) -> Option<Found> {
    let mut from = start(clock, after)?;

    if policy.second_pass_runs
        && let Some(Reading::Twice { first, turn, .. }) = clock.reading(clock.shows(after))
        && after == first
    {
        // In the first of two passes: what is left of it comes first, then the same hour again.
        if let Some(planned) = grid.first_from(from, last_year)
            && planned < turn.from
        {
            let ahead = planned
                .duration_since(from)
                .saturating_add(SignedDuration::from_secs(1));
            return Some(Found {
                at: after.checked_add(ahead).ok()?,
                planned,
                mark: Mark::Repeat,
            });
        }
        from = turn.to;
    }

    loop {
        let planned = grid.first_from(from, last_year)?;
        match clock.reading(planned)? {
            Reading::Once(at) if at > after => {
                return Some(Found {
                    at,
                    planned,
                    mark: Mark::None,
                });
            }
            Reading::Once(_) => from = planned,
            Reading::Twice { first, .. } if first > after => {
                return Some(Found {
                    at: first,
                    planned,
                    mark: Mark::Repeat,
                });
            }
            Reading::Twice { second, .. } if policy.second_pass_runs && second > after => {
                return Some(Found {
                    at: second,
                    planned,
                    mark: Mark::Repeat,
                });
            }
            Reading::Twice { turn, .. } => from = turn.from,
            Reading::Never { turn } if policy.gap_runs && turn.at > after => {
                return Some(Found {
                    at: turn.at,
                    planned,
                    mark: Mark::Gap,
                });
            }
            Reading::Never { turn } => from = turn.to,
        }
        // Each turn ends after the wall time that met it. Whatever a zone's rules say, the search moves on.
        from = from.max(planned.saturating_add(1.second()));
    }
}
