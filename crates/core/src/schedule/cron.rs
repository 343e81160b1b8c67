//! Cron expressions of five fields, as Debian's cron reads them (and PyPI's cronsim and Healthchecks after it).
//!
//! Lists, ranges, steps, names of months and weekdays in any case; 0 and 7 are Sunday; `L` is the last day of
//! the month and `LW` its last workday; `5#2` is the second Friday and `5L` the last one. Not known: `@daily`,
//! `?`, `W` with a day, seconds, `H`, ranges that run backwards, steps of 0.
//!
//! Two things depend on the text and not on its meaning, both on a leading `*` (so `*/2` and `*,10` count):
//! day of month and day of week must both match if either begins with one, else one of them suffices; and a
//! job is at fixed times if neither its minute nor its hour begins with one (see `search` for what follows).
//!
//! A step after a single value means "from there to the end", and `9-9/7` counts as a single value.

use jiff::Timestamp;

use super::clock::Clock;
use super::error::ScheduleError;
use super::field::{Field, Steps, Word, digits};
use super::grid::{Grid, Month, Times};
use super::search::{self, FIXED, Found, WILDCARD};

/// How far ahead a next time is looked for, in calendar years. The longest true wait is forty years, for a
/// 29 February on a given weekday across the year 2100.
const YEARS_AHEAD: i16 = 50;

const MONTHS: [&str; 12] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

const MINUTE: Field = Field {
    name: "minute",
    first: 0,
    last: 59,
    names: &[],
};
const HOUR: Field = Field {
    name: "hour",
    first: 0,
    last: 23,
    names: &[],
};
const DAY: Field = Field {
    name: "day of the month",
    first: 1,
    last: 31,
    names: &[],
};
const MONTH: Field = Field {
    name: "month",
    first: 1,
    last: 12,
    names: &MONTHS,
};
const WEEKDAY: Field = Field {
    name: "day of the week",
    first: 0,
    last: 7,
    names: &WEEKDAYS,
};

/// A cron expression in a zone.
#[derive(Clone, Debug, PartialEq)]
pub struct Cron {
    pub(super) clock: Clock,
    pub(super) times: Times,
    pub(super) days: Days,
    /// Neither minute nor hour begins with `*`.
    pub(super) fixed: bool,
}

/// The days that a cron expression names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Days {
    /// Bit 1 is January.
    pub months: u32,
    /// Bit 1 is the first day.
    pub of_month: u32,
    pub last_day: bool,
    pub last_workday: bool,
    /// Bit 0 is Monday; so in the fields below.
    pub weekdays: u32,
    /// The first to fifth of a weekday in the month.
    pub nth_weekdays: [u32; 5],
    pub last_weekdays: u32,
    /// Day of month and weekday must both match.
    pub both: bool,
}

impl Cron {
    /// Reads `words`, which must be five.
    pub(super) fn parse(words: &[Word<'_>; 5], clock: Clock) -> Result<Cron, ScheduleError> {
        let [minute, hour, day, month, weekday] = *words;
        let times = Times {
            minutes: set(&MINUTE, minute)?,
            hours: set(&HOUR, hour)? as u32,
            seconds: 1,
        };
        let mut days = Days {
            months: 0,
            of_month: 0,
            last_day: false,
            last_workday: false,
            weekdays: 0,
            nth_weekdays: [0; 5],
            last_weekdays: 0,
            both: day.text.starts_with('*') || weekday.text.starts_with('*'),
        };
        days.read_days_of_month(day)?;
        days.months = set(&MONTH, month)? as u32;
        days.read_weekdays(weekday)?;

        let fixed = !minute.text.starts_with('*') && !hour.text.starts_with('*');
        Ok(Cron {
            clock,
            times,
            days,
            fixed,
        })
    }

    /// The same times on another clock.
    pub(super) fn on(&self, clock: Clock) -> Cron {
        Cron {
            clock,
            ..self.clone()
        }
    }

    pub(super) fn next(&self, after: Timestamp) -> Option<Found> {
        let policy = if self.fixed { FIXED } else { WILDCARD };
        let last_year = search::year_after(&self.clock, after, YEARS_AHEAD);
        search::next(self, &self.clock, policy, after, last_year)
    }
}

impl Grid for Cron {
    fn days(&self, month: Month) -> u32 {
        self.days.of(month)
    }

    fn times(&self) -> &Times {
        &self.times
    }
}

impl Days {
    fn of(&self, month: Month) -> u32 {
        if self.months & 1 << month.month == 0 {
            return 0;
        }
        let mut by_date = self.of_month & month.all();
        if self.last_day {
            by_date |= 1 << month.length;
        }
        if self.last_workday {
            by_date |= month.last_workday();
        }

        let mut by_weekday = month.on(self.weekdays);
        for weekday in 0..7 {
            for (n, weekdays) in (1..).zip(self.nth_weekdays) {
                if weekdays & 1 << weekday != 0 {
                    by_weekday |= month.nth(weekday, n);
                }
            }
            if self.last_weekdays & 1 << weekday != 0 {
                by_weekday |= month.last(weekday);
            }
        }

        if self.both {
            by_date & by_weekday
        } else {
            by_date | by_weekday
        }
    }

    fn read_days_of_month(&mut self, word: Word<'_>) -> Result<(), ScheduleError> {
        for term in word.split(',') {
            // A step after L or LW is read and changes nothing, as there is only one such day.
            let name = match term.split_once("/") {
                Some((name, step)) if name.is("L") || name.is("LW") => {
                    DAY.step(step)?;
                    name
                }
                _ => term,
            };
            if name.is("L") {
                self.last_day = true;
            } else if name.is("LW") {
                self.last_workday = true;
            } else {
                self.of_month |= steps(&DAY, term)?.bits() as u32;
            }
        }
        Ok(())
    }

    fn read_weekdays(&mut self, word: Word<'_>) -> Result<(), ScheduleError> {
        for term in word.split(',') {
            if let Some(day) = term.text.strip_suffix(['L', 'l']) {
                let day = Word {
                    text: day,
                    at: term.at,
                };
                if digits(day.text).is_none() {
                    return Err(term.refuse(format!(
                        "{} is not a last weekday; write its number before the L, as 5L for the last Friday",
                        term.quoted()
                    )));
                }
                self.last_weekdays |= 1 << monday_first(WEEKDAY.value(day)?);
            } else if let Some((day, n)) = term.split_once("#") {
                let Some(index @ 1..=5) = digits(n.text) else {
                    return Err(n.refuse("after # comes 1 to 5, as 5#2 for the second Friday"));
                };
                self.nth_weekdays[index as usize - 1] |= 1 << monday_first(WEEKDAY.value(day)?);
            } else {
                for day in steps(&WEEKDAY, term)?.values() {
                    self.weekdays |= 1 << monday_first(day);
                }
            }
        }
        Ok(())
    }
}

/// Cron counts weekdays from Sunday, as 0 and as 7; we count from Monday, as 0.
fn monday_first(weekday: u32) -> u32 {
    (weekday + 6) % 7
}

/// The values of a whole field.
fn set(field: &Field, word: Word<'_>) -> Result<u64, ScheduleError> {
    word.split(',')
        .try_fold(0, |bits, term| Ok(bits | steps(field, term)?.bits()))
}

/// One term of a list: `*`, a value or a range, perhaps with a step.
fn steps(field: &Field, term: Word<'_>) -> Result<Steps, ScheduleError> {
    let Some((base, step)) = term.split_once("/") else {
        return range(field, term);
    };
    let step = field.step(step)?;
    Ok(field.every(range(field, base)?, step))
}

fn range(field: &Field, term: Word<'_>) -> Result<Steps, ScheduleError> {
    if term.text == "*" {
        return Ok(field.all());
    }
    if let Some((start, end)) = term.split_once("-") {
        return field.ends(start, end, |word| field.value(word));
    }
    refuse_foreign(field, term)?;
    let value = field.value(term)?;
    Ok(Steps {
        first: value,
        last: value,
        step: 1,
    })
}

/// Notations of other crons deserve better than "is not a number".
fn refuse_foreign(field: &Field, term: Word<'_>) -> Result<(), ScheduleError> {
    if term.text.starts_with('?') {
        return Err(term.refuse("\"?\" is not known to cron; write * for any day"));
    }
    if term.text.starts_with(['H', 'h']) && field.names.is_empty() {
        return Err(term.refuse(format!(
            "\"H\" is Jenkins' notation for a spread; write the {} itself, {}",
            field.name,
            field.range()
        )));
    }
    let nearest_workday = term
        .text
        .strip_suffix(['W', 'w'])
        .is_some_and(|day| digits(day).is_some());
    if nearest_workday && field.name == DAY.name {
        return Err(
            term.refuse("the workday nearest to a date is not known; LW is the last workday of the month")
        );
    }
    Ok(())
}
