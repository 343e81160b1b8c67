//! The local clock of a zone: what it shows at an instant, and when it shows a wall time.
//!
//! Instants are whole seconds here. A wall time is shown once, twice (the clock was put back over it) or
//! never (it was put forward over it); the three answers of `Clock::reading` are all that the search knows of
//! zones.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};

/// When the local clock shows a wall time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Once(Timestamp),
    Twice {
        first: Timestamp,
        second: Timestamp,
        turn: Turn,
    },
    /// Never; the clock was put forward at `turn`.
    Never {
        turn: Turn,
    },
}

/// A change of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub at: Timestamp,
    /// What the clock would show at `at` had it not been changed.
    pub from: DateTime,
    /// What it shows.
    pub to: DateTime,
}

/// A zone by its name and rules.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Clock {
    name: String,
    rules: TimeZone,
}

impl Clock {
    pub fn new(name: String, rules: TimeZone) -> Clock {
        Clock { name, rules }
    }

    /// The zone's current name, also where an expression used an old one.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the clock shows at `at`.
    pub fn shows(&self, at: Timestamp) -> DateTime {
        self.rules.to_datetime(at)
    }

    /// How far the clock is from UTC at `at`.
    pub fn offset(&self, at: Timestamp) -> Offset {
        self.rules.to_offset(at)
    }

    /// When the clock shows `wall`. `None` for the last hours of jiff's calendar, in the year 9999.
    pub fn reading(&self, wall: DateTime) -> Option<Reading> {
        match self.rules.to_ambiguous_timestamp(wall).offset() {
            AmbiguousOffset::Unambiguous { offset } => Some(Reading::Once(offset.to_timestamp(wall).ok()?)),
            AmbiguousOffset::Fold { before, after } => {
                let (first, second) = (before.to_timestamp(wall).ok()?, after.to_timestamp(wall).ok()?);
                Some(Reading::Twice {
                    first,
                    second,
                    turn: self.turn(first, second, before, after),
                })
            }
            AmbiguousOffset::Gap { before, after } => {
                let (early, late) = (after.to_timestamp(wall).ok()?, before.to_timestamp(wall).ok()?);
                Some(Reading::Never {
                    turn: self.turn(early, late, before, after),
                })
            }
        }
    }

    /// The change from `before` to `after` that comes later than `early` and not later than `late`.
    fn turn(&self, early: Timestamp, late: Timestamp, before: Offset, after: Offset) -> Turn {
        let at = self
            .rules
            .following(early)
            .map(|transition| (transition.timestamp(), transition.offset()))
            .take_while(|(at, _)| *at <= late)
            .find(|(_, offset)| *offset == after)
            .map_or(late, |(at, _)| at);
        Turn {
            at,
            from: before.to_datetime(at),
            to: after.to_datetime(at),
        }
    }
}
