//! OnCalendar expressions, as systemd writes them and PyPI's oncalendar (and Healthchecks) reads them.
//!
//! A line is `[weekdays] [[year-]month-day] [hour:minute[:second]] [zone]`, or a shorthand such as `daily`.
//! Fields are lists of values, ranges (`9..17`) and steps (`0/15`); `*` stands alone. `~` instead of the last
//! hyphen counts days from the end of the month. Two-digit years are 1970 to 2069. A zone at the end of a line
//! beats the check's zone. Several lines mean whichever comes first.
//!
//! Years end at 2199, where systemd and the package end too: an expression may have no next time.
//! Where systemd and the package differ, the package is followed; the table in `schedule` lists the cases.

mod fields;

use jiff::Timestamp;
use jiff::civil::datetime;

use super::clock::Clock;
use super::error::ScheduleError;
use super::field::{Word, digits};
use super::grid::{Grid, Month, Times};
use super::search::{self, CALENDAR, Found};
use super::zone;
use fields::{DAY, MONTH, YEAR_LAST, Years, read_from_end, read_times, read_weekdays, read_years, set};

const SHORTHANDS: [(&str, &str); 9] = [
    ("minutely", "*-*-* *:*:00"),
    ("hourly", "*-*-* *:00:00"),
    ("daily", "*-*-* 00:00:00"),
    ("weekly", "Mon *-*-* 00:00:00"),
    ("monthly", "*-*-01 00:00:00"),
    ("quarterly", "*-01,04,07,10-01 00:00:00"),
    ("semiannually", "*-01,07-01 00:00:00"),
    ("annually", "*-01-01 00:00:00"),
    ("yearly", "*-01-01 00:00:00"),
];

/// OnCalendar expressions, one a line; whichever comes first.
#[derive(Clone, Debug, PartialEq)]
pub struct Calendar {
    pub(super) lines: Vec<Line>,
}

/// One expression, on the clock of its own zone or of the check's.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub clock: Clock,
    /// The zone stood in the line itself.
    pub own_zone: bool,
    pub days: Days,
    pub times: Times,
}

/// The days that a line names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Days {
    pub years: Years,
    /// Bit 1 is January.
    pub months: u32,
    /// Bit 1 is the first day.
    pub of_month: u32,
    /// Bit 1 is the last day.
    pub from_end: u32,
    /// Bit 0 is Monday.
    pub weekdays: u32,
}

impl Calendar {
    /// Reads `expression` line by line.
    pub(super) fn parse(
        expression: Word<'_>,
        clock: &Clock,
        zones: &zone::Zones,
    ) -> Result<Calendar, ScheduleError> {
        let lines = expression.split('\n').map(|line| Line::parse(line, clock, zones));
        Ok(Calendar {
            lines: lines.collect::<Result<_, _>>()?,
        })
    }

    /// The same times, with `clock` where a line has no zone of its own.
    pub(super) fn on(&self, clock: &Clock) -> Calendar {
        let mut calendar = self.clone();
        for line in calendar.lines.iter_mut().filter(|line| !line.own_zone) {
            line.clock = clock.clone();
        }
        calendar
    }

    /// The first of what the lines have next, and the line.
    pub(super) fn next(&self, after: Timestamp) -> Option<(Found, &Line)> {
        self.lines
            .iter()
            .filter_map(|line| Some((line.next(after)?, line)))
            .min_by_key(|(found, _)| found.at)
    }
}

impl Line {
    fn parse(text: Word<'_>, clock: &Clock, zones: &zone::Zones) -> Result<Line, ScheduleError> {
        let mut words = text.words();
        let own = match words.as_slice() {
            [.., last] if words.len() > 1 => zones.find(last.text),
            _ => None,
        };
        if own.is_some() {
            words.pop();
        }
        let own_zone = own.is_some();
        let clock = own.unwrap_or_else(|| clock.clone());

        match words.as_slice() {
            [] => {
                Err(text
                    .refuse("there is nothing here; write five words of cron or an OnCalendar expression"))
            }
            [word] if let Some(long) = shorthand(*word) => {
                let words = Word {
                    text: long,
                    at: word.at,
                }
                .words();
                Line::of_words(&words, clock, own_zone)
            }
            words => Line::of_words(words, clock, own_zone),
        }
    }

    /// Reads the words from the right: time, date, weekdays. Each may be missing.
    fn of_words(words: &[Word<'_>], clock: Clock, own_zone: bool) -> Result<Line, ScheduleError> {
        let mut rest = words;
        let mut times = Times {
            hours: 1,
            minutes: 1,
            seconds: 1,
        };
        if let [head @ .., last] = rest
            && last.text.contains(':')
        {
            times = read_times(*last)?;
            rest = head;
        }

        let mut days = Days {
            years: Years::ALL,
            months: 0x1ffe,
            of_month: u32::MAX - 1,
            from_end: 0,
            weekdays: 0x7f,
        };
        if let [head @ .., last] = rest
            && last
                .text
                .starts_with(|letter: char| letter.is_ascii_digit() || letter == '*')
            && last.text.contains(['-', '~'])
        {
            days.read_date(*last)?;
            rest = head;
        }

        match rest {
            [] => {}
            [word] => days.weekdays = read_weekdays(*word, words.len())?,
            rest => return Err(refuse_stray(words, rest)),
        }
        Ok(Line {
            clock,
            own_zone,
            days,
            times,
        })
    }

    fn next(&self, after: Timestamp) -> Option<Found> {
        // Nothing matches before 1970, so there is no need to walk there.
        let zero = self
            .clock
            .offset(Timestamp::UNIX_EPOCH)
            .to_timestamp(datetime(1969, 12, 31, 23, 59, 59, 0));
        let after = zero.map_or(after, |zero| after.max(zero));
        search::next(self, &self.clock, CALENDAR, after, YEAR_LAST as i16)
    }
}

impl Grid for Line {
    fn days(&self, month: Month) -> u32 {
        let days = &self.days;
        if !days.years.contains(month.year as u32) || days.months & 1 << month.month == 0 {
            return 0;
        }
        (days.of_month & month.all() | month.counted_back(days.from_end)) & month.on(days.weekdays)
    }

    fn times(&self) -> &Times {
        &self.times
    }
}

impl Days {
    /// Reads `year-month-day`, `month-day` and both with `~` before the day.
    fn read_date(&mut self, word: Word<'_>) -> Result<(), ScheduleError> {
        let (front, day, from_end) = match word.split_once("~") {
            Some((front, day)) => (front, day, true),
            None => {
                let hyphen = word.text.rfind('-').unwrap_or(0);
                let (front, day) = (&word.text[..hyphen], &word.text[hyphen + 1..]);
                (
                    Word {
                        text: front,
                        at: word.at,
                    },
                    Word {
                        text: day,
                        at: word.at + hyphen + 1,
                    },
                    false,
                )
            }
        };
        let (year, month) = match front.split_once("-") {
            Some((year, month)) => (Some(year), month),
            None => (None, front),
        };
        if let Some(stray) = month.text.find('-') {
            let at = month.at + stray;
            return Err(Word { text: "-", at }.refuse(format!(
                "{} has too many parts; a date is year-month-day or month-day, ~ takes the place of the last hyphen, \
                 and ranges are written with ..",
                word.quoted()
            )));
        }

        if let Some(year) = year {
            self.years = read_years(year)?;
        }
        self.months = set(&MONTH, month)? as u32;
        if from_end && day.text != "*" {
            (self.of_month, self.from_end) = (0, read_from_end(day)?);
        } else {
            (self.of_month, self.from_end) = (set(&DAY, day)? as u32, 0);
        }
        Ok(())
    }
}

fn shorthand(word: Word<'_>) -> Option<&'static str> {
    let (_, long) = SHORTHANDS.iter().find(|(name, _)| word.is(name))?;
    Some(long)
}

/// A line with words too many, of which the weekday is the first of `rest`.
fn refuse_stray(words: &[Word<'_>], rest: &[Word<'_>]) -> ScheduleError {
    let like_cron =
        words.iter().any(|word| word.text == "*") || words.iter().all(|word| digits(word.text).is_some());
    if like_cron {
        return words[0].refuse(format!(
            "cron has five words on one line (minute hour day month weekday); there are {}",
            words.len()
        ));
    }
    rest[rest.len() - 1].refuse(
        "this word has no place; an OnCalendar line is weekdays, date, time and zone, as Mon 2030-*-01 09:30 UTC, \
         and the zone is spelt exactly as in Europe/Riga",
    )
}
