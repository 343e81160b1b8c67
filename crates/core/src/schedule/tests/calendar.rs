//! The rules of OnCalendar expressions, each by the days or times it gives.

use super::*;

#[test]
fn days_of_all_kinds() {
    for (expression, expected) in [
        ("daily", ["2024-01-01", "2024-01-02", "2024-01-03"]),
        ("Weekly", ["2024-01-01", "2024-01-08", "2024-01-15"]),
        ("MONTHLY", ["2024-01-01", "2024-02-01", "2024-03-01"]),
        ("quarterly", ["2024-01-01", "2024-04-01", "2024-07-01"]),
        ("semiannually", ["2024-01-01", "2024-07-01", "2025-01-01"]),
        ("annually", ["2024-01-01", "2025-01-01", "2026-01-01"]),
        ("yearly", ["2024-01-01", "2025-01-01", "2026-01-01"]),
        ("Mon", ["2024-01-01", "2024-01-08", "2024-01-15"]),
        ("monday,FRIDAY", ["2024-01-01", "2024-01-05", "2024-01-08"]),
        ("Sat..Sun", ["2024-01-06", "2024-01-07", "2024-01-13"]),
        ("Sat-Sun", ["2024-01-06", "2024-01-07", "2024-01-13"]),
        ("Mon, 10:00", ["2024-01-01", "2024-01-08", "2024-01-15"]),
        ("Mon,, 1-1", ["2024-01-01", "2029-01-01", "2035-01-01"]),
        ("Fri *-*-13", ["2024-09-13", "2024-12-13", "2025-06-13"]),
        ("Mon *-*-1..7", ["2024-01-01", "2024-02-05", "2024-03-04"]),
        ("*-2-29", ["2024-02-29", "2028-02-29", "2032-02-29"]),
        ("*-1/5-1", ["2024-01-01", "2024-06-01", "2024-11-01"]),
        ("2-1", ["2024-02-01", "2025-02-01", "2026-02-01"]),
        ("25..27-2-1", ["2025-02-01", "2026-02-01", "2027-02-01"]),
        ("2025/10-2-1", ["2025-02-01", "2035-02-01", "2045-02-01"]),
        ("*-*~1", ["2024-01-31", "2024-02-29", "2024-03-31"]),
        ("02~3", ["2024-02-27", "2025-02-26", "2026-02-26"]),
        ("*-*~3..4", ["2024-01-28", "2024-01-29", "2024-02-26"]),
        ("*-2~5/2", ["2024-02-25", "2024-02-27", "2024-02-29"]),
        ("*-*~7,1", ["2024-01-25", "2024-01-31", "2024-02-23"]),
        ("*-2~*", ["2024-02-01", "2024-02-02", "2024-02-03"]),
        ("Mon *-*~1..7", ["2024-01-29", "2024-02-26", "2024-03-25"]),
    ] {
        assert_eq!(days(expression, 3), expected, "{expression}");
    }
}

#[test]
fn times_of_the_day() {
    for (expression, expected) in [
        ("minutely", ["00:00:00", "00:01:00", "00:02:00"]),
        ("hourly", ["00:00:00", "01:00:00", "02:00:00"]),
        ("*:*:*", ["00:00:00", "00:00:01", "00:00:02"]),
        ("*:*:0/25", ["00:00:00", "00:00:25", "00:00:50"]),
        ("*:0/25", ["00:00:00", "00:25:00", "00:50:00"]),
        ("9..17/4:5", ["09:05:00", "13:05:00", "17:05:00"]),
        ("9:5,7:1", ["09:05:01", "09:07:01", "09:05:01"]),
        ("9..9/7:00", ["09:00:00", "16:00:00", "23:00:00"]),
        ("12:00\n13:00\n12:30", ["12:00:00", "12:30:00", "13:00:00"]),
        ("12:00\n12:00", ["12:00:00", "12:00:00", "12:00:00"]),
    ] {
        let schedule = schedule(expression, "UTC");
        let found = schedule.occurrences(instant("2023-12-31T23:59:59Z")).take(3);
        let times: Vec<String> = found
            .map(|occurrence| occurrence.at.to_string()[11..19].to_owned())
            .collect();
        assert_eq!(times, expected, "{expression}");
    }
}

#[test]
fn a_zone_at_the_end_beats_the_zone_of_the_check() {
    let after = "2024-01-01T00:00:00Z";
    assert_eq!(
        times("10:00 Europe/Riga", "America/New_York", after, 1),
        ["2024-01-01T08:00:00Z"]
    );
    assert_eq!(
        times("daily Asia/Tokyo", "America/New_York", after, 1),
        ["2024-01-01T15:00:00Z"]
    );
    assert_eq!(
        times("Mon  UTC", "America/New_York", after, 1),
        ["2024-01-08T00:00:00Z"]
    );
    assert_eq!(
        times("10:00 Europe/Riga\n10:00", "America/New_York", after, 3),
        [
            "2024-01-01T08:00:00Z",
            "2024-01-01T15:00:00Z",
            "2024-01-02T08:00:00Z"
        ]
    );
}

#[test]
fn an_expression_can_end() {
    let once = schedule("2030-01-01 12:00", "UTC");
    assert_eq!(
        once.next_after(instant("2024-01-01T00:00:00Z")),
        Some(instant("2030-01-01T12:00:00Z"))
    );
    assert_eq!(once.next_after(instant("2030-01-01T12:00:00Z")), None);

    // One line that is over does not end the others.
    let lines = schedule("1999-01-01\n2030-01-01\n*-01-02 06:00", "UTC");
    assert_eq!(
        lines.next_after(instant("2040-01-01T00:00:00Z")),
        Some(instant("2040-01-02T06:00:00Z"))
    );
}

#[test]
fn the_last_year_is_2199() {
    let yearly = schedule("yearly", "UTC");
    assert_eq!(
        yearly.next_after(instant("2198-06-01T00:00:00Z")),
        Some(instant("2199-01-01T00:00:00Z"))
    );
    assert_eq!(yearly.next_after(instant("2199-06-01T00:00:00Z")), None);
    assert!(Schedule::parse("2200-01-01", "UTC").is_err());
}

#[test]
fn two_digit_years_are_1970_to_2069() {
    assert_eq!(days("69-1-1", 1), ["2069-01-01"]);
    assert_eq!(
        days("024..026-5-1", 3),
        ["2024-05-01", "2025-05-01", "2026-05-01"]
    );
    assert!(Schedule::parse("70-1-1", "UTC").is_err(), "1970 is over");
    assert!(Schedule::parse("100-1-1", "UTC").is_err());
}
