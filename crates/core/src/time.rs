//! Instants and lengths of time, both in microseconds.
//!
//! One integer type for the program and for both databases: comparison is exact, nothing depends on a zone, and the
//! clock belongs to the caller.

use std::fmt;
use std::ops::{Add, Sub};

/// An instant: microseconds since 1970-01-01 00:00 UTC.
#[derive(Copy, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A length of time in microseconds; may be negative.
#[derive(Copy, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(i64);

const MICROS: i64 = 1_000_000;

impl Timestamp {
    /// The instant this many microseconds after 1970 (UTC).
    pub const fn from_micros(micros: i64) -> Self {
        Timestamp(micros)
    }

    /// The instant this many seconds after 1970 (UTC); saturates.
    pub const fn from_secs(secs: i64) -> Self {
        Timestamp(secs.saturating_mul(MICROS))
    }

    /// Microseconds since 1970 (UTC).
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970 (UTC), rounded down.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(MICROS)
    }

    /// The same instant without its fraction of a second.
    pub const fn floor_secs(self) -> Self {
        Timestamp(self.as_secs() * MICROS)
    }

    /// Reads RFC 3339 (`2026-01-31T12:00:00Z`, any offset). `None` if it is not one.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let instant: jiff::Timestamp = text.parse().ok()?;
        Some(Timestamp(instant.as_microsecond()))
    }

    fn to_jiff(self) -> jiff::Timestamp {
        // Out of jiff's range (years -9999 to 9999) only by a broken clock: show the nearest instant it can say.
        jiff::Timestamp::from_microsecond(self.0).unwrap_or(if self.0 < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        })
    }

    /// RFC 3339 in UTC with whole seconds and `+00:00`, the form of the compatible API.
    pub fn to_rfc3339_secs(self) -> String {
        self.to_jiff().strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string()
    }

    /// RFC 3339 in UTC with microseconds and `+00:00`.
    pub fn to_rfc3339_micros(self) -> String {
        self.to_jiff().strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string()
    }
}

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);

    /// A length of this many microseconds.
    pub const fn from_micros(micros: i64) -> Self {
        Span(micros)
    }

    /// A length of this many milliseconds; saturates.
    pub const fn from_millis(millis: i64) -> Self {
        Span(millis.saturating_mul(1_000))
    }

    /// A length of this many seconds; saturates.
    pub const fn from_secs(secs: i64) -> Self {
        Span(secs.saturating_mul(MICROS))
    }

    /// A length of this many days of 86,400 seconds; saturates.
    pub const fn from_days(days: i64) -> Self {
        Span::from_secs(days.saturating_mul(86_400))
    }

    /// The length in microseconds.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Whole seconds, rounded towards zero.
    pub const fn as_secs(self) -> i64 {
        self.0 / MICROS
    }
}

impl Add<Span> for Timestamp {
    type Output = Timestamp;
    fn add(self, span: Span) -> Timestamp {
        Timestamp(self.0.saturating_add(span.0))
    }
}

impl Sub<Span> for Timestamp {
    type Output = Timestamp;
    fn sub(self, span: Span) -> Timestamp {
        Timestamp(self.0.saturating_sub(span.0))
    }
}

impl Sub for Timestamp {
    type Output = Span;
    fn sub(self, earlier: Timestamp) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC, with a fraction only where there is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to_jiff())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Span {
    /// The largest two units that are not zero: `1 d 2 h`, `5 min`, `0 s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.as_secs();
        let sign = if secs < 0 { "-" } else { "" };
        let secs = secs.unsigned_abs();
        let parts = [
            (secs / 86_400, "d"),
            (secs / 3_600 % 24, "h"),
            (secs / 60 % 60, "min"),
            (secs % 60, "s"),
        ];
        let shown: Vec<String> = parts
            .iter()
            .filter(|(n, _)| *n > 0)
            .take(2)
            .map(|(n, unit)| format!("{n} {unit}"))
            .collect();
        if shown.is_empty() {
            write!(f, "0 s")
        } else {
            write!(f, "{sign}{}", shown.join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_shown_in_both_forms() {
        let at = Timestamp::from_micros(1_769_860_800_123_456);
        assert_eq!(at.to_rfc3339_secs(), "2026-01-31T12:00:00+00:00");
        assert_eq!(at.to_rfc3339_micros(), "2026-01-31T12:00:00.123456+00:00");
        assert_eq!(
            Timestamp::parse_rfc3339("2026-01-31T13:00:00.123456+01:00"),
            Some(at)
        );
        assert_eq!(Timestamp::parse_rfc3339("yesterday"), None);
    }

    #[test]
    fn a_broken_clock_can_still_be_printed() {
        for micros in [i64::MIN, i64::MAX] {
            assert!(!Timestamp::from_micros(micros).to_string().is_empty());
        }
        assert_eq!(
            Timestamp::from_micros(i64::MAX) + Span::from_secs(5),
            Timestamp::from_micros(i64::MAX)
        );
    }

    #[test]
    fn spans_are_shown_in_their_two_largest_units() {
        for (secs, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3_661, "1 h 1 min"),
            (93_600, "1 d 2 h"),
            (-90, "-1 min 30 s"),
        ] {
            assert_eq!(Span::from_secs(secs).to_string(), text);
        }
    }
}
