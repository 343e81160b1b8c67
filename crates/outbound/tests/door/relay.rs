//! The dialogue with mail relays that are right, slow, endless, lying or not alone on their line.

use allswell_core::exchange::{End, Phase};
use allswell_core::limits;
use allswell_core::policy::Policy;
use allswell_core::refusal::Rule;
use allswell_core::time::Span;
use allswell_outbound::{Mechanism, Offers, Proxy, ProxyMode, SignIn, SmtpEnd};

use crate::relayed::{Act, Hang, Hear, Relayed, Repeat, address, end, password, say, until_tls};
use crate::world::Dead;

#[tokio::test]
async fn a_good_relay_is_asked_for_everything_and_sent_nothing() {
    let mut script = until_tls();
    script.extend([
        Hear("EHLO allswell.example.org"),
        say("250-relay.example\r\n250-AUTH PLAIN LOGIN\r\n250 SIZE 2000\r\n"),
        Hear("AUTH PLAIN "),
        say("235 2.7.0 welcome\r\n"),
        Hear("MAIL FROM:<a@example.org>"),
        say("250 ok\r\n"),
        Hear("RCPT TO:<b@example.net>"),
        say("550 5.7.1 relay access denied\r\n"),
        Hear("RSET"),
        say("250 ok\r\n"),
        Hear("QUIT"),
        say("221 bye\r\n"),
    ]);
    let relay = Relayed::new(script);
    let mut session = relay.open("smtp://alice@relay.example.com").await.unwrap();
    assert_eq!(session.peer(), Some("1.1.1.1:587".parse().unwrap()));
    assert!(!session.is_local() && session.secured().is_none());
    assert_eq!(
        session.greeting().await.unwrap().words(100),
        "220 relay.example ESMTP"
    );
    let before = Offers::of(&session.ehlo("allswell.example.org").await.unwrap());
    assert!(before.starttls && before.mechanisms.is_empty());
    assert_eq!(session.starttls().await.unwrap().code, 220);
    assert!(session.secured().is_some() && session.phases().tls.is_some());
    let after = Offers::of(&session.ehlo("allswell.example.org").await.unwrap());
    assert_eq!((after.starttls, after.size_bytes), (false, Some(2000)));
    assert_eq!(after.mechanisms, ["PLAIN", "LOGIN"]);
    let signed_in = session
        .sign_in(Mechanism::Plain, "alice", &password())
        .await
        .unwrap();
    assert_eq!(signed_in, SignIn::Believed);
    assert!(
        session
            .mail_from(&address("a@example.org"))
            .await
            .unwrap()
            .is_done()
    );
    let denied = session.rcpt_to(&address("b@example.net")).await.unwrap();
    assert_eq!(denied.words(100), "550 5.7.1 relay access denied");
    assert!(!denied.is_done() && !denied.is_for_now());
    assert!(session.reset().await.unwrap().is_done());
    session.quit().await.unwrap();
    // printf '\0alice\0open sesame' | base64
    assert_eq!(relay.heard()[3], "AUTH PLAIN AGFsaWNlAG9wZW4gc2VzYW1l\r\n");
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_is_none_is_told_and_costs_no_more_than_its_bounds() {
    let long = "x".repeat(limits::SMTP_REPLY_LINE_BYTES_MAX);
    let garbled = |end: SmtpEnd| matches!(end, SmtpEnd::Garbled(_));
    type Expected = fn(SmtpEnd) -> bool;
    let table: [(&str, Vec<Act>, Expected); 12] = [
        ("closes at once", vec![], |end| end == SmtpEnd::Closed),
        ("closes within a line", vec![say("220 rel")], |end| {
            end == SmtpEnd::Closed
        }),
        ("closes within a reply", vec![say("220-relay\r\n")], |end| {
            end == SmtpEnd::Closed
        }),
        ("says nothing", vec![Hang], |end| end == SmtpEnd::TimedOut),
        ("endless lines", vec![Repeat(b"220-relay\r\n")], garbled),
        ("an endless line", vec![Repeat(b"220 relay ")], garbled),
        (
            "a line that is too long",
            vec![say(&format!("220 {long}\r\n")), Hang],
            garbled,
        ),
        (
            "HTTP",
            vec![say("HTTP/1.1 400 Bad Request\r\n\r\n"), Hang],
            garbled,
        ),
        ("SSH", vec![say("SSH-2.0-OpenSSH_9.2\r\n"), Hang], garbled),
        ("TLS", vec![say("\u{15}\u{3}\u{1}\0\u{2}\u{2}F\n"), Hang], garbled),
        (
            "two codes",
            vec![say("220-relay\r\n221 relay\r\n"), Hang],
            garbled,
        ),
        ("no CR", vec![say("220 relay\n"), Hang], garbled),
    ];
    for (name, script, expected) in table {
        let mut session = Relayed::new(script)
            .open("smtp://relay.example.com")
            .await
            .unwrap();
        let first = end(session.greeting().await);
        assert!(expected(first.clone()), "{name}: {first:?}");
        let later = end(session.reset().await);
        assert!(
            matches!(later, SmtpEnd::Closed | SmtpEnd::Unasked),
            "{name}: {later:?}"
        );
        if first == SmtpEnd::TimedOut {
            let waited = session.phases().first_byte.map(Span::as_secs);
            assert_eq!(waited, Some(15), "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reply_in_small_pieces_is_read_and_its_time_is_that_of_all() {
    let pieces = "220-relay\r\n220 relay.example\r\n"
        .bytes()
        .map(|byte| Act::Say(vec![byte]));
    let relay = Relayed::new(pieces.chain([Hang]).collect());
    let mut session = relay.open("smtp://relay.example.com").await.unwrap();
    assert_eq!(
        session.greeting().await.unwrap().words(100),
        "220 relay / relay.example"
    );
    assert_eq!(end(session.ehlo("allswell.example.org").await), SmtpEnd::TimedOut);
    assert_eq!(end(session.reset().await), SmtpEnd::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_that_nobody_answers_is_not_waited_for_long() {
    let relay = Relayed::new(vec![say("220 relay.example\r\n"), Hear("QUIT"), Hang]);
    let mut session = relay.open("smtp://relay.example.com").await.unwrap();
    session.greeting().await.unwrap();
    // The time of a test is paused: it goes on to whichever of the two ends first.
    let gone = tokio::time::timeout(std::time::Duration::from_secs(3), session.quit()).await;
    assert_eq!(gone.expect("it was waited for longer"), Err(SmtpEnd::TimedOut));
}

#[tokio::test]
async fn who_speaks_before_being_asked_is_not_talked_to() {
    let relay = Relayed::new(vec![
        say("220 relay.example\r\n250 relay.example\r\n"),
        Hear("NOTHING"),
    ]);
    assert_eq!(end(relay.begin().await), SmtpEnd::Unasked);
    assert!(relay.heard().is_empty());
}

#[tokio::test]
async fn a_refusal_to_talk_is_a_reply() {
    for greeting in ["421 4.3.2 too busy\r\n", "554 go away\r\n"] {
        let relay = Relayed::new(vec![say(greeting)]);
        let mut session = relay.open("smtp://relay.example.com").await.unwrap();
        let reply = session.greeting().await.unwrap();
        assert_eq!(reply.words(100), greeting.trim_end());
        assert_eq!(reply.is_for_now(), reply.code == 421);
    }
}

#[tokio::test(start_paused = true)]
async fn a_relay_is_judged_like_everything_else_that_is_called() {
    let relay = Relayed::new(vec![say("220 relay.example\r\n")]);
    for (url, rule) in [
        ("smtp://10.0.0.1", Rule::Address),
        ("smtp://both.example.com", Rule::Address),
        ("smtp://169.254.169.254", Rule::Metadata),
        ("smtps://localhost", Rule::Name),
    ] {
        let outcome = relay.open(url).await.err().unwrap();
        assert!(
            matches!(&outcome.end, End::Blocked(refusal) if refusal.rule == rule),
            "{outcome:?}"
        );
    }
    assert_eq!(relay.world.reached(), []);
    let outcome = relay.open("smtp://nobody.example.com").await.err().unwrap();
    assert_eq!(outcome.end, End::NoAddress);
    // On this machine nobody is between; what is reached through a proxy is not on this machine.
    let private = Policy {
        private: true,
        ..Policy::default()
    };
    let session = relay
        .open_as("smtp://127.0.0.1", private.clone(), None)
        .await
        .unwrap();
    assert!(session.is_local());
    // By whichever of its addresses; but not where every address seems to be one of them.
    for (ours, expected) in [
        (&["10.0.0.7"][..], true),
        (&["10.0.0.7", "192.0.2.1"], false),
        (&["10.0.0.8"], false),
    ] {
        let mut relay = Relayed::new(vec![say("220 relay.example\r\n")]);
        relay.world = ours
            .iter()
            .fold(relay.world, |world, address| world.local(address));
        let session = relay
            .open_as("smtp://10.0.0.7", private.clone(), None)
            .await
            .unwrap();
        assert_eq!(session.is_local(), expected, "{ours:?}");
    }
    let tunnel = Relayed::new(vec![
        Hear("CONNECT 1.1.1.1:587"),
        Hear("Host: 1.1.1.1:587"),
        Hear("\r\n"),
        say("HTTP/1.1 200 OK\r\n\r\n220 relay.example\r\n"),
        Hang,
    ]);
    let proxy = Proxy::parse("http://127.0.0.1:3128", ProxyMode::VettedIp).unwrap();
    let mut session = tunnel
        .open_as("smtp://relay.example.com", private, Some(proxy))
        .await
        .unwrap();
    assert!(!session.is_local());
    assert_eq!(session.greeting().await.unwrap().code, 220);
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_cannot_be_reached_is_told_by_its_part() {
    let reached = async |how| {
        let mut relay = Relayed::new(vec![]);
        relay.world = relay.world.dead("1.1.1.1", how);
        relay.open("smtp://relay.example.com").await.err().unwrap()
    };
    assert_eq!(reached(Dead::Refuses).await.end, End::NoConnection);
    let phase = Phase::Connect;
    assert_eq!(
        reached(Dead::Swallows).await.end,
        End::TimedOut { phase, status: None }
    );
}
