//! TLS and the sign-in to mail relays: who is believed, and what a password never does.

use allswell_core::exchange::End;
use allswell_core::limits;
use allswell_core::secret::Secret;
use allswell_outbound::{Mechanism, SignIn, SmtpEnd};

use crate::relayed::{Act, Hear, Relayed, Shake, end, password, say, until_tls};
use crate::secure::acceptor;

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
        Ok(SignIn::Refused { reply, told }) => (reply.words(100), told),
        other => panic!("{other:?}"),
    };
    let no = |told| ("535 5.7.8".to_owned(), told);
    assert_eq!(refused_by(reply), no(true));
    let acts = vec![
        Hear("AUTH LOGIN\r\n"),
        say("334 VXNlcm5hbWU6\r\n"),
        Hear("YWxpY2U=\r\n"),
        say("334\r\n"),
        Hear("b3BlbiBzZXNhbWU=\r\n"),
        refused(),
    ];
    let (reply, heard) = signed_in(acts, Mechanism::Login, &password()).await;
    assert_eq!((refused_by(reply), heard.len()), (no(true), 3));
    // Refused at the user: the password is not said.
    let acts = vec![
        Hear("AUTH LOGIN\r\n"),
        say("334\r\n"),
        Hear("YWxpY2U=\r\n"),
        refused(),
        Hear("NOTHING"),
    ];
    let (reply, heard) = signed_in(acts, Mechanism::Login, &password()).await;
    assert_eq!((refused_by(reply), heard.len()), (no(false), 2));
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
    let acts = vec![Hear("AUTH PLAIN\r\n"), refused(), Hear("NOTHING")];
    let (reply, heard) = signed_in(acts, Mechanism::Plain, &long).await;
    assert_eq!((refused_by(reply), heard.len()), (no(false), 1));
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
