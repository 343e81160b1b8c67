use super::*;
use crate::exchange::{Answer, Phase, Phases};
use crate::refusal::{Refusal, Rule};

const NOW: Timestamp = Timestamp::from_secs(1_769_860_800);

fn outcome(end: End) -> Outcome {
    Outcome {
        end,
        phases: Phases::default(),
        peer: None,
        detail: String::new(),
    }
}

fn answered(status: u16, retry_after: Option<RetryAfter>) -> Outcome {
    outcome(End::Answered(Answer {
        status,
        retry_after,
        excerpt: Vec::new(),
        truncated: false,
        location: None,
        headers: Vec::new(),
    }))
}

fn failures() -> Vec<Outcome> {
    let (phase, status) = (Phase::Body, Some(200));
    vec![
        outcome(End::NoAddress),
        outcome(End::NoConnection),
        outcome(End::NoTls),
        outcome(End::Broken { phase, status }),
        outcome(End::TimedOut { phase, status }),
        outcome(End::TooLarge { status: None }),
    ]
}

/// Attempt `n` of a delivery that was promised at [`NOW`], judged this many seconds later, with a day to go.
fn judged(outcome: &Outcome, n: u64, secs: i64) -> Verdict {
    let schedule = Schedule::default();
    let bounds = Bounds {
        schedule: &schedule,
        expires_at: NOW + Span::from_days(1),
        tries_max: u64::MAX,
    };
    let now = NOW + Span::from_secs(secs);
    judge(outcome, n, now, bounds, &mut Dice::from_number(n))
}

/// Seconds until the next try.
fn wait_after(outcome: &Outcome, n: u64) -> Option<f64> {
    match judged(outcome, n, 100) {
        Verdict::Again(at) => Some((at - NOW).as_micros() as f64 / 1e6 - 100.0),
        Verdict::Done | Verdict::GiveUp(_) => None,
    }
}

#[test]
fn each_answer_has_its_verdict() {
    use GiveUp::{Blocked, Gone, Refused};
    let end = |status, n| match judged(&answered(status, None), n, 1) {
        Verdict::Done => "done",
        Verdict::Again(_) => "again",
        Verdict::GiveUp(reason) => reason.word(),
    };
    // Status, and what follows from the first, second, third and seventh attempt.
    let table = [
        (200, ["done"; 4]),
        (204, ["done"; 4]),
        (299, ["done"; 4]),
        (301, ["again", "again", Refused.word(), Refused.word()]),
        (400, ["again", "again", Refused.word(), Refused.word()]),
        (404, ["again", "again", Refused.word(), Refused.word()]),
        (410, [Gone.word(); 4]),
        (408, ["again"; 4]),
        (425, ["again"; 4]),
        (429, ["again"; 4]),
        (500, ["again"; 4]),
        (503, ["again"; 4]),
        (599, ["again"; 4]),
    ];
    for (status, expected) in table {
        assert_eq!([1, 2, 3, 7].map(|n| end(status, n)), expected, "{status}");
    }
    for failure in failures() {
        assert!(matches!(judged(&failure, 9, 1), Verdict::Again(_)), "{failure:?}");
    }
    let blocked = outcome(End::Blocked(Refusal::of(Rule::Address)));
    assert_eq!(judged(&blocked, 1, 1), Verdict::GiveUp(Blocked));
}

#[test]
fn waits_follow_the_schedule_within_a_fifth() {
    let expected = [
        2.0, 10.0, 60.0, 300.0, 1_800.0, 7_200.0, 21_600.0, 21_600.0, 21_600.0,
    ];
    for (n, wait) in (1..).zip(expected) {
        let waited = wait_after(&answered(500, None), n).expect("another try");
        assert!((0.8 * wait..=1.2 * wait).contains(&waited), "after {n}: {waited}");
    }
}

#[test]
fn the_jitter_uses_its_whole_range() {
    let mut dice = Dice::from_number(5);
    let rolls: Vec<i64> = (0..2_000)
        .map(|_| jittered(Span::from_secs(10), &mut dice).as_micros())
        .collect();
    let (low, high) = (
        rolls.iter().min().expect("rolls"),
        rolls.iter().max().expect("rolls"),
    );
    assert!((8_000_000..8_100_000).contains(low), "{low}");
    assert!((11_900_000..=12_000_000).contains(high), "{high}");
}

#[test]
fn the_first_three_tries_are_over_within_105_seconds() {
    let mut dice = Dice::from_number(2);
    for _ in 0..200 {
        let waits: i64 = [1, 2]
            .map(|n| jittered(Schedule::default().after(n), &mut dice).as_micros())
            .iter()
            .sum();
        assert!(waits + 3 * 30_000_000 <= 104_400_000, "{waits}");
    }
}

#[test]
fn a_receiver_can_ask_for_a_longer_wait_and_for_no_shorter_one() {
    let wait = |status, wish, n| wait_after(&answered(status, Some(wish)), n).expect("another try");
    assert_eq!(wait(429, RetryAfter::Seconds(120), 1), 120.0);
    assert_eq!(wait(503, RetryAfter::At(NOW + Span::from_secs(400)), 1), 300.0);
    assert_eq!(wait(503, RetryAfter::Seconds(86_400), 1), 3_600.0);
    assert_eq!(wait(503, RetryAfter::Seconds(u32::MAX), 1), 3_600.0);
    for shorter in [RetryAfter::Seconds(0), RetryAfter::At(NOW)] {
        assert!(wait(503, shorter, 3) >= 48.0, "{shorter:?}");
    }
}

#[test]
fn no_try_starts_after_the_end() {
    let day = 86_400;
    assert_eq!(
        judged(&answered(500, None), 9, day - 100),
        Verdict::GiveUp(GiveUp::Exhausted)
    );
    assert!(matches!(
        judged(&answered(500, None), 1, day - 100),
        Verdict::Again(_)
    ));
    assert_eq!(judged(&answered(200, None), 1, day + 100), Verdict::Done);
}

#[test]
fn a_test_has_one_try() {
    let schedule = Schedule::default();
    let bounds = Bounds {
        schedule: &schedule,
        expires_at: NOW + Span::from_days(1),
        tries_max: 1,
    };
    let judge = |outcome: &Outcome| judge(outcome, 1, NOW, bounds, &mut Dice::from_number(1));
    assert_eq!(judge(&answered(200, None)), Verdict::Done);
    assert_eq!(judge(&answered(500, None)), Verdict::GiveUp(GiveUp::Exhausted));
    assert_eq!(judge(&answered(404, None)), Verdict::GiveUp(GiveUp::Refused));
}

#[test]
fn a_breaker_counts_targets_that_fail_and_not_requests_that_are_refused() {
    let table = [
        (200, false),
        (404, false),
        (410, false),
        (429, false),
        (301, false),
        (500, true),
        (503, true),
    ];
    for (status, fails) in table {
        assert_eq!(target_fails(&answered(status, None)), Some(fails), "{status}");
    }
    assert!(
        failures()
            .iter()
            .all(|failure| target_fails(failure) == Some(true))
    );
    assert_eq!(
        target_fails(&outcome(End::Blocked(Refusal::of(Rule::Port)))),
        None
    );
}

#[test]
fn the_fast_phase_ends_by_tries_or_by_time() {
    let after = |secs| NOW + Span::from_secs(secs);
    assert!(!fast_phase_is_over(0, NOW, after(94)));
    assert!(!fast_phase_is_over(2, NOW, after(94)));
    assert!(fast_phase_is_over(3, NOW, after(14)));
    assert!(fast_phase_is_over(0, NOW, after(95)));
}

#[test]
fn a_schedule_is_read_or_refused_with_the_word() {
    let secs = |list: &[i64]| Schedule(list.iter().copied().map(Span::from_secs).collect());
    assert_eq!(
        Schedule::parse("2s 10s 60s 5m 30m 2h 6h"),
        Ok(Schedule::default())
    );
    assert_eq!(Schedule::default().to_string(), "2s 10s 60s 5m 30m 2h 6h");
    assert_eq!(Schedule::parse(" 24h "), Ok(secs(&[86_400])));
    for (text, says) in [
        ("", "at least one"),
        ("2", "\"2\""),
        ("s", "\"s\""),
        ("0s", "\"0s\""),
        ("-5s", "\"-5s\""),
        ("+5s", "\"+5s\""),
        ("25h", "\"25h\""),
        ("2s 1d", "\"1d\""),
        ("9223372036854775807h", "no wait"),
        ("5é", "no wait"),
    ] {
        let error = Schedule::parse(text).expect_err(text).to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
    assert!(Schedule::parse(&"1s ".repeat(33)).is_err());
}
