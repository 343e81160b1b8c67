//! A mail relay behind the door: a script of what it says, what it waits for, when it shakes hands. What it heard is
//! looked at afterwards.

use std::sync::{Arc, Mutex};

use allswell_core::exchange::{Budget, Class, Outcome};
use allswell_core::policy::Policy;
use allswell_core::relay::{Mailbox, Relay};
use allswell_core::secret::Secret;
use allswell_core::time::Span;
use allswell_outbound::{Proxy, Reply, Session, SmtpEnd};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio_rustls::TlsAcceptor;

use crate::secure::acceptor;
use crate::world::{World, found};

/// What a relay does, one after the other; then it closes.
#[derive(Clone)]
pub enum Act {
    Say(Vec<u8>),
    /// Reads a line that must begin so.
    Hear(&'static str),
    Shake,
    /// Says this for ever.
    Repeat(&'static [u8]),
    /// Never does anything again.
    Hang,
}
pub use Act::{Hang, Hear, Repeat, Shake};

pub fn say(text: &str) -> Act {
    Act::Say(text.as_bytes().to_vec())
}

/// From the greeting to the end of STARTTLS.
pub fn until_tls() -> Vec<Act> {
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

type Lines = Arc<Mutex<Vec<String>>>;

/// What a relay notes, for all of its connections.
#[derive(Clone, Default)]
struct Notes {
    heard: Lines,
    /// What the script did not wait for. Nobody joins the tasks that play it: [`Strayed`] looks at this.
    strayed: Lines,
}

async fn play(stream: Box<dyn Both>, script: Vec<Act>, acceptor: TlsAcceptor, notes: Notes) -> Option<()> {
    let mut stream = BufReader::new(stream);
    for act in script {
        match act {
            Act::Say(bytes) => stream.write_all(&bytes).await.ok()?,
            Hear(prefix) => {
                let mut line = String::new();
                stream.read_line(&mut line).await.ok()?;
                if line.is_empty() {
                    return None;
                }
                notes.heard.lock().unwrap().push(line.clone());
                if !line.starts_with(prefix) || !line.ends_with("\r\n") {
                    notes
                        .strayed
                        .lock()
                        .unwrap()
                        .push(format!("{prefix} was awaited: {line:?}"));
                    return None;
                }
            }
            Shake => {
                if !stream.buffer().is_empty() {
                    let early = format!("said before the handshake: {:?}", stream.buffer());
                    notes.strayed.lock().unwrap().push(early);
                    return None;
                }
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

pub struct Relayed {
    pub world: World,
    ca: Vec<u8>,
    notes: Notes,
    _strayed: Strayed,
}

impl Relayed {
    pub fn new(script: Vec<Act>) -> Self {
        Self::with(script, acceptor(&["relay.example.com"], |_| {}))
    }

    pub fn with(script: Vec<Act>, (acceptor, ca): (TlsAcceptor, Vec<u8>)) -> Self {
        let notes = Notes::default();
        let world = World::new({
            let notes = notes.clone();
            move |_, stream| {
                tokio::spawn(play(
                    Box::new(stream),
                    script.clone(),
                    acceptor.clone(),
                    notes.clone(),
                ));
            }
        })
        .addresses("relay.example.com", &["1.1.1.1"])
        .name("both.example.com", &[found(&["1.1.1.1", "10.0.0.1"])]);
        Relayed {
            world,
            ca,
            _strayed: Strayed(notes.strayed.clone()),
            notes,
        }
    }

    pub async fn open(&self, url: &str) -> Result<Session, Box<Outcome>> {
        self.open_as(url, Policy::default(), None).await
    }

    pub async fn open_as(
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
    pub async fn begin(&self) -> Result<(Session, Reply), SmtpEnd> {
        let mut session = self
            .open("smtp://relay.example.com")
            .await
            .map_err(|_| SmtpEnd::Closed)?;
        session.greeting().await?;
        let reply = session.ehlo("allswell.example.org").await?;
        Ok((session, reply))
    }

    pub async fn begin_and_secure(&self) -> Result<(Session, Reply), SmtpEnd> {
        let (mut session, _) = self.begin().await?;
        let reply = session.starttls().await?;
        Ok((session, reply))
    }

    pub fn heard(&self) -> Vec<String> {
        self.notes.heard.lock().unwrap().clone()
    }
}

/// Looked at when the test is over.
struct Strayed(Lines);

impl Drop for Strayed {
    fn drop(&mut self) {
        let strayed = self.0.lock().unwrap();
        if std::thread::panicking() {
            eprintln!("not in the script: {strayed:?}");
        } else {
            assert!(strayed.is_empty(), "{strayed:?}");
        }
    }
}

/// How a dialogue ended, from whichever of its steps.
pub fn end<T>(result: Result<T, SmtpEnd>) -> SmtpEnd {
    result.err().expect("it ended")
}

pub fn password() -> Secret<String> {
    Secret::new("open sesame".to_owned())
}

pub fn address(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}
