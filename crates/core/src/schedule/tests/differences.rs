//! The rows of the table of differences in `schedule`, each on purpose. The differential run names them too.

use super::*;

#[test]
fn a_start_in_the_second_pass_never_gives_a_time_that_is_over() {
    // The packages would give 00:40, which is before the start.
    assert_eq!(
        times("40 3 * * *", "Europe/Riga", "2024-10-27T01:32:00Z", 1),
        ["2024-10-28T01:40:00Z"]
    );
    assert_eq!(
        times("*-*-* 3:40", "Europe/Riga", "2024-10-27T01:32:00Z", 1),
        ["2024-10-28T01:40:00Z"]
    );
}

#[test]
fn a_wildcard_job_keeps_every_minute_around_an_odd_change() {
    // cronsim goes from 23:xx by the hour and loses 00:00 to 00:29, which exist: the gap was 23:30 to 24:00.
    assert_eq!(
        times(
            "30/15,14,0 */20 * * *",
            "Asia/Pyongyang",
            "2018-05-04T13:46:00Z",
            3
        ),
        [
            "2018-05-04T15:00:00Z",
            "2018-05-04T15:14:00Z",
            "2018-05-04T15:30:00Z"
        ]
    );
}

#[test]
fn a_wildcard_job_ends_beside_the_odd_changes_of_st_johns() {
    // cronsim does not return from this one.
    assert_eq!(
        times("30 */6 * * *", "America/St_Johns", "2007-11-04T02:31:00Z", 2),
        ["2007-11-04T04:00:00Z", "2007-11-04T10:00:00Z"]
    );
}

#[test]
fn several_lines_stay_in_order_where_the_clock_runs_back() {
    // Casablanca: 5 June 2016 03:00 becomes 02:00 (02:00 UTC). By the wall, the hour of Havana (02:00) is before
    // the minute of Casablanca (02:27), and the package gives it first.
    assert_eq!(
        times(
            "*:*\n*:00 America/Havana",
            "Africa/Casablanca",
            "2016-06-05T01:26:00Z",
            2
        ),
        ["2016-06-05T01:27:00Z", "2016-06-05T01:28:00Z"]
    );
}

#[test]
fn a_tab_before_a_zone_is_white_space_like_any_other() {
    assert_eq!(
        times("10:00\tEurope/Riga", "UTC", "2024-01-01T00:00:00Z", 1),
        ["2024-01-01T08:00:00Z"]
    );
}

#[test]
fn what_the_tz_database_holds_besides_zones_is_no_zone() {
    for name in ["Europe", "America/Argentina", "Factory", "tzdata.zi"] {
        assert!(
            Schedule::parse(&format!("10:00 {name}"), "UTC").is_err(),
            "{name}"
        );
    }
}

#[test]
fn letters_outside_ascii_are_no_names() {
    // Python's upper case of "ſ" is "S", so cronsim takes this for Sunday.
    assert!(Schedule::parse("0 0 * * ſun", "UTC").is_err());
}

#[test]
fn where_systemd_and_the_package_differ_the_package_is_followed() {
    let after = "2024-01-01T00:00:00Z";
    // systemd: 9 only.
    assert_eq!(
        times("9..9/7:00", "UTC", "2024-01-01T09:00:00Z", 1),
        ["2024-01-01T16:00:00Z"]
    );
    // systemd: the 5th, 8th ... from the end; the package begins at the 28th.
    assert_eq!(
        times("*-1~5..28/3", "UTC", after, 2),
        ["2024-01-04T00:00:00Z", "2024-01-07T00:00:00Z"]
    );
    // systemd refuses these.
    for expression in [
        "*-1~29..31",
        "Mon,, 12:00",
        "1/20-1",
        "*-1-9/29",
        "*:*:5..5",
        "*-*~2,23,3",
    ] {
        assert!(Schedule::parse(expression, "UTC").is_ok(), "{expression}");
    }
    // systemd takes these.
    for expression in ["*:*:0.5", "12:00 utc", "@0", "1999-01-01"] {
        assert!(Schedule::parse(expression, "UTC").is_err(), "{expression}");
    }
    // systemd takes the second pass of 03:30 (01:34 UTC), or both.
    assert_eq!(
        times("3:*", "Europe/Riga", "2035-10-28T01:33:00Z", 1),
        ["2035-10-29T01:00:00Z"]
    );
    // systemd loses 01:00, as the month ends.
    assert_eq!(
        times("1/5:0", "UTC", "2010-05-31T23:33:00Z", 1),
        ["2010-06-01T01:00:00Z"]
    );
    // systemd gives up where midnight is skipped.
    assert_eq!(
        times("7,1/20:0", "Asia/Beirut", "2018-03-24T20:00:00Z", 1),
        ["2018-03-24T22:00:00Z"]
    );
}
