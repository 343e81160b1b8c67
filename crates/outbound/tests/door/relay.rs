//! The dialogue with mail relays that are right, slow, endless, lying or not alone on their line.
//!
//! A relay is a script: what it says, what it waits for, when it shakes hands. What it heard is looked at afterwards.

use std::sync::{Arc, Mutex};

use allswell_core::exchange::{Budget, Class, End, Outcome, Phase};
use allswell_core::limits;
use allswell_core::policy::Policy;
use allswell_core::refusal::Rule;
use allswell_core::relay::{Mailbox, Relay};
use allswell_core::secret::Secret;
use allswell_core::time::Span;
use allswell_outbound::{Mechanism, Offers, Proxy, ProxyMode, Reply, Session, SignIn, SmtpEnd};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio_rustls::TlsAcceptor;

use crate::secure::acceptor;
use crate::world::{Dead, World, found};

/// What a relay does, one after the other; then it closes.
#[derive(Clone)]
enum Act {
    Say(Vec<u8>),
    /// Reads a line that must begin so.
    Hear(&'static str),
    Shake,
    /// Says this for ever.
    Repeat(&'static [u8]),
    /// Never does anything again.
    Hang,
}
use Act::{Hang, Hear, Repeat, Shake};

fn say(text: &str) -> Act {
    Act::Say(text.as_bytes().to_vec())
}

/// From the greeting to the end of STARTTLS.
fn until_tls() -> Vec<Act> {
    vec![
        say("220 relay.example ESMTP\r\n"),
        Hear("EHLO allswell.example.org"),
        say("250-relay.example\r\n250-SIZE 1000\r\n250 STARTTLS\r\n"),
        Hear("STARTTLS"),
        say("220 go ahead\r\n"),
        Shake,
    ]
}

trait Both: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Both for S {}

type Heard = Arc<Mutex<Vec<String>>>;

async fn play(stream: Box<dyn Both>, script: Vec<Act>, acceptor: TlsAcceptor, heard: Heard) -> Option<()> {
    let mut stream = BufReader::new(stream);
    for act in script {
        match act {
            Act::Say(bytes) => stream.write_all(&bytes).await.ok()?,
            Hear(prefix) => {
                let mut line = String::new();
                stream.read_line(&mut line).await.ok()?;
                heard.lock().unwrap().push(line.clone());
                assert!(
                    line.starts_with(prefix) && line.ends_with("\r\n"),
                    "{prefix}: {line:?}"
                );
            }
            Shake => {
                assert!(
                    stream.buffer().is_empty(),
                    "something was said before the handshake"
                );
                let shaken = acceptor.accept(stream.into_inner()).await.ok()?;
                stream = BufReader::new(Box::new(shaken));
            }
            Repeat(bytes) => loop {
                stream.write_all(bytes).await.ok()?;
            },
            Hang => std::future::pending().await,
        }
    }
    stream.shutdown().await.ok()
}

struct Relayed {
    world: World,
    ca: Vec<u8>,
    heard: Heard,
}

impl Relayed {
    fn new(script: Vec<Act>) -> Self {
        Self::with(script, acceptor(&["relay.example.com"], |_| {}))
    }

    fn with(script: Vec<Act>, (acceptor, ca): (TlsAcceptor, Vec<u8>)) -> Self {
        let heard = Heard::default();
        let world = World::new({
            let heard = heard.clone();
            move |_, stream| {
                tokio::spawn(play(
                    Box::new(stream),
                    script.clone(),
                    acceptor.clone(),
                    heard.clone(),
                ));
            }
        })
        .addresses("relay.example.com", &["1.1.1.1"])
        .name("both.example.com", &[found(&["1.1.1.1", "10.0.0.1"])]);
        Relayed { world, ca, heard }
    }

    async fn open(&self, url: &str) -> Result<Session, Box<Outcome>> {
        self.open_as(url, Policy::default(), None).await
    }

    async fn open_as(
        &self,
        url: &str,
        policy: Policy,
        proxy: Option<Proxy>,
    ) -> Result<Session, Box<Outcome>> {
        let client = self.world.client_with(policy, proxy, Some(self.ca.clone()));
        let budget = Budget {
            total: Span::from_secs(15),
            ..Budget::default()
        };
        client
            .relay(Class::Operator, &Relay::parse(url).unwrap(), budget)
            .await
    }

    /// What happened to a dialogue up to the answer to EHLO.
    async fn begin(&self) -> Result<(Session, Reply), SmtpEnd> {
        let mut session = self
            .open("smtp://relay.example.com")
            .await
            .map_err(|_| SmtpEnd::Closed)?;
        session.greeting().await?;
        let reply = session.ehlo("allswell.example.org").await?;
        Ok((session, reply))
    }

    async fn begin_and_secure(&self) -> Result<(Session, Reply), SmtpEnd> {
        let (mut session, _) = self.begin().await?;
        let reply = session.starttls().await?;
        Ok((session, reply))
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

/// How a dialogue ended, from whichever of its steps.
fn end<T>(result: Result<T, SmtpEnd>) -> SmtpEnd {
    result.err().expect("it ended")
}

fn password() -> Secret<String> {
    Secret::new("open sesame".to_owned())
}

fn address(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

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

#[tokio::test]
async fn smtps_is_secure_before_the_first_word() {
    let relay = Relayed::new(vec![
        Shake,
        say("220 relay.example\r\n"),
        Hear("QUIT"),
        say("221 bye\r\n"),
    ]);
    let mut session = relay.open("smtps://relay.example.com").await.unwrap();
    assert!(session.secured().is_some());
    assert_eq!(session.greeting().await.unwrap().code, 220);
    session.quit().await.unwrap();
}

#[tokio::test]
async fn a_certificate_of_somebody_else_is_not_believed() {
    let wrong = || acceptor(&["other.example.com"], |_| {});
    let relay = Relayed::with(until_tls(), wrong());
    assert!(
        matches!(end(relay.begin_and_secure().await), SmtpEnd::NoTls(why) if why.contains("certificate"))
    );
    let relay = Relayed::with(vec![Shake], wrong());
    let outcome = relay.open("smtps://relay.example.com").await.err().unwrap();
    assert_eq!(outcome.end, End::NoTls);
    assert!(
        outcome.phases.connect.is_some() && outcome.peer.is_some(),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn nothing_more_is_said_after_a_handshake_that_failed() {
    let relay = Relayed::with(until_tls(), acceptor(&["other.example.com"], |_| {}));
    let (mut session, _) = relay.begin().await.unwrap();
    assert!(matches!(end(session.starttls().await), SmtpEnd::NoTls(_)));
    assert_eq!(end(session.ehlo("allswell.example.org").await), SmtpEnd::Closed);
    assert!(session.secured().is_none());
    assert_eq!(
        end(session.sign_in(Mechanism::Plain, "alice", &password()).await),
        SmtpEnd::InTheClear
    );
}

#[tokio::test]
async fn what_follows_the_reply_to_starttls_in_the_clear_ends_the_dialogue() {
    // In one piece with the reply, as somebody on the way would put it there; also less than a line of it.
    for injected in [
        "250-relay.example\r\n250 AUTH PLAIN\r\n",
        "250 AUTH PLAIN\r\n",
        "2",
    ] {
        let mut script = until_tls();
        script[4] = say(&format!("220 go ahead\r\n{injected}"));
        let relay = Relayed::new(script);
        assert_eq!(
            end(relay.begin_and_secure().await),
            SmtpEnd::Unasked,
            "{injected:?}"
        );
        assert_eq!(relay.heard().len(), 2, "nothing was said after it");
    }
}

#[tokio::test]
async fn a_piece_that_comes_before_the_handshake_is_no_part_of_tls() {
    let mut script = until_tls();
    script.insert(5, say("250 AUTH PLAIN\r\n"));
    let end = end(Relayed::new(script).begin_and_secure().await);
    assert!(matches!(end, SmtpEnd::NoTls(_) | SmtpEnd::Unasked), "{end:?}");
}

#[tokio::test]
async fn a_password_never_goes_unencrypted() {
    let relay = Relayed::new(vec![
        say("220 relay.example\r\n"),
        Hear("EHLO "),
        say("250-relay.example\r\n250 AUTH PLAIN LOGIN\r\n"),
        Hear("STARTTLS"),
        say("454 not now\r\n"),
        Hear("NOTHING"),
    ]);
    let (mut session, reply) = relay.begin_and_secure().await.unwrap();
    assert_eq!(reply.code, 454);
    for mechanism in Mechanism::ALL {
        let end = end(session.sign_in(mechanism, "alice", &password()).await);
        assert_eq!(end, SmtpEnd::InTheClear);
    }
    assert_eq!(relay.heard().len(), 2, "{:?}", relay.heard());
}

#[tokio::test]
async fn a_password_that_is_wrong_is_the_relays_word() {
    let signed_in = async |acts: Vec<Act>, mechanism, password: &Secret<String>| {
        let mut script = vec![Shake];
        script.extend(acts);
        let relay = Relayed::new(script);
        let mut session = relay.open("smtps://relay.example.com").await.unwrap();
        (session.sign_in(mechanism, "alice", password).await, relay.heard())
    };
    let refused = || say("535-5.7.8 no\r\n535 5.7.8 such user\r\n");
    let acts = vec![Hear("AUTH PLAIN "), refused()];
    let (reply, _) = signed_in(acts, Mechanism::Plain, &password()).await;
    let refused_by = |came: Result<SignIn, SmtpEnd>| match came {
        Ok(SignIn::Refused(reply)) => reply.words(100),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused_by(reply), "535 5.7.8");
    let acts = vec![
        Hear("AUTH LOGIN\r\n"),
        say("334 VXNlcm5hbWU6\r\n"),
        Hear("YWxpY2U=\r\n"),
        say("334\r\n"),
        Hear("b3BlbiBzZXNhbWU=\r\n"),
        refused(),
    ];
    let (reply, heard) = signed_in(acts, Mechanism::Login, &password()).await;
    assert_eq!((refused_by(reply).as_str(), heard.len()), ("535 5.7.8", 3));
    // Refused at the user: the password is not said.
    let acts = vec![
        Hear("AUTH LOGIN\r\n"),
        say("334\r\n"),
        Hear("YWxpY2U=\r\n"),
        refused(),
        Hear("NOTHING"),
    ];
    let (reply, heard) = signed_in(acts, Mechanism::Login, &password()).await;
    assert_eq!((refused_by(reply).as_str(), heard.len()), ("535 5.7.8", 2));
    // One that is too long for a command is said after the challenge.
    let long = Secret::new("p".repeat(limits::RELAY_PASSWORD_BYTES_MAX));
    let acts = vec![
        Hear("AUTH PLAIN\r\n"),
        say("334 \r\n"),
        Hear("AGFsaWNlAHBw"),
        say("235 ok\r\n"),
    ];
    let (reply, _) = signed_in(acts, Mechanism::Plain, &long).await;
    assert_eq!(reply, Ok(SignIn::Believed));
    // Believed without the password; in PLAIN it is told at once.
    for acts in [
        vec![Hear("AUTH LOGIN\r\n"), say("235 ok\r\n")],
        vec![
            Hear("AUTH LOGIN\r\n"),
            say("334\r\n"),
            Hear("YWxpY2U=\r\n"),
            say("235 ok\r\n"),
        ],
    ] {
        let (reply, _) = signed_in(acts, Mechanism::Login, &password()).await;
        assert_eq!(reply, Ok(SignIn::Unproven));
    }
    // Asked for more, which is cancelled.
    for end in ["501 5.7.0 cancelled\r\n", ""] {
        let acts = vec![
            Hear("AUTH PLAIN "),
            say("334 b3RwPw==\r\n"),
            Hear("*\r\n"),
            say(end),
        ];
        let (reply, heard) = signed_in(acts, Mechanism::Plain, &password()).await;
        assert_eq!((reply, heard[1].as_str()), (Ok(SignIn::MoreAsked), "*\r\n"));
    }
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
