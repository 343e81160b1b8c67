//! A schedule in words: "at 02:30 on weekdays", "every 5 minutes from 09:00 to 17:55".
//!
//! The words come from what an expression means, not from how it is spelt, so `0 0 * * 1` and `Mon 00:00` read
//! the same. They are for people: the expression stays the truth, and no program should read them.

use super::cron::{self, Cron};
use super::grid::Times;
use super::oncalendar::{self, Calendar, Line};

const WEEKDAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const NTH: [&str; 5] = ["first", "second", "third", "fourth", "fifth"];

const ALL_DAYS: u32 = u32::MAX - 1;
const ALL_MONTHS: u32 = 0x1ffe;
const ALL_WEEKDAYS: u32 = 0x7f;
const ALL_HOURS: u32 = (1 << 24) - 1;
const ALL_MINUTES: u64 = (1 << 60) - 1;

/// More times of day than this are told by rule instead of one by one.
const TIMES_LISTED_MAX: u32 = 6;

pub(super) fn cron(cron: &Cron) -> String {
    let days = &cron.days;
    let dates = cron_dates(days);
    let weekdays = cron_weekdays(days);
    let of = months(days.months).map_or("of the month".to_owned(), |months| format!("of {months}"));
    let within = months(days.months).map(|months| format!("in {months}"));

    let day = match (dates, weekdays) {
        (None, None) => within,
        // Either suffices and one is always so: every day.
        (None, Some(_)) | (Some(_), None) if !days.both => within,
        (Some(dates), None) => Some(format!("on {dates} {of}")),
        (None, Some(weekdays)) => Some(on_weekdays(&weekdays, &of, within)),
        (Some(dates), Some(weekdays)) if days.both => Some(format!("on {dates} {of}, only on {weekdays}")),
        (Some(dates), Some(weekdays)) => Some(format!("on {dates} {of} and also on {weekdays}")),
    };
    sentence([Some(times(&cron.times)), day])
}

pub(super) fn calendar(calendar: &Calendar) -> String {
    let lines: Vec<String> = calendar.lines.iter().map(line).collect();
    lines.join("; also ")
}

fn line(line: &Line) -> String {
    let days = &line.days;
    let dates = calendar_dates(days);
    let weekdays = weekdays(days.weekdays);
    let of = months(days.months).map_or("of the month".to_owned(), |months| format!("of {months}"));
    let within = months(days.months).map(|months| format!("in {months}"));

    let day = match (dates, weekdays) {
        (None, None) => within,
        (Some(dates), None) => Some(format!("on {dates} {of}")),
        (None, Some(weekdays)) => Some(on_weekdays(&weekdays, &of, within)),
        (Some(dates), Some(weekdays)) => Some(format!("on {dates} {of}, only on {weekdays}")),
    };
    let years = (!days.years.is_all())
        .then(|| format!("in {}", listed(&runs(days.years.iter()), |year| year.to_string())));
    let mut words = sentence([Some(times(&line.times)), day, years]);
    if line.own_zone {
        words.push_str(&format!(", {} time", line.clock.name()));
    }
    words
}

fn sentence<const N: usize>(parts: [Option<String>; N]) -> String {
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// "on Mondays in March", but "on the second Friday of March".
fn on_weekdays(weekdays: &str, of: &str, within: Option<String>) -> String {
    let counted = weekdays.ends_with("day") && weekdays.starts_with("the ");
    if counted {
        format!("on {weekdays} {of}")
    } else {
        sentence([Some(format!("on {weekdays}")), within])
    }
}

fn times(times: &Times) -> String {
    let count = times.hours.count_ones() * times.minutes.count_ones() * times.seconds.count_ones();
    if count <= TIMES_LISTED_MAX {
        return format!("at {}", joined(&clock_times(times)));
    }
    let minutes = minutes(times.hours, times.minutes);
    if times.seconds == 1 {
        return minutes;
    }
    let seconds = if times.seconds == ALL_MINUTES {
        "every second".to_owned()
    } else if let Some(step) = even_step(times.seconds, 60) {
        format!("every {step} seconds")
    } else {
        format!("at {}", counted("second", times.seconds))
    };
    let always = times.minutes == ALL_MINUTES && times.hours == ALL_HOURS;
    match (always, seconds.starts_with("every")) {
        (true, true) => seconds,
        (_, true) => format!("{seconds} of the minute, {minutes}"),
        (_, false) => format!("{minutes}, {seconds}"),
    }
}

fn minutes(hours: u32, minutes: u64) -> String {
    let hour_runs = runs(numbers(hours.into()));
    let all_hours = hours == ALL_HOURS;
    let pace = if minutes == ALL_MINUTES {
        Some("every minute".to_owned())
    } else {
        even_step(minutes, 60).map(|step| format!("every {step} minutes"))
    };
    if let Some(pace) = pace {
        return match hour_runs.as_slice() {
            _ if all_hours => pace,
            [(from, to)] => format!(
                "{pace} from {from:02}:00 to {to:02}:{:02}",
                63 - minutes.leading_zeros()
            ),
            _ => format!(
                "{pace} during the hours {}",
                listed(&hour_runs, |hour| hour.to_string())
            ),
        };
    }

    let single = minutes.count_ones() == 1;
    let minute = minutes.trailing_zeros();
    let at = if minutes == 1 {
        String::new()
    } else {
        format!(" at {}", counted("minute", minutes))
    };
    match hour_runs.as_slice() {
        _ if all_hours => format!("every hour{at}"),
        [(from, to)] if single => format!("every hour from {from:02}:{minute:02} to {to:02}:{minute:02}"),
        _ => match even_step(hours.into(), 24) {
            Some(step) => format!("every {step} hours{at}"),
            None => format!(
                "at {} of the hours {}",
                counted("minute", minutes),
                listed(&hour_runs, |hour| hour.to_string())
            ),
        },
    }
}

fn clock_times(times: &Times) -> Vec<String> {
    let mut listed = Vec::new();
    for hour in numbers(times.hours.into()) {
        for minute in numbers(times.minutes) {
            for second in numbers(times.seconds) {
                let seconds = if times.seconds == 1 {
                    String::new()
                } else {
                    format!(":{second:02}")
                };
                listed.push(format!("{hour:02}:{minute:02}{seconds}"));
            }
        }
    }
    listed
}

/// "minute 5", "minutes 5, 7 to 9 and 30".
fn counted(unit: &str, bits: u64) -> String {
    let plural = if bits.count_ones() > 1 { "s" } else { "" };
    format!(
        "{unit}{plural} {}",
        listed(&runs(numbers(bits)), |number| number.to_string())
    )
}

fn cron_dates(days: &cron::Days) -> Option<String> {
    if days.of_month == ALL_DAYS {
        return None;
    }
    let mut dates = dates(days.of_month);
    if days.last_day {
        dates.push("the last day".to_owned());
    }
    if days.last_workday {
        dates.push("the last weekday".to_owned());
    }
    Some(joined(&dates))
}

fn calendar_dates(days: &oncalendar::Days) -> Option<String> {
    if days.of_month == ALL_DAYS || days.from_end == ALL_DAYS {
        return None;
    }
    let mut dates = dates(days.of_month);
    let from_end = numbers(days.from_end.into());
    match runs(from_end).as_slice() {
        [] => {}
        [(1, 1)] => dates.push("the last day".to_owned()),
        [(1, count)] => dates.push(format!("the last {count} days")),
        runs => dates.push(format!("the {} day from the end", listed(runs, ordinal))),
    }
    Some(joined(&dates))
}

fn dates(days: u32) -> Vec<String> {
    if days == 0 {
        return Vec::new();
    }
    vec![format!("the {}", listed(&runs(numbers(days.into())), ordinal))]
}

fn cron_weekdays(days: &cron::Days) -> Option<String> {
    if days.weekdays == ALL_WEEKDAYS {
        return None;
    }
    let mut names: Vec<String> = weekdays(days.weekdays).into_iter().collect();
    for (weekday, name) in WEEKDAYS.iter().enumerate() {
        for (nth, weekdays) in NTH.iter().zip(days.nth_weekdays) {
            if weekdays & 1 << weekday != 0 {
                names.push(format!("the {nth} {name}"));
            }
        }
        if days.last_weekdays & 1 << weekday != 0 {
            names.push(format!("the last {name}"));
        }
    }
    Some(joined(&names))
}

/// "weekdays", "Mondays and Thursdays"; nothing for all seven or none.
fn weekdays(days: u32) -> Option<String> {
    match days {
        0 | ALL_WEEKDAYS => None,
        0b001_1111 => Some("weekdays".to_owned()),
        0b110_0000 => Some("Saturdays and Sundays".to_owned()),
        _ => Some(listed(&runs(numbers(days.into())), |day| {
            format!("{}s", WEEKDAYS[day as usize])
        })),
    }
}

fn months(months: u32) -> Option<String> {
    if months == ALL_MONTHS {
        return None;
    }
    Some(listed(&runs(numbers(months.into())), |month| {
        MONTHS[month as usize - 1].to_owned()
    }))
}

fn ordinal(number: u32) -> String {
    let ending = match (number % 100, number % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

/// The set bits, in order.
fn numbers(bits: u64) -> impl Iterator<Item = u32> {
    (0..64).filter(move |number| bits & 1 << number != 0)
}

/// The step, if `bits` holds 0 and every `step`-th up to `end`, and the step divides `end`, so that the pace is
/// even over the hour or day.
fn even_step(bits: u64, end: u32) -> Option<u32> {
    let step = (bits & !1).trailing_zeros();
    let stepped = step < end
        && (0..end)
            .step_by(step as usize)
            .fold(0, |bits, number| bits | 1u64 << number)
            == bits;
    (stepped && end.is_multiple_of(step)).then_some(step)
}

/// Numbers in order, gathered into runs of neighbours.
fn runs(numbers: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    runs
}

/// "1, 3 to 7 and 9". Two neighbours are named one by one.
fn listed(runs: &[(u32, u32)], name: impl Fn(u32) -> String) -> String {
    let mut names = Vec::new();
    for (first, last) in runs {
        match last - first {
            0 => names.push(name(*first)),
            1 => names.extend([name(*first), name(*last)]),
            _ => names.push(format!("{} to {}", name(*first), name(*last))),
        }
    }
    joined(&names)
}

/// "a", "a and b", "a, b and c".
fn joined(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [only] => only.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}
