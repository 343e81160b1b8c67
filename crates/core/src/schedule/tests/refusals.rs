//! What is refused, where the finger points, and what the sentence says.

use super::*;

/// Expression, position in characters, and words of the sentence.
#[track_caller]
fn refused(expression: &str, position: usize, words: &str) {
    match Schedule::parse(expression, "Europe/Riga") {
        Ok(schedule) => panic!("{expression:?} was taken: {}", schedule.describe()),
        Err(error) => {
            assert_eq!(error.field(), ScheduleField::Schedule, "{expression:?}");
            assert!(
                error.sentence().contains(words),
                "{expression:?}: {}",
                error.sentence()
            );
            assert_eq!(error.position(), position, "{expression:?}: {}", error.sentence());
        }
    }
}

#[test]
fn cron_is_refused_with_place_and_reason() {
    refused("60 * * * *", 0, "there is no minute 60; it goes from 0 to 59");
    refused("0 24 * * *", 2, "there is no hour 24; it goes from 0 to 23");
    refused(
        "0 0 0 * *",
        4,
        "there is no day of the month 0; it goes from 1 to 31",
    );
    refused(
        "0 0 * 13 *",
        6,
        "there is no month 13; it goes from 1 to 12 or JAN to DEC",
    );
    refused(
        "0 0 * * 8",
        8,
        "there is no day of the week 8; it goes from 0 to 7 or SUN to SAT",
    );
    refused(
        "99999999999999999999 * * * *",
        0,
        "there is no minute 99999999999999999999",
    );
    refused("1,2,x * * * *", 4, "\"x\" is no minute");
    refused("1,,2 * * * *", 2, "the minute is missing here");
    refused("*/0 * * * *", 2, "a step of 0");
    refused("0/00 * * * *", 2, "a step of 0");
    refused("*/x * * * *", 2, "\"x\" is not a step");
    refused("1/2/3 * * * *", 2, "\"2/3\" is not a step");
    refused("/5 * * * *", 0, "the minute is missing here");
    refused("  5-1 * * * *", 2, "the range from 5 to 1 runs backwards");
    refused("0 0 * * FRI-MON", 8, "the range from FRI to MON runs backwards");
    refused("1-2-3 * * * *", 2, "\"2-3\" is no minute");
    refused("-5 * * * *", 0, "the minute is missing here");
    refused("+5 * * * *", 0, "\"+5\" is no minute");
    refused("0x1 * * * *", 0, "\"0x1\" is no minute");
    refused("0 0 L-3 * *", 4, "\"L\" is no day of the month");
    refused("0 0 15W * *", 4, "LW is the last workday");
    refused("0 0 ? * *", 4, "write * for any day");
    refused("H * * * *", 0, "Jenkins");
    refused("H/5 * * * *", 0, "Jenkins");
    refused("0 0 * foo *", 6, "\"foo\" is no month");
    refused("0 0 * * L", 8, "5L for the last Friday");
    refused("0 0 * * FRIL", 8, "5L for the last Friday");
    refused("0 0 * * 8L", 8, "there is no day of the week 8");
    refused("0 0 * * MON#6", 12, "after # comes 1 to 5");
    refused("0 0 * * 1-5#2", 8, "\"1-5\" is no day of the week");
    refused("0 0 * L *", 6, "\"L\" is no month");
    refused("0 0 31 2 *", 0, "this never comes");
    refused("0 0 30,31 2 *", 0, "this never comes");
}

#[test]
fn oncalendar_is_refused_with_place_and_reason() {
    refused("", 0, "there is nothing here");
    refused(" \n ", 0, "there is nothing here");
    refused("12:00\n\n13:00", 6, "there is nothing here");
    refused(
        "bad",
        0,
        "\"bad\" is neither five words of cron nor an OnCalendar expression",
    );
    refused("@daily", 0, "write daily");
    refused("@reboot", 0, "@reboot is not a time");
    refused(
        "* * * *",
        0,
        "cron has five words on one line (minute hour day month weekday); there are 4",
    );
    refused("* * * * * *", 0, "there are 6");
    refused("1 2 3", 0, "there are 3");
    refused("25:00", 0, "there is no hour 25; it goes from 0 to 23");
    refused("12:60", 3, "there is no minute 60");
    refused("12:00:60", 6, "there is no second 60");
    refused("12:00:0.5", 6, "\"0.5\" is no second");
    refused("1:2:3:4", 0, "too many parts");
    refused(":30", 0, "the hour is missing here");
    refused("*-13-* 00:00", 2, "there is no month 13");
    refused("*-*-32", 4, "there is no day of the month 32");
    refused("1969-1-1", 0, "there is no year 1969; it goes from 1970 to 2199");
    refused("1-2-3-4", 3, "too many parts");
    refused("*-*-~1", 3, "~ takes the place of the last hyphen");
    refused("*-*-*/2", 4, "\"*\" stands alone here");
    refused("*-*-1,* 1:0", 6, "\"*\" stands alone here");
    refused(
        "*-*~29",
        4,
        "from the end of the month, the day goes from 1 to 28",
    );
    refused("*-*~0", 4, "there is no day of the month 0");
    refused("17..9:00", 0, "the range from 17 to 9 runs backwards");
    refused("*:0/0", 4, "a step of 0");
    refused("Fri..Mon 10:00", 0, "\"Fri..Mon\" runs over the end of the week");
    refused("Mon,Fri..Tue 10:00", 4, "runs over the end of the week");
    refused("Mo 10:00", 0, "\"Mo\" is not a weekday");
    refused("Mon,,Tue 10:00", 4, "\"\" is not a weekday");
    refused(", 10:00", 0, "is not a weekday");
    refused("10:00 Mon", 6, "this word has no place");
    refused("10:00 europe/riga", 6, "this word has no place");
    refused("Europe/Nowhere", 0, "is not a time zone");
    refused("*-*-* 12:00\nnonsense", 12, "is neither");
    refused("*-*-* 12:00\n  25:00", 14, "there is no hour 25");
    refused("1999-01-01 00:00", 0, "this never comes");
    refused("2000-01-01 00:00", 0, "this never comes");
    refused("*-02-30", 0, "this never comes");
}

#[test]
fn a_position_counts_characters_and_not_bytes() {
    refused("\u{a0}\u{a0}0 24 * * *", 4, "there is no hour 24");
    refused("ä 24:00", 2, "there is no hour 24");
}

#[test]
fn a_zone_is_refused_by_name_before_the_expression_is_read() {
    for zone in ["", "utc", "UTC+2", "europe/riga", "bad/zone"] {
        let error = Schedule::parse("nonsense", zone).expect_err(zone);
        assert_eq!((error.field(), error.position()), (ScheduleField::Tz, 0));
        assert_eq!(
            error.to_string(),
            "tz, character 1: this is not a time zone; the name is spelt exactly as in Europe/Riga, or UTC"
        );
    }
}

#[test]
fn an_expression_has_at_most_a_hundred_characters() {
    let long = format!("*/5 * * * *{}", " ".repeat(89));
    assert!(Schedule::parse(&long, "UTC").is_ok());
    refused(&format!("{long} "), 100, "the expression is too long");
    refused(&"0:0\n".repeat(10_000), 100, "the expression is too long");
}

#[test]
fn a_sentence_stays_short_and_printable_however_odd_the_word() {
    let error = Schedule::parse(&format!("\u{7}{} * * * *", "x".repeat(80)), "UTC").expect_err("no minute");
    assert_eq!(
        error.to_string(),
        "schedule, character 1: \"\\u{7}xxxxxxxxxxxxxxxxxxxxxxx…\" is no minute; it goes from 0 to 59"
    );
}
