//! Input from strangers: any text, any instant. Nothing panics, nothing runs on, every refusal points inside.

use proptest::prelude::*;

use super::*;

/// Text made of what expressions are made of, so that the parsers are met in depth.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "*",
        "/",
        "-",
        ",",
        "..",
        "~",
        ":",
        " ",
        " ",
        " ",
        "\n",
        "\t",
        "#",
        "L",
        "LW",
        "W",
        "?",
        "H",
        "@",
        "0",
        "1",
        "2",
        "5",
        "7",
        "9",
        "28",
        "29",
        "31",
        "60",
        "99",
        "2024",
        "99999999999999999999",
        "MON",
        "fri",
        "JAN",
        "Sunday",
        "UTC",
        "Europe/Riga",
        "daily",
        "* * *",
        "*-*-*",
        "0:0",
        "é",
        "\u{1c}",
        "\u{2003}",
        "ſ",
        "\0",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn check(expression: &str, zone: &str, after: i64) -> Result<(), TestCaseError> {
    match Schedule::parse(expression, zone) {
        Ok(schedule) => {
            prop_assert!(!schedule.describe().is_empty());
            let after = Timestamp::from_micros(after);
            let mut last = after;
            for occurrence in schedule.occurrences(after).take(4) {
                prop_assert!(occurrence.at > last);
                last = occurrence.at;
            }
        }
        Err(error) => {
            let chars = expression.chars().count();
            prop_assert!(error.position() <= chars, "{error} in {chars} characters");
            prop_assert!(!error.sentence().is_empty());
            prop_assert!(error.sentence().chars().count() < 300, "{error}");
            prop_assert!(!error.sentence().contains(char::is_control), "{error:?}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..160), after: i64) {
        check(&String::from_utf8_lossy(&bytes), "Europe/Riga", after)?;
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,40}", zone in ".{0,12}", after: i64) {
        check(&text, "UTC", after)?;
        check("daily", &zone, after)?;
    }

    #[test]
    fn any_heap_of_pieces_is_read_or_refused(text in pieces(), after: i64) {
        check(&text, "Australia/Lord_Howe", after)?;
    }

    #[test]
    fn any_five_fields_are_read_or_refused(
        fields in prop::collection::vec("[0-9*,/#LWA-Z-]{1,7}|\\*|[0-9]|\\*/[0-9]", 5),
        after in 0i64..4_000_000_000_000_000,
    ) {
        check(&fields.join(" "), "America/St_Johns", after)?;
    }

    #[test]
    fn any_date_and_time_are_read_or_refused(
        text in "((Mon|Tue|sat)(,|\\.\\.)(Fri|Sun) )?[0-9*~,./-]{1,9}[-~][0-9*./]{1,4} [0-9*]{1,2}:[0-9*/.,]{1,5}(:[0-9]{1,2})?",
        after in 0i64..4_000_000_000_000_000,
    ) {
        check(&text, "Africa/Casablanca", after)?;
    }
}

#[test]
fn instants_at_the_ends_of_time_are_answered() {
    for expression in ["* * * * *", "30 3 * * *", "0 0 29 2 *", "daily", "*:*:*"] {
        for zone in ["UTC", "Europe/Riga", "Pacific/Apia", "Pacific/Kiritimati"] {
            let schedule = schedule(expression, zone);
            for after in [i64::MIN, i64::MIN + 1, -62_135_596_800_000_000, -1, 0] {
                let after = Timestamp::from_micros(after);
                assert!(
                    schedule.next_after(after).is_some_and(|at| at > after),
                    "{expression} in {zone}"
                );
            }
            for after in [253_402_300_799_999_999, i64::MAX - 1, i64::MAX] {
                assert_eq!(
                    schedule.next_after(Timestamp::from_micros(after)),
                    None,
                    "{expression} in {zone}"
                );
            }
        }
    }
}

#[test]
fn a_year_of_a_five_minute_check_has_each_of_its_times() {
    let mut at = instant("2024-01-01T00:00:00Z");
    let end = instant("2025-01-01T00:00:00Z");
    let schedule = schedule("*/5 * * * *", "Australia/Lord_Howe");
    let mut count = 0;
    while at < end {
        let next = schedule.next_after(at).expect("without end");
        assert_eq!(next.as_micros() - at.as_micros(), 300 * MICROS, "after {at}");
        at = next;
        count += 1;
    }
    assert_eq!(count, 366 * 24 * 12);
}
