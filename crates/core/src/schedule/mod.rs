//! When next? Schedules of checks: a period, a cron expression or OnCalendar expressions in a zone.
//!
//! Pure: the instant to search from is an argument, the rules of zones are bundled or passed in. No call takes
//! unbounded time: a search walks months, not minutes, and ends after fifty years (cron) or in 2199 (OnCalendar).
//!
//! Reading order: `cron` and `oncalendar` turn text into a `grid` of wall times, `clock` is the local clock of
//! a zone, `search` brings them together and holds the table of what happens when clocks change. `words` says
//! it all in English.
//!
//! # Where others answer differently
//!
//! `tests/schedules/differential.py` compares us with PyPI's cronsim and oncalendar, which Healthchecks uses,
//! and with systemd, over random expressions, zones and starts. It knows the kinds of difference below, checks
//! differing times against a slow oracle, and fails at anything else. `tests/differences.rs` has each kind on
//! purpose.
//!
//! | With | Kind | Theirs | Ours |
//! |---|---|---|---|
//! | both packages | start in the second pass of a repeated hour, fixed time or OnCalendar | may give a time that is over | always later than the start |
//! | cronsim | `*` in minute or hour, at changes of half an hour or at midnight | goes by the hour and from midnight: loses times that exist, or gives times that do not match | every minute whose local time matches |
//! | cronsim | the same beside the 00:01 changes of St John's, 2006 to 2011 | does not return | as above |
//! | oncalendar | several lines, one in another zone, in a repeated hour | compares them by the wall, out of order | in order |
//! | cronsim | names outside ASCII whose capitals are ASCII (`ſun`) | taken | refused |
//! | oncalendar | a tab alone before a zone | refused | white space like any other |
//! | oncalendar | a last word that is a folder of the tz database (`10:00 Europe`) | an error of the file system | refused |
//! | oncalendar | `10:00 Factory` | a zone of its own | refused |
//! | systemd | hours of a clock change | may take the second pass, or both | skipped hour waits, first pass only (as oncalendar) |
//! | systemd | a day without midnight (Beirut, Gaza) | may give up, "deadlock avoided" | goes on |
//! | systemd | range of one value with a step, `9..9/7` | 9 | 9, 16, 23 (as oncalendar) |
//! | systemd | steps through days from the end, `~5..28/3` | from the 5th | from the 28th (as oncalendar) |
//! | systemd | a step in the hours across the end of a month, `1/5:00` | loses the first time of the month | keeps it (as oncalendar) |
//! | systemd | a step that leaves its field (`1/20` for months), `~29..31`, `~2,23,3`, some steps after `~`, `Mon,,`, `5..5` seconds | refused | taken (as oncalendar) |
//! | systemd | parts of a second, `utc`, `@0` | taken | refused (as oncalendar) |
//! | systemd | nothing from the year 2000 on | taken, "never" | refused (as Healthchecks) |

mod clock;
mod cron;
mod error;
mod field;
mod grid;
mod oncalendar;
mod period;
mod search;
#[cfg(test)]
mod tests;
mod words;
mod zone;
mod zone_alias;

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

use crate::time::{Span, Timestamp};
use clock::Clock;
use field::{Word, is_space};
use search::Found;

pub use cron::Cron;
pub use error::{ScheduleError, ScheduleField};
pub use oncalendar::Calendar;
pub use search::Mark;
pub use zone::{LoadedZones, Zones, canonical_zone};

// It also bounds the lines of an OnCalendar expression to 25 that can be valid.
pub use crate::limits::EXPRESSION_CHARS_MAX;

/// 2000-01-01 00:00 UTC, in seconds since 1970. What never comes after it is refused.
const CENTURY_SECS: i64 = 946_684_800;

const MICROS: i64 = 1_000_000;

/// When a check's next ping is due.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// So long after the last ping.
    Period(Span),
    /// A cron expression.
    Cron(Cron),
    /// OnCalendar expressions.
    Calendar(Calendar),
}

/// One time of a schedule, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// The instant.
    pub at: Timestamp,
    /// What the clock on the wall did there.
    pub mark: Mark,
    /// What the clock on the wall shows then, with its distance from UTC: "Sun 2024-03-31 04:00 +03:00".
    pub local: String,
    /// The time that was skipped, if the mark is `Gap`: "Sun 2024-03-31 03:30".
    pub planned: Option<String>,
}

impl Schedule {
    /// Reads an expression in the zone of a check. One line of exactly five words is cron, anything else
    /// OnCalendar. What has no time to come after the year 2000 began is refused.
    pub fn parse(expression: &str, zone: &str) -> Result<Schedule, ScheduleError> {
        Schedule::parse_with(expression, zone, &Zones::Bundled)
    }

    /// As `parse`, with the rules of `zones`.
    pub fn parse_with(expression: &str, zone: &str, zones: &Zones) -> Result<Schedule, ScheduleError> {
        let Some(clock) = zones.find(zone) else {
            let sentence = "this is not a time zone; the name is spelt exactly as in Europe/Riga, or UTC";
            return Err(ScheduleError::new(ScheduleField::Tz, 0, sentence));
        };
        let refuse =
            |position, sentence: &str| Err(ScheduleError::new(ScheduleField::Schedule, position, sentence));
        if expression.chars().nth(EXPRESSION_CHARS_MAX).is_some() {
            return refuse(
                EXPRESSION_CHARS_MAX,
                &format!("the expression is too long; {EXPRESSION_CHARS_MAX} characters is the most"),
            );
        }

        let schedule = read(expression, clock, zones)
            .map_err(|error| error.place(|at| expression[..at].chars().count()))?;
        if schedule
            .on_utc()
            .next_after(Timestamp::from_micros(CENTURY_SECS * MICROS))
            .is_none()
        {
            return refuse(
                0,
                "this never comes; no time from the year 2000 on matches all of it",
            );
        }
        Ok(schedule)
    }

    /// The next time that is later than `after`. `None`: never again.
    ///
    /// Times of cron and OnCalendar are whole seconds, up to the year 9900.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Schedule::Period(period) => period::next_after(*period, after),
            Schedule::Cron(cron) => Some(timestamp(cron.next(whole_second(after)?)?.at)),
            Schedule::Calendar(calendar) => Some(timestamp(calendar.next(whole_second(after)?)?.0.at)),
        }
    }

    /// What it means, in words, without the zone of the check: "at 02:30 on weekdays".
    pub fn describe(&self) -> String {
        match self {
            Schedule::Period(period) => period::words(*period),
            Schedule::Cron(cron) => words::cron(cron),
            Schedule::Calendar(calendar) => words::calendar(calendar),
        }
    }

    /// The times after `after`, with what clock changes do to them. Without end for most schedules.
    pub fn occurrences(&self, after: Timestamp) -> impl Iterator<Item = Occurrence> {
        let mut after = Some(after);
        std::iter::from_fn(move || {
            let occurrence = self.occurrence_after(after?);
            after = occurrence.as_ref().map(|occurrence| occurrence.at);
            occurrence
        })
    }

    fn occurrence_after(&self, after: Timestamp) -> Option<Occurrence> {
        match self {
            Schedule::Period(period) => {
                let at = period::next_after(*period, after)?;
                let local = shown(Offset::UTC.to_datetime(whole_second(at)?), Some(Offset::UTC));
                Some(Occurrence {
                    at,
                    mark: Mark::None,
                    local,
                    planned: None,
                })
            }
            Schedule::Cron(cron) => Some(occurrence(cron.next(whole_second(after)?)?, &cron.clock)),
            Schedule::Calendar(calendar) => {
                let (found, line) = calendar.next(whole_second(after)?)?;
                Some(occurrence(found, &line.clock))
            }
        }
    }

    /// The same schedule for a check in UTC.
    fn on_utc(&self) -> Schedule {
        let utc = Clock::new("UTC".to_owned(), TimeZone::UTC);
        match self {
            Schedule::Period(period) => Schedule::Period(*period),
            Schedule::Cron(cron) => Schedule::Cron(cron.on(utc)),
            Schedule::Calendar(calendar) => Schedule::Calendar(calendar.on(&utc)),
        }
    }
}

/// Errors of this carry their position in bytes.
fn read(expression: &str, clock: Clock, zones: &Zones) -> Result<Schedule, ScheduleError> {
    let text = expression.trim_matches(is_space);
    let at = expression.len() - expression.trim_start_matches(is_space).len();
    let whole = Word {
        text,
        at: if text.is_empty() { 0 } else { at },
    };
    if !text.contains('\n')
        && let Ok(words) = <&[Word<'_>; 5]>::try_from(whole.words().as_slice())
    {
        return Ok(Schedule::Cron(Cron::parse(words, clock)?));
    }
    Ok(Schedule::Calendar(Calendar::parse(whole, &clock, zones)?))
}

fn occurrence(found: Found, clock: &Clock) -> Occurrence {
    Occurrence {
        at: timestamp(found.at),
        mark: found.mark,
        local: shown(clock.shows(found.at), Some(clock.offset(found.at))),
        planned: (found.mark == Mark::Gap).then(|| shown(found.planned, None)),
    }
}

/// "Sun 2024-03-31 04:00 +03:00"; seconds only where they are not 0.
fn shown(wall: DateTime, offset: Option<Offset>) -> String {
    const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let weekday = WEEKDAYS[wall.weekday().to_monday_zero_offset() as usize];
    let mut text = format!(
        "{weekday} {} {:02}:{:02}",
        wall.date(),
        wall.hour(),
        wall.minute()
    );
    if wall.second() != 0 {
        text.push_str(&format!(":{:02}", wall.second()));
    }
    if let Some(offset) = offset {
        let minutes = offset.seconds().abs() / 60;
        let sign = if offset.is_negative() { '-' } else { '+' };
        text.push_str(&format!(" {sign}{:02}:{:02}", minutes / 60, minutes % 60));
    }
    text
}

/// The second in which `at` lies. What is earlier than jiff's calendar begins with it; what is later has no
/// second, and nothing comes after it.
fn whole_second(at: Timestamp) -> Option<jiff::Timestamp> {
    let second = at
        .as_micros()
        .div_euclid(MICROS)
        .max(jiff::Timestamp::MIN.as_second());
    jiff::Timestamp::from_second(second).ok()
}

fn timestamp(at: jiff::Timestamp) -> Timestamp {
    Timestamp::from_micros(at.as_second() * MICROS)
}
