//! Schedules as their users see them: expressions in, instants out.

mod calendar;
mod clock_changes;
mod cron;
mod differences;
mod hostile;
mod laws;
mod preview;
mod refusals;

use super::*;

pub(super) fn instant(text: &str) -> Timestamp {
    let at: jiff::Timestamp = text.parse().expect("an instant");
    Timestamp::from_micros(at.as_microsecond())
}

pub(super) fn schedule(expression: &str, zone: &str) -> Schedule {
    Schedule::parse(expression, zone).unwrap_or_else(|error| panic!("{expression:?} in {zone}: {error}"))
}

/// The next `count` instants after `after`, as text.
pub(super) fn times(expression: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let schedule = schedule(expression, zone);
    schedule
        .occurrences(instant(after))
        .take(count)
        .map(|occurrence| occurrence.at.to_string())
        .collect()
}

/// The next `count` local dates, at any time of day, after 2024 began.
pub(super) fn days(expression: &str, count: usize) -> Vec<String> {
    let schedule = schedule(expression, "UTC");
    let mut days: Vec<String> = Vec::new();
    for occurrence in schedule.occurrences(instant("2023-12-31T23:59:59Z")) {
        let day = occurrence.local[4..14].to_owned();
        if days.last() != Some(&day) {
            days.push(day);
        }
        if days.len() == count {
            break;
        }
    }
    days
}

#[test]
fn five_words_on_one_line_are_cron_and_all_else_is_oncalendar() {
    for cron in [
        "* * * * *",
        "  1 2 3 4 5  ",
        "\n1 2 3 4 5\n",
        "1\t2\u{a0}3\u{1c}4 5",
    ] {
        assert!(matches!(schedule(cron, "UTC"), Schedule::Cron(_)), "{cron:?}");
    }
    for calendar in [
        "daily",
        "*-*-* 12:00",
        "Mon *-*-* 12:00 Europe/Riga",
        "12:00\n13:00\n14:00\n15:00\n16:00",
    ] {
        assert!(
            matches!(schedule(calendar, "UTC"), Schedule::Calendar(_)),
            "{calendar:?}"
        );
    }
    assert!(
        Schedule::parse("1 2 3\n4 5", "UTC").is_err(),
        "five words on two lines are no cron"
    );
}

#[test]
fn the_next_time_is_later_than_now_even_by_a_microsecond() {
    let every_minute = schedule("* * * * *", "UTC");
    for (after, next) in [
        ("2024-01-01T00:00:00Z", "2024-01-01T00:01:00Z"),
        ("2024-01-01T00:00:59.999999Z", "2024-01-01T00:01:00Z"),
        ("2024-01-01T00:01:00.000001Z", "2024-01-01T00:02:00Z"),
        ("1969-12-31T23:59:59.5Z", "1970-01-01T00:00:00Z"),
    ] {
        assert_eq!(
            every_minute.next_after(instant(after)),
            Some(instant(next)),
            "{after}"
        );
    }
}

#[test]
fn an_old_zone_name_is_read_as_the_current_one() {
    assert_eq!(
        schedule("0 3 * * *", "US/Pacific"),
        schedule("0 3 * * *", "America/Los_Angeles")
    );
    assert_eq!(
        schedule("03:00 Asia/Calcutta", "UTC"),
        schedule("03:00 Asia/Kolkata", "UTC")
    );
}

#[test]
fn other_zone_data_gives_other_times() {
    // Version 1, no transitions, one type: eleven hours east of UTC.
    let mut file = b"TZif\0".to_vec();
    file.extend([0; 15]);
    for count in [0u32, 0, 0, 0, 1, 4] {
        file.extend(count.to_be_bytes());
    }
    file.extend(39_600i32.to_be_bytes());
    file.extend(b"\0\0NEW\0");
    let zones = Zones::loaded([("Europe/Riga", file.as_slice())]).expect("compiled rules");

    let moved = Schedule::parse_with("0 12 * * *", "Europe/Riga", &zones).expect("good");
    assert_eq!(
        moved.next_after(instant("2024-01-01T00:00:00Z")),
        Some(instant("2024-01-01T01:00:00Z"))
    );
    assert!(Schedule::parse_with("0 12 * * *", "Europe/Tallinn", &zones).is_err());
}
