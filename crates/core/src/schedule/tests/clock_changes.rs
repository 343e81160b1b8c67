//! Every row of the table of clock changes, in zones where they are easy and in zones where they are not.

use super::*;

/// Riga: on 31 March 2024 the clock goes from 03:00 to 04:00 (at 01:00 UTC), on 27 October from 04:00 back to
/// 03:00 (at 01:00 UTC).
const RIGA: &str = "Europe/Riga";

#[test]
fn cron_at_a_fixed_time_in_the_skipped_hour_runs_right_after_it() {
    assert_eq!(
        times("30 3 * * *", RIGA, "2024-03-30T12:00:00Z", 2),
        ["2024-03-31T01:00:00Z", "2024-04-01T00:30:00Z"]
    );
    // Once, however many of its times were skipped, and also if it is due right after the gap anyway.
    assert_eq!(
        times("0,15,30 3,4 * * *", RIGA, "2024-03-30T23:59:00Z", 3),
        [
            "2024-03-31T01:00:00Z",
            "2024-03-31T01:15:00Z",
            "2024-03-31T01:30:00Z"
        ]
    );
    assert_eq!(
        times("30 3 * * *", RIGA, "2024-03-31T01:00:00Z", 1),
        ["2024-04-01T00:30:00Z"]
    );
}

#[test]
fn cron_with_a_star_in_minute_or_hour_does_not_run_in_the_skipped_hour() {
    assert_eq!(
        times("*/30 3 * * *", RIGA, "2024-03-30T12:00:00Z", 2),
        ["2024-04-01T00:00:00Z", "2024-04-01T00:30:00Z"]
    );
    assert_eq!(
        times("30 */3 * * *", RIGA, "2024-03-30T23:00:00Z", 2),
        ["2024-03-31T03:30:00Z", "2024-03-31T06:30:00Z"]
    );
    assert_eq!(
        times("*/30 * * * *", RIGA, "2024-03-31T00:00:00Z", 3),
        [
            "2024-03-31T00:30:00Z",
            "2024-03-31T01:00:00Z",
            "2024-03-31T01:30:00Z"
        ]
    );
}

#[test]
fn oncalendar_in_the_skipped_hour_waits_until_the_time_exists_again() {
    assert_eq!(
        times("*-*-* 03:30", RIGA, "2024-03-30T12:00:00Z", 2),
        ["2024-04-01T00:30:00Z", "2024-04-02T00:30:00Z"]
    );
    assert_eq!(
        times("*-3-31 3:30", RIGA, "2024-01-01T00:00:00Z", 1),
        ["2025-03-31T00:30:00Z"]
    );
    assert_eq!(
        times("*:*:59", RIGA, "2024-03-31T00:59:00Z", 2),
        ["2024-03-31T00:59:59Z", "2024-03-31T01:00:59Z"]
    );
    // Once only, and skipped that once: never.
    assert_eq!(
        times("2024-03-31 03:30", RIGA, "2024-01-01T00:00:00Z", 1),
        [""; 0]
    );
}

#[test]
fn a_fixed_time_in_the_repeated_hour_runs_in_the_first_pass_only() {
    for expression in ["30 3 * * *", "*-*-* 03:30"] {
        let expected = ["2024-10-27T00:30:00Z", "2024-10-28T01:30:00Z"];
        assert_eq!(
            times(expression, RIGA, "2024-10-26T12:00:00Z", 2),
            expected,
            "{expression}"
        );
        // Started between the passes, and in the second one.
        for after in [
            "2024-10-27T00:30:00Z",
            "2024-10-27T01:05:00Z",
            "2024-10-27T01:45:00Z",
        ] {
            assert_eq!(
                times(expression, RIGA, after, 1),
                ["2024-10-28T01:30:00Z"],
                "{expression} after {after}"
            );
        }
    }
}

#[test]
fn cron_with_a_star_in_minute_or_hour_runs_in_both_passes() {
    assert_eq!(
        times("*/30 3 * * *", RIGA, "2024-10-26T12:00:00Z", 5),
        [
            "2024-10-27T00:00:00Z",
            "2024-10-27T00:30:00Z",
            "2024-10-27T01:00:00Z",
            "2024-10-27T01:30:00Z",
            "2024-10-28T01:00:00Z"
        ]
    );
    // From within the first pass, the next match may be in the second one and earlier on the wall.
    assert_eq!(
        times("*/60 3 * * *", RIGA, "2024-10-27T00:20:00Z", 1),
        ["2024-10-27T01:00:00Z"]
    );
    assert_eq!(
        times("15 * 27 10 *", RIGA, "2024-10-27T00:20:00Z", 2),
        ["2024-10-27T01:15:00Z", "2024-10-27T02:15:00Z"]
    );
}

#[test]
fn oncalendar_with_a_star_runs_in_the_first_pass_only() {
    assert_eq!(
        times("*:0/30", RIGA, "2024-10-27T00:00:00Z", 3),
        [
            "2024-10-27T00:30:00Z",
            "2024-10-27T02:00:00Z",
            "2024-10-27T02:30:00Z"
        ]
    );
    assert_eq!(
        times("*:*:*", RIGA, "2024-10-27T00:59:59Z", 1),
        ["2024-10-27T02:00:00Z"]
    );
    assert_eq!(
        times("*:*:*", RIGA, "2024-10-27T01:30:00Z", 1),
        ["2024-10-27T02:00:00Z"]
    );
}

#[test]
fn a_change_of_half_an_hour_is_treated_alike() {
    // Lord Howe: 6 October 2024 02:00 becomes 02:30 (15:30 UTC), 6 April 2025 02:00 becomes 01:30 (15:00 UTC).
    let zone = "Australia/Lord_Howe";
    assert_eq!(
        times("10 2 * * *", zone, "2024-10-05T10:00:00Z", 1),
        ["2024-10-05T15:30:00Z"]
    );
    assert_eq!(
        times("*/10 2 * * *", zone, "2024-10-05T15:00:00Z", 3),
        [
            "2024-10-05T15:30:00Z",
            "2024-10-05T15:40:00Z",
            "2024-10-05T15:50:00Z"
        ]
    );
    assert_eq!(
        times("*/15 1 * * *", zone, "2025-04-05T14:00:00Z", 6),
        [
            "2025-04-05T14:15:00Z",
            "2025-04-05T14:30:00Z",
            "2025-04-05T14:45:00Z",
            "2025-04-05T15:00:00Z",
            "2025-04-05T15:15:00Z",
            "2025-04-06T14:30:00Z"
        ]
    );
    assert_eq!(
        times("45 1 * * *", zone, "2025-04-05T14:50:00Z", 1),
        ["2025-04-06T15:15:00Z"]
    );
}

#[test]
fn a_change_of_two_hours_is_treated_alike() {
    // Troll: 31 March 2024 01:00 becomes 03:00, 27 October 2024 03:00 becomes 01:00, both at 01:00 UTC.
    let zone = "Antarctica/Troll";
    assert_eq!(
        times("30 1 * * *", zone, "2024-03-30T12:00:00Z", 1),
        ["2024-03-31T01:00:00Z"]
    );
    assert_eq!(
        times("30 2 * * *", zone, "2024-10-26T12:00:00Z", 2),
        ["2024-10-27T00:30:00Z", "2024-10-28T02:30:00Z"]
    );
    assert_eq!(
        times("30 1 * * *", zone, "2024-10-27T01:10:00Z", 1),
        ["2024-10-28T01:30:00Z"]
    );
    assert_eq!(
        times("30 1-2/1 * * *", zone, "2024-10-26T22:00:00Z", 3),
        [
            "2024-10-26T23:30:00Z",
            "2024-10-27T00:30:00Z",
            "2024-10-28T01:30:00Z"
        ]
    );
    assert_eq!(
        times("*/60 1 * * *", zone, "2024-10-26T22:00:00Z", 2),
        ["2024-10-26T23:00:00Z", "2024-10-27T01:00:00Z"]
    );
}

#[test]
fn a_day_without_midnight_is_treated_alike() {
    // Beirut: on 31 March 2024 00:00 becomes 01:00 (30 March 22:00 UTC).
    let zone = "Asia/Beirut";
    assert_eq!(
        times("0 0 * * *", zone, "2024-03-30T12:00:00Z", 1),
        ["2024-03-30T22:00:00Z"]
    );
    assert_eq!(
        times("0 * * * *", zone, "2024-03-30T21:00:00Z", 2),
        ["2024-03-30T22:00:00Z", "2024-03-30T23:00:00Z"]
    );
    assert_eq!(
        times("*/20 0 * * *", zone, "2024-03-30T12:00:00Z", 1),
        ["2024-03-31T21:00:00Z"]
    );
    assert_eq!(
        times("daily", zone, "2024-03-30T12:00:00Z", 1),
        ["2024-03-31T21:00:00Z"]
    );
    // And back: 27 October 2024 00:00 becomes 26 October 23:00.
    assert_eq!(
        times("30 23 * * *", zone, "2024-10-26T12:00:00Z", 2),
        ["2024-10-26T20:30:00Z", "2024-10-27T21:30:00Z"]
    );
    assert_eq!(
        times("30 * 26 10 *", zone, "2024-10-26T20:00:00Z", 3),
        [
            "2024-10-26T20:30:00Z",
            "2024-10-26T21:30:00Z",
            "2025-10-25T22:30:00Z"
        ]
    );
}

#[test]
fn a_change_a_minute_after_midnight_is_treated_alike() {
    // St John's until 2011: 8 March 2009 00:01 becomes 01:01 (03:31 UTC), 1 November 00:01 becomes 23:01 the day
    // before (02:31 UTC).
    let zone = "America/St_Johns";
    assert_eq!(
        times("30 0 * * *", zone, "2009-03-08T00:00:00Z", 1),
        ["2009-03-08T03:31:00Z"]
    );
    assert_eq!(
        times("0 0 * * *", zone, "2009-03-08T00:00:00Z", 1),
        ["2009-03-08T03:30:00Z"]
    );
    assert_eq!(
        times("0 * * * *", zone, "2009-11-01T01:00:00Z", 4),
        [
            "2009-11-01T01:30:00Z",
            "2009-11-01T02:30:00Z",
            "2009-11-01T03:30:00Z",
            "2009-11-01T04:30:00Z"
        ]
    );
}

#[test]
fn a_day_that_was_skipped_whole_is_treated_alike() {
    // Apia went from 29 December 2011 24:00 to 31 December 00:00 (30 December 10:00 UTC).
    let zone = "Pacific/Apia";
    assert_eq!(
        times("0 12 30 12 *", zone, "2011-12-01T00:00:00Z", 1),
        ["2011-12-30T10:00:00Z"]
    );
    assert_eq!(
        times("*/30 12 30 12 *", zone, "2011-12-01T00:00:00Z", 1),
        ["2012-12-29T22:00:00Z"]
    );
    assert_eq!(
        times("*-12-30 *:*:*", zone, "2011-12-01T00:00:00Z", 1),
        ["2012-12-29T10:00:00Z"]
    );
    assert_eq!(
        times("0 */6 * * *", zone, "2011-12-30T03:00:00Z", 2),
        ["2011-12-30T04:00:00Z", "2011-12-30T10:00:00Z"]
    );
}

#[test]
fn a_zone_that_changed_its_offset_for_good_is_treated_alike() {
    // Pyongyang: 4 May 2018 23:30 became 5 May 00:00 (15:00 UTC).
    let zone = "Asia/Pyongyang";
    assert_eq!(
        times("45 23 * * *", zone, "2018-05-04T12:00:00Z", 1),
        ["2018-05-04T15:00:00Z"]
    );
    assert_eq!(
        times("*/5 23 4 5 *", zone, "2018-05-04T14:50:00Z", 2),
        ["2018-05-04T14:55:00Z", "2019-05-04T14:00:00Z"]
    );
}
