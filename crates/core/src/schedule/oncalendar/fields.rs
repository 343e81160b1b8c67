//! The fields of an OnCalendar line: years, months, days from either end, weekdays, times.
//!
//! Where a field has a quirk, it is the package's: two-digit years, steps after a range of one value, commas
//! after the last weekday.

use super::super::error::ScheduleError;
use super::super::field::{Field, Steps, Word, digits};
use super::super::grid::Times;

/// The years that exist, and the end of every search.
const YEAR_FIRST: u32 = 1970;
pub(super) const YEAR_LAST: u32 = 2199;
/// How many words of 64 bits hold one bit for each year.
const YEAR_WORDS: usize = ((YEAR_LAST - YEAR_FIRST) / 64 + 1) as usize;

/// The greatest day that may be counted from the end on its own; February is sure to have so many.
const FROM_END_MAX: u32 = 28;

const DAYS_SHORT: [&str; 7] = ["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"];
const DAYS_LONG: [&str; 7] = [
    "MONDAY",
    "TUESDAY",
    "WEDNESDAY",
    "THURSDAY",
    "FRIDAY",
    "SATURDAY",
    "SUNDAY",
];

const YEAR: Field = Field {
    name: "year",
    first: YEAR_FIRST,
    last: YEAR_LAST,
    names: &[],
};
pub(super) const MONTH: Field = Field {
    name: "month",
    first: 1,
    last: 12,
    names: &[],
};
pub(super) const DAY: Field = Field {
    name: "day of the month",
    first: 1,
    last: 31,
    names: &[],
};
const HOUR: Field = Field {
    name: "hour",
    first: 0,
    last: 23,
    names: &[],
};
const MINUTE: Field = Field {
    name: "minute",
    first: 0,
    last: 59,
    names: &[],
};
const SECOND: Field = Field {
    name: "second",
    first: 0,
    last: 59,
    names: &[],
};

/// A set of years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Years([u64; YEAR_WORDS]);

impl Years {
    pub const ALL: Years = Years([u64::MAX; YEAR_WORDS]);

    fn insert(&mut self, year: u32) {
        let index = year - YEAR_FIRST;
        self.0[index as usize / 64] |= 1 << (index % 64);
    }

    pub fn contains(&self, year: u32) -> bool {
        let Some(index) = year.checked_sub(YEAR_FIRST) else {
            return false;
        };
        self.0
            .get(index as usize / 64)
            .is_some_and(|word| word & 1 << (index % 64) != 0)
    }

    pub fn is_all(&self) -> bool {
        *self == Years::ALL
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> {
        (YEAR_FIRST..=YEAR_LAST).filter(|year| self.contains(*year))
    }
}

/// Reads `hour:minute` and `hour:minute:second`.
pub(super) fn read_times(word: Word<'_>) -> Result<Times, ScheduleError> {
    let parts: Vec<Word<'_>> = word.split(':').collect();
    let (hour, minute, second) = match parts.as_slice() {
        [hour, minute] => (*hour, *minute, None),
        [hour, minute, second] => (*hour, *minute, Some(*second)),
        _ => {
            return Err(word.refuse(format!(
                "{} has too many parts; a time is hour:minute or hour:minute:second",
                word.quoted()
            )));
        }
    };
    Ok(Times {
        hours: set(&HOUR, hour)? as u32,
        minutes: set(&MINUTE, minute)?,
        seconds: second.map_or(Ok(1), |second| set(&SECOND, second))?,
    })
}

/// The values of a field that stays below 64.
pub(super) fn set(field: &Field, word: Word<'_>) -> Result<u64, ScheduleError> {
    if word.text == "*" {
        return Ok(field.all().bits());
    }
    word.split(',')
        .try_fold(0, |bits, term| Ok(bits | steps(field, term)?.bits()))
}

pub(super) fn read_years(word: Word<'_>) -> Result<Years, ScheduleError> {
    if word.text == "*" {
        return Ok(Years::ALL);
    }
    let mut years = Years([0; YEAR_WORDS]);
    for term in word.split(',') {
        for year in steps(&YEAR, term)?.values() {
            years.insert(year);
        }
    }
    Ok(years)
}

/// One term of a list: a value or a range, perhaps with a step.
fn steps(field: &Field, term: Word<'_>) -> Result<Steps, ScheduleError> {
    refuse_star(term)?;
    let Some((base, step)) = term.split_once("/") else {
        return range(field, term);
    };
    let step = field.step(step)?;
    Ok(field.every(range(field, base)?, step))
}

fn range(field: &Field, term: Word<'_>) -> Result<Steps, ScheduleError> {
    let value = |word| {
        if field.name == YEAR.name {
            full_year(word)
        } else {
            field.value(word)
        }
    };
    if let Some((start, end)) = term.split_once("..") {
        return field.ends(start, end, value);
    }
    let value = value(term)?;
    Ok(Steps {
        first: value,
        last: value,
        step: 1,
    })
}

fn refuse_star(term: Word<'_>) -> Result<(), ScheduleError> {
    let Some(star) = term.text.find('*') else {
        return Ok(());
    };
    let at = term.at + star;
    Err(Word { text: "*", at }.refuse("\"*\" stands alone here; write steps as 0/5 and lists without it"))
}

/// A year, of which two digits mean 1970 to 2069.
fn full_year(word: Word<'_>) -> Result<u32, ScheduleError> {
    match digits(word.text) {
        Some(year @ 0..70) => Ok(2000 + year),
        Some(year @ 70..100) => Ok(1900 + year),
        _ => YEAR.value(word),
    }
}

/// Days counted from the end of the month. Ranges and steps run towards the end of the month, so that `7/2` is
/// the 7th, 5th, 3rd and last day from the end, and `5..28/3` begins at the 28th from the end.
pub(super) fn read_from_end(word: Word<'_>) -> Result<u32, ScheduleError> {
    let mut days = 0;
    for term in word.split(',') {
        refuse_star(term)?;
        let (base, step) = match term.split_once("/") {
            Some((base, step)) => (base, Some(DAY.step(step)?)),
            None => (term, None),
        };
        let ends = range(&DAY, base)?;
        if !base.text.contains("..") && ends.last > FROM_END_MAX {
            return Err(base.refuse(format!(
                "from the end of the month, the day goes from 1 to {FROM_END_MAX}"
            )));
        }
        let nearest = if step.is_some() && ends.first == ends.last {
            1
        } else {
            ends.first
        };
        let days_counted = (nearest..=ends.last).rev().step_by(step.unwrap_or(1) as usize);
        days = days_counted.fold(days, |days, day| days | 1 << day);
    }
    Ok(days)
}

/// Reads weekdays; `words` is how many words the line has, for the sentence.
pub(super) fn read_weekdays(word: Word<'_>, words: usize) -> Result<u32, ScheduleError> {
    // systemd writes "Mon, 10:00" as well, and a comma at the end is harmless.
    let list = Word {
        text: word.text.trim_end_matches(','),
        at: word.at,
    };
    let mut weekdays = 0;
    for term in list.split(',') {
        let ends = term.split_once("..").or_else(|| term.split_once("-"));
        let (start, end) = match ends {
            Some((start, end)) => (weekday(start, word, words)?, weekday(end, word, words)?),
            None => {
                let day = weekday(term, word, words)?;
                (day, day)
            }
        };
        if end < start {
            return Err(term.refuse(format!(
                "{} runs over the end of the week, which begins on Monday; write two ranges, as Fri..Sun,Mon",
                term.quoted()
            )));
        }
        weekdays = (start..=end).fold(weekdays, |days, day| days | 1 << day);
    }
    Ok(weekdays)
}

fn weekday(term: Word<'_>, word: Word<'_>, words: usize) -> Result<u32, ScheduleError> {
    let names = DAYS_SHORT.iter().zip(DAYS_LONG);
    if let Some(day) = names
        .into_iter()
        .position(|(short, long)| term.is(short) || term.is(long))
    {
        return Ok(day as u32);
    }
    let sentence = match word.text {
        "@reboot" => "@reboot is not a time; a check needs to know when to expect its ping".to_owned(),
        text if text.starts_with('@') => {
            "names with @ are not known; write daily, hourly and so on without it, or five words of cron"
                .to_owned()
        }
        text if text.contains('/') && text.starts_with(|first: char| first.is_ascii_uppercase()) => {
            format!(
                "{} is not a time zone; the name is spelt exactly as in Europe/Riga",
                word.quoted()
            )
        }
        _ if words == 1 => format!(
            "{} is neither five words of cron nor an OnCalendar expression such as Mon..Fri 09:30 or daily",
            word.quoted()
        ),
        _ => format!(
            "{} is not a weekday; those are Mon, Tue, Wed, Thu, Fri, Sat, Sun",
            term.quoted()
        ),
    };
    Err(term.refuse(sentence))
}
