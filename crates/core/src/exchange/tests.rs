use super::*;
use crate::time::{Span, Timestamp};

fn outcome(end: End) -> Outcome {
    Outcome {
        end,
        phases: Phases::default(),
        peer: None,
        detail: String::new(),
    }
}

fn answered(status: u16) -> End {
    End::Answered(Answer {
        status,
        retry_after: None,
        excerpt: b"token=hunter2".to_vec(),
        truncated: false,
        location: None,
        headers: Vec::new(),
    })
}

#[test]
fn words_lead_back_to_what_they_name() {
    for class in Class::ALL {
        assert_eq!(Class::from_word(class.word()), Some(class));
    }
    for method in Method::ALL {
        assert_eq!(Method::from_word(method.word()), Some(method));
    }
    for class in ErrorClass::ALL {
        assert_eq!(ErrorClass::from_word(class.word()), Some(class));
    }
    for unknown in ["CONNECT", "TRACE", "get", "GET ", ""] {
        assert_eq!(Method::from_word(unknown), None, "{unknown:?}");
    }
}

#[test]
fn only_a_whole_answer_between_200_and_299_is_no_error() {
    use ErrorClass as E;
    let (phase, status) = (Phase::Body, Some(200));
    let table = [
        (answered(199), Some(E::HttpStatus)),
        (answered(200), None),
        (answered(299), None),
        (answered(301), Some(E::HttpStatus)),
        (End::NoAddress, Some(E::Dns)),
        (End::NoConnection, Some(E::Connect)),
        (End::NoTls, Some(E::Tls)),
        (End::Broken { phase, status }, Some(E::Connect)),
        (End::TimedOut { phase, status }, Some(E::Timeout)),
        (End::TooLarge { status }, Some(E::TooLarge)),
    ];
    for (end, class) in table {
        let outcome = outcome(end);
        assert_eq!(outcome.error_class(), class, "{outcome:?}");
    }
}

#[test]
fn neither_a_request_nor_an_answer_prints_what_is_in_it() {
    let request = Request::new(
        Class::Webhook,
        Method::Post,
        "https://h.example.com/hunter2".into(),
    )
    .header("Authorization", "hunter2")
    .body("hunter2");
    let shown = format!("{request:?} {:?} {:?}", request.headers, outcome(answered(200)));
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_wish_to_be_called_later_is_seconds_or_a_date() {
    let now = Timestamp::parse_rfc3339("1994-11-06T08:49:07Z").unwrap();
    let table = [
        ("120", Some(120)),
        (" 0 ", Some(0)),
        ("99999999999999999999", Some(i64::from(u32::MAX))),
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30)),
        ("Sun, 06 Nov 1994 08:48:37 GMT", Some(0)),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
    ];
    for (value, secs) in table {
        let delay = RetryAfter::parse(value).map(|wish| wish.delay(now));
        assert_eq!(delay, secs.map(Span::from_secs), "{value:?}");
    }
}

#[test]
fn an_excerpt_cannot_move_the_cursor_or_turn_the_text() {
    assert_eq!(escaped(b"ok\n\tfine"), "ok\n\tfine");
    assert_eq!(escaped(b"\x1b[2Jgone"), "\\u{1b}[2Jgone");
    assert_eq!(escaped(b"a\r\nb\0"), "a\\u{d}\nb\\u{0}");
    assert_eq!(escaped("\u{202e}txt".as_bytes()), "\\u{202e}txt");
    assert_eq!(escaped(b"\xff"), "\u{fffd}");
    assert_eq!(escaped_line(b"ok\n\tfine"), "ok\\u{a}\\u{9}fine");
    // What is not seen: one of each kind, and what stands beside it.
    for c in "\u{ad}\u{600}\u{61c}\u{200b}\u{200f}\u{2028}\u{2029}\u{2060}\u{2066}\u{feff}\u{fffb}\u{e0001}\u{e0041}\u{85}".chars() {
        let name = format!("\\u{{{:x}}}", u32::from(c));
        assert_eq!(escaped(c.to_string().as_bytes()), name);
        assert_eq!(escaped_line(c.to_string().as_bytes()), name);
    }
    let seen = "Zoë 大 \u{2027}\u{202f}\u{fffc}\u{301}";
    assert_eq!(escaped(seen.as_bytes()), seen);
}

#[test]
fn a_text_is_cut_between_letters_and_says_so() {
    for (text, chars_max, expected) in [("ëë", 2, "ëë"), ("ëëx", 2, "ëë..."), ("", 0, ""), ("x", 0, "...")]
    {
        assert_eq!(cut(text, chars_max), expected);
    }
}
