//! One dialogue: a command, its reply, and TLS in the midst of it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use allswell_core::exchange::{Phase, Phases};
use allswell_core::limits;
use allswell_core::relay::Mailbox;
use allswell_core::secret::Secret;
use allswell_core::target::Endpoint;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::hush::Hush;
use super::reply::{Gathering, Reply};
use crate::tls;
use crate::watch::{Failure, Watch};

/// How long the answer to QUIT is waited for.
const QUIT_WAIT: Duration = Duration::from_secs(limits::SMTP_QUIT_SECS_MAX);

/// A connection, in the clear or not.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// How to prove who signs in (RFC 4616; LOGIN was never written down and is everywhere).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// User and password in one line.
    Plain,
    /// One after the other.
    Login,
}

impl Mechanism {
    /// Those that we know, the better one first.
    pub const ALL: [Mechanism; 2] = [Mechanism::Plain, Mechanism::Login];

    /// As relays offer it.
    pub const fn word(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
        }
    }
}

/// What came of a sign-in. Of the relay's replies nothing is left but their codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignIn {
    /// The relay knows who we are.
    Believed,
    /// It believed us before it was told the password: it knows us, and whether the password is right nobody knows.
    Unproven,
    /// It does not believe us.
    Refused {
        /// Its code, and that of RFC 3463.
        reply: Reply,
        /// Whether it was told the password before: else it did not like the mechanism, or the user.
        told: bool,
    },
    /// It was told all that the mechanism has, and asked for more. The exchange was cancelled.
    MoreAsked,
}

/// A dialogue that ended before its reply. Nothing more can be said in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SmtpEnd {
    /// The relay closed the connection.
    Closed,
    /// The time for all of it ran out.
    TimedOut,
    /// The connection broke.
    Broken(String),
    /// What came is no reply of SMTP.
    Garbled(&'static str),
    /// The relay said something that nobody had asked for, or somebody between said it: after STARTTLS it would be taken
    /// for a word of the secured relay.
    Unasked,
    /// No secure connection.
    NoTls(String),
    /// A password would have gone over a connection without TLS. It was not sent.
    InTheClear,
}

impl fmt::Display for SmtpEnd {
    /// What happened, without who and when.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SmtpEnd::Closed => f.write_str("the connection was closed"),
            SmtpEnd::TimedOut => f.write_str("no answer in time"),
            SmtpEnd::Broken(why) => write!(f, "the connection broke: {why}"),
            SmtpEnd::Garbled(what) => write!(f, "this is no SMTP: {what}"),
            SmtpEnd::Unasked => f.write_str("something was said that nobody had asked for"),
            SmtpEnd::NoTls(why) => write!(f, "no secure connection: {why}"),
            SmtpEnd::InTheClear => f.write_str("a password would go unencrypted, and was not sent"),
        }
    }
}

impl std::error::Error for SmtpEnd {}

/// What a session is opened with.
pub struct Opened {
    pub stream: Box<dyn Stream>,
    pub endpoint: Endpoint,
    pub tls: Arc<ClientConfig>,
    /// The version, if TLS stands already.
    pub secured: Option<&'static str>,
    /// See [`Session::is_local`].
    pub local: bool,
    pub watch: Watch,
}

/// A dialogue with a relay. May be dropped at any time: the connection is closed with it.
pub struct Session {
    dialogue: Dialogue,
    endpoint: Endpoint,
    tls: Arc<ClientConfig>,
    secured: Option<&'static str>,
    local: bool,
    watch: Watch,
    /// From the first line of a sign-in on.
    hush: Option<Hush>,
}

impl Session {
    pub(crate) fn new(opened: Opened) -> Self {
        Session {
            dialogue: Dialogue {
                stream: Some(opened.stream),
                buffer: Vec::new(),
            },
            endpoint: opened.endpoint,
            tls: opened.tls,
            secured: opened.secured,
            local: opened.local,
            watch: opened.watch,
            hush: None,
        }
    }

    /// The other end of the connection; with a proxy, the proxy's.
    pub const fn peer(&self) -> Option<SocketAddr> {
        self.watch.peer
    }

    /// Whether the relay is on this machine, so that nobody is between.
    pub const fn is_local(&self) -> bool {
        self.local
    }

    /// The version of TLS, if it stands.
    pub const fn secured(&self) -> Option<&'static str> {
        self.secured
    }

    /// How long the parts took so far; `first_byte` is the greeting.
    pub const fn phases(&self) -> &Phases {
        &self.watch.phases
    }

    /// What the relay says first; 220 if it takes commands.
    ///
    /// # Errors
    /// The dialogue ended.
    pub async fn greeting(&mut self) -> Result<Reply, SmtpEnd> {
        let reply = self.dialogue.reply();
        let read = self.watch.within(Phase::FirstByte, None, reply).await;
        self.ended_if(read.unwrap_or(Err(SmtpEnd::TimedOut)))
    }

    /// Says who we are, and asks what the relay offers ([`super::Offers::of`]). `name` is a host's, or an address in
    /// brackets.
    ///
    /// # Errors
    /// The dialogue ended.
    pub async fn ehlo(&mut self, name: &str) -> Result<Reply, SmtpEnd> {
        self.say(&format!("EHLO {name}")).await
    }

    /// Asks for TLS and, if the reply is 220, shakes hands: names and certificates as everywhere. What the relay offered
    /// before must be asked for again.
    ///
    /// # Errors
    /// The dialogue ended; also by [`SmtpEnd::Unasked`] if anything followed the reply before TLS stood.
    pub async fn starttls(&mut self) -> Result<Reply, SmtpEnd> {
        let reply = self.say("STARTTLS").await?;
        if reply.code != 220 {
            return Ok(reply);
        }
        // What is there already was said by whoever can write into a connection in the clear.
        if self.dialogue.expect_silence().is_err() {
            return self.ended_if(Err(SmtpEnd::Unasked));
        }
        let stream = self.dialogue.stream.take().ok_or(SmtpEnd::Closed)?;
        let (stream, version) = tls::handshake(&self.tls, &self.endpoint, stream, &mut self.watch)
            .await
            .map_err(|failure: Failure| SmtpEnd::NoTls(failure.detail))?;
        self.dialogue.stream = Some(Box::new(stream));
        self.secured = Some(version);
        Ok(reply)
    }

    /// Signs in. User and password must hold no NUL. From here on the password is covered in all that the relay says:
    /// relays repeat what they were told.
    ///
    /// # Errors
    /// The dialogue ended; [`SmtpEnd::InTheClear`] without TLS, whatever the relay offers.
    pub async fn sign_in(
        &mut self,
        mechanism: Mechanism,
        user: &str,
        password: &Secret<String>,
    ) -> Result<SignIn, SmtpEnd> {
        if self.secured.is_none() {
            return Err(SmtpEnd::InTheClear);
        }
        self.hush = Some(Hush::of(user, password));
        let lines = sign_in_lines(mechanism, user, password);
        let mut left = lines.len();
        let mut last = None;
        for line in &lines {
            left -= 1;
            let reply = self.say(line.reveal()).await?;
            let goes_on = reply.code == 334;
            last = Some(reply);
            if !goes_on {
                break;
            }
        }
        let reply = last.ok_or(SmtpEnd::Closed)?;
        Ok(match reply.code {
            // The password is in the last line.
            235 if left == 0 => SignIn::Believed,
            235 => SignIn::Unproven,
            334 => {
                // RFC 4954 section 4. What was found does not change by what the relay says to this.
                let _ = self.say("*").await;
                SignIn::MoreAsked
            }
            _ => SignIn::Refused {
                reply: Hush::bare(&reply),
                told: left == 0,
            },
        })
    }

    /// Begins a message from this sender; 250 if the relay takes it.
    ///
    /// # Errors
    /// The dialogue ended.
    pub async fn mail_from(&mut self, sender: &Mailbox) -> Result<Reply, SmtpEnd> {
        self.say(&format!("MAIL FROM:<{sender}>")).await
    }

    /// Names who it is for; 250 or 251 if the relay takes it.
    ///
    /// # Errors
    /// The dialogue ended.
    pub async fn rcpt_to(&mut self, recipient: &Mailbox) -> Result<Reply, SmtpEnd> {
        self.say(&format!("RCPT TO:<{recipient}>")).await
    }

    /// Takes back the message that was begun.
    ///
    /// # Errors
    /// The dialogue ended.
    pub async fn reset(&mut self) -> Result<Reply, SmtpEnd> {
        self.say("RSET").await
    }

    /// Ends the dialogue, and waits for two seconds at most for the relay to know it: everything that counts was said.
    ///
    /// # Errors
    /// The dialogue ended without it.
    pub async fn quit(mut self) -> Result<(), SmtpEnd> {
        let said = tokio::time::timeout(QUIT_WAIT, self.say("QUIT")).await;
        said.map_err(|_| SmtpEnd::TimedOut)??;
        if let Some(mut stream) = self.dialogue.stream.take() {
            // The relay may close first.
            let _ = self.watch.left(stream.shutdown()).await;
        }
        Ok(())
    }

    async fn say(&mut self, line: &str) -> Result<Reply, SmtpEnd> {
        let said = self.watch.left(self.dialogue.say(line)).await;
        let reply = self.ended_if(said.unwrap_or(Err(SmtpEnd::TimedOut)))?;
        Ok(match &self.hush {
            Some(hush) => hush.covered(&reply),
            None => reply,
        })
    }

    /// Who could not be understood once is not talked to again, whatever comes later.
    fn ended_if(&mut self, reply: Result<Reply, SmtpEnd>) -> Result<Reply, SmtpEnd> {
        if reply.is_err() {
            self.dialogue.stream = None;
        }
        reply
    }
}

fn encoded(text: &str) -> Secret<String> {
    Secret::new(STANDARD.encode(text))
}

/// What is said to sign in, each line after a 334 to the one before.
fn sign_in_lines(mechanism: Mechanism, user: &str, password: &Secret<String>) -> Vec<Secret<String>> {
    let password = password.reveal();
    match mechanism {
        Mechanism::Plain => {
            let both = Secret::new(format!("\0{user}\0{password}"));
            let both = encoded(both.reveal());
            let command = Secret::new(format!("AUTH PLAIN {}", both.reveal()));
            if command.reveal().len() + 2 <= limits::SMTP_COMMAND_BYTES_MAX {
                return vec![command];
            }
            // Too long for a command; answers to a challenge may be longer (RFC 4954 section 4).
            vec![Secret::new("AUTH PLAIN".to_owned()), both]
        }
        Mechanism::Login => vec![
            Secret::new("AUTH LOGIN".to_owned()),
            encoded(user),
            encoded(password),
        ],
    }
}

/// Lines out, replies in.
struct Dialogue {
    /// `None` once the dialogue has ended.
    stream: Option<Box<dyn Stream>>,
    /// What was read and is no whole line yet.
    buffer: Vec<u8>,
}

impl Dialogue {
    async fn say(&mut self, line: &str) -> Result<Reply, SmtpEnd> {
        // Whoever makes a line out of what others chose has looked at it.
        assert!(
            !line.contains(['\r', '\n', '\0']),
            "a line of SMTP holds no line end"
        );
        self.expect_silence()?;
        let stream = self.stream.as_mut().ok_or(SmtpEnd::Closed)?;
        let bytes = Secret::new(format!("{line}\r\n"));
        stream
            .write_all(bytes.reveal().as_bytes())
            .await
            .map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        self.reply().await
    }

    /// A relay speaks when it is asked: what came beyond its last reply belongs to no command of ours.
    fn expect_silence(&self) -> Result<(), SmtpEnd> {
        if self.buffer.is_empty() {
            Ok(())
        } else {
            Err(SmtpEnd::Unasked)
        }
    }

    async fn reply(&mut self) -> Result<Reply, SmtpEnd> {
        let mut gathering = Gathering::default();
        loop {
            let line = self.line().await?;
            if let Some(reply) = gathering.take(&line).map_err(SmtpEnd::Garbled)? {
                return Ok(reply);
            }
        }
    }

    /// The next line, with its line end.
    async fn line(&mut self) -> Result<Vec<u8>, SmtpEnd> {
        let stream = self.stream.as_mut().ok_or(SmtpEnd::Closed)?;
        let mut looked = 0;
        loop {
            if let Some(at) = self.buffer[looked..].iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(looked + at + 1);
                let line = std::mem::replace(&mut self.buffer, rest);
                if line.len() > limits::SMTP_REPLY_LINE_BYTES_MAX {
                    return Err(SmtpEnd::Garbled("a line that is too long"));
                }
                return Ok(line);
            }
            looked = self.buffer.len();
            if looked >= limits::SMTP_REPLY_LINE_BYTES_MAX {
                return Err(SmtpEnd::Garbled("a line that is too long"));
            }
            let mut chunk = [0; 1_024];
            let read = stream.read(&mut chunk).await.map_err(broken)?;
            if read == 0 {
                return Err(SmtpEnd::Closed);
            }
            self.buffer.extend_from_slice(&chunk[..read]);
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err takes")]
fn broken(error: std::io::Error) -> SmtpEnd {
    use std::io::ErrorKind;
    match error.kind() {
        // A relay that closes while we write, or without TLS's own goodbye, has closed all the same.
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => SmtpEnd::Closed,
        _ => SmtpEnd::Broken(error.to_string()),
    }
}
