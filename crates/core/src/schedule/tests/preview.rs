//! Schedules in words, and the preview with its marks.

use super::*;

#[test]
fn cron_in_words() {
    for (expression, words) in [
        ("* * * * *", "every minute"),
        ("*/5 * * * *", "every 5 minutes"),
        ("0-59/5 0-23 * * *", "every 5 minutes"),
        (
            "*/7 * * * *",
            "every hour at minutes 0, 7, 14, 21, 28, 35, 42, 49 and 56",
        ),
        ("0 * * * *", "every hour"),
        ("15 * * * *", "every hour at minute 15"),
        ("5,20 * * * *", "every hour at minutes 5 and 20"),
        ("0 */2 * * *", "every 2 hours"),
        ("15 */2 * * *", "every 2 hours at minute 15"),
        ("0 */6 * * *", "at 00:00, 06:00, 12:00 and 18:00"),
        ("30 2 * * *", "at 02:30"),
        ("30 2 * * 1-5", "at 02:30 on weekdays"),
        (
            "0 9,17 * * MON,WED,FRI",
            "at 09:00 and 17:00 on Mondays, Wednesdays and Fridays",
        ),
        ("0 0 * * 6,0", "at 00:00 on Saturdays and Sundays"),
        ("0 0 * * 1-4", "at 00:00 on Mondays to Thursdays"),
        ("0 9-17 * * *", "every hour from 09:00 to 17:00"),
        ("10 9-17 * * *", "every hour from 09:10 to 17:10"),
        (
            "*/15 9-16 * * 1-5",
            "every 15 minutes from 09:00 to 16:45 on weekdays",
        ),
        ("* 9 * * *", "every minute from 09:00 to 09:59"),
        (
            "*/30 1,3,5,7 * * *",
            "every 30 minutes during the hours 1, 3, 5 and 7",
        ),
        (
            "1,7 1-3,8,9 * * *",
            "at minutes 1 and 7 of the hours 1 to 3, 8 and 9",
        ),
        ("0 0 1 * *", "at 00:00 on the 1st of the month"),
        ("0 0 1,15 * *", "at 00:00 on the 1st and 15th of the month"),
        ("0 0 L * *", "at 00:00 on the last day of the month"),
        ("0 0 LW 3 *", "at 00:00 on the last weekday of March"),
        ("0 0 1,L * *", "at 00:00 on the 1st and the last day of the month"),
        ("0 0 1 1 *", "at 00:00 on the 1st of January"),
        ("0 0 * 1,7 *", "at 00:00 in January and July"),
        ("0 0 * 2 MON", "at 00:00 on Mondays in February"),
        ("0 0 * * FRI#2", "at 00:00 on the second Friday of the month"),
        ("0 0 * 3 5L", "at 00:00 on the last Friday of March"),
        (
            "0 0 1-7 * MON",
            "at 00:00 on the 1st to 7th of the month and also on Mondays",
        ),
        (
            "0 0 */10 * MON",
            "at 00:00 on the 1st, 11th, 21st and 31st of the month, only on Mondays",
        ),
        ("0 0 1-31 * MON", "at 00:00"),
        (
            "0 0 22,23,11 * *",
            "at 00:00 on the 11th, 22nd and 23rd of the month",
        ),
    ] {
        assert_eq!(schedule(expression, "UTC").describe(), words, "{expression}");
    }
}

#[test]
fn oncalendar_in_words() {
    for (expression, words) in [
        ("minutely", "every minute"),
        ("hourly", "every hour"),
        ("daily", "at 00:00"),
        ("weekly", "at 00:00 on Mondays"),
        (
            "quarterly",
            "at 00:00 on the 1st of January, April, July and October",
        ),
        ("Mon..Fri 02:30", "at 02:30 on weekdays"),
        ("*:*:*", "every second"),
        ("*:*:0/15", "every 15 seconds"),
        ("*:*:30", "every minute, at second 30"),
        (
            "10..18:*:*",
            "every second of the minute, every minute from 10:00 to 18:59",
        ),
        ("02:30:15", "at 02:30:15"),
        ("*-*~1", "at 00:00 on the last day of the month"),
        ("*-*~1..7", "at 00:00 on the last 7 days of the month"),
        (
            "*-*~3,5",
            "at 00:00 on the 3rd and 5th day from the end of the month",
        ),
        ("Fri *-*-13", "at 00:00 on the 13th of the month, only on Fridays"),
        (
            "2025,2027..2030-1-1",
            "at 00:00 on the 1st of January in 2025 and 2027 to 2030",
        ),
        ("10:00 Europe/Kiev", "at 10:00, Europe/Kyiv time"),
        (
            "08:00\nSat 20:00 UTC",
            "at 08:00; also at 20:00 on Saturdays, UTC time",
        ),
    ] {
        assert_eq!(
            schedule(expression, "Europe/Riga").describe(),
            words,
            "{expression}"
        );
    }
}

#[test]
fn a_period_in_words() {
    assert_eq!(
        Schedule::Period(Span::from_secs(600)).describe(),
        "every 10 minutes"
    );
}

fn preview(expression: &str, after: &str, count: usize) -> Vec<(String, Mark, Option<String>)> {
    let schedule = schedule(expression, "Europe/Riga");
    let found = schedule.occurrences(instant(after)).take(count);
    found
        .map(|occurrence| (occurrence.local, occurrence.mark, occurrence.planned))
        .collect()
}

#[test]
fn a_time_that_was_skipped_is_marked_and_told() {
    assert_eq!(
        preview("30 3 * * *", "2024-03-30T00:00:00Z", 3),
        [
            ("Sat 2024-03-30 03:30 +02:00".to_owned(), Mark::None, None),
            (
                "Sun 2024-03-31 04:00 +03:00".to_owned(),
                Mark::Gap,
                Some("Sun 2024-03-31 03:30".to_owned())
            ),
            ("Mon 2024-04-01 03:30 +03:00".to_owned(), Mark::None, None),
        ]
    );
}

#[test]
fn a_time_that_comes_twice_is_marked_in_each_pass() {
    assert_eq!(
        preview("*/30 * * * *", "2024-10-26T23:45:00Z", 5),
        [
            ("Sun 2024-10-27 03:00 +03:00".to_owned(), Mark::Repeat, None),
            ("Sun 2024-10-27 03:30 +03:00".to_owned(), Mark::Repeat, None),
            ("Sun 2024-10-27 03:00 +02:00".to_owned(), Mark::Repeat, None),
            ("Sun 2024-10-27 03:30 +02:00".to_owned(), Mark::Repeat, None),
            ("Sun 2024-10-27 04:00 +02:00".to_owned(), Mark::None, None),
        ]
    );
    assert_eq!(
        preview("*-*-* 3:30:05", "2024-10-26T12:00:00Z", 2),
        [
            ("Sun 2024-10-27 03:30:05 +03:00".to_owned(), Mark::Repeat, None),
            ("Mon 2024-10-28 03:30:05 +02:00".to_owned(), Mark::None, None),
        ]
    );
}

#[test]
fn a_line_with_its_own_zone_shows_the_clock_of_that_zone() {
    assert_eq!(
        preview("10:00 America/St_Johns", "2024-01-01T00:00:00Z", 1),
        [("Mon 2024-01-01 10:00 -03:30".to_owned(), Mark::None, None)]
    );
}

#[test]
fn a_period_is_shown_in_utc() {
    let period = Schedule::Period(Span::from_secs(90));
    let shown: Vec<_> = period
        .occurrences(instant("2024-01-01T00:00:00.25Z"))
        .take(2)
        .collect();
    assert_eq!(shown[1].at, instant("2024-01-01T00:03:00.25Z"));
    assert_eq!(shown[1].local, "Mon 2024-01-01 00:03 +00:00");
    assert_eq!(shown[0].local, "Mon 2024-01-01 00:01:30 +00:00");
}

#[test]
fn the_preview_ends_where_the_schedule_ends() {
    assert_eq!(
        preview("2030-01-01\n2031-01-01", "2024-01-01T00:00:00Z", 100).len(),
        2
    );
}
