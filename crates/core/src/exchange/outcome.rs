//! What came of a call: the answer or how it failed, how long each part took, and what of that a user is told.

use std::fmt;
use std::net::SocketAddr;

use crate::refusal::Refusal;
use crate::time::{Span, Timestamp};

/// A part of an attempt, in the order of time.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The name is turned into addresses.
    Dns,
    /// A connection is opened.
    Connect,
    /// The TLS handshake.
    Tls,
    /// The request is written, and the head of the answer awaited.
    FirstByte,
    /// The body of the answer is read.
    Body,
}

impl Phase {
    /// The word for records and pages.
    pub const fn word(self) -> &'static str {
        match self {
            Phase::Dns => "dns",
            Phase::Connect => "connect",
            Phase::Tls => "tls",
            Phase::FirstByte => "first_byte",
            Phase::Body => "body",
        }
    }
}

/// How long each part took; `None` for one that was not begun. Of the last hop, if redirects were followed.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Asking for addresses; none for an address in the URL.
    pub dns: Option<Span>,
    /// Opening the connection, over all addresses tried.
    pub connect: Option<Span>,
    /// The TLS handshake; none for http.
    pub tls: Option<Span>,
    /// From the connection to the head of the answer.
    pub first_byte: Option<Span>,
    /// From the head of the answer to its end, or to where reading stopped.
    pub body: Option<Span>,
    /// The whole attempt, all hops.
    pub total: Span,
}

/// When the other side asks to be called again.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// After this many seconds.
    Seconds(u32),
    /// At this instant.
    At(Timestamp),
}

impl RetryAfter {
    /// Reads the value of the header (RFC 9110 section 10.2.3): seconds, or a date. `None` for anything else.
    pub fn parse(value: &str) -> Option<Self> {
        let value = value.trim();
        if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
            // More digits than fit ask for the longest wait, not for none.
            return Some(RetryAfter::Seconds(value.parse().unwrap_or(u32::MAX)));
        }
        let date = jiff::fmt::rfc2822::DateTimeParser::new()
            .parse_timestamp(value)
            .ok()?;
        Some(RetryAfter::At(Timestamp::from_micros(date.as_microsecond())))
    }

    /// The wait from `now`, never negative.
    pub fn delay(self, now: Timestamp) -> Span {
        match self {
            RetryAfter::Seconds(secs) => Span::from_secs(i64::from(secs)),
            RetryAfter::At(at) if at > now => at - now,
            RetryAfter::At(_) => Span::from_secs(0),
        }
    }
}

/// What the other side said.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status, 200 to 599; interim answers are passed over.
    pub status: u16,
    /// The header of that name, if it could be read.
    pub retry_after: Option<RetryAfter>,
    /// The beginning of the body as it came: any bytes. [`escaped`] makes it fit to be shown.
    pub excerpt: Vec<u8>,
    /// The body was longer than the excerpt.
    pub truncated: bool,
    /// Where a redirect that was not followed points. A stranger's text.
    pub location: Option<String>,
    /// Names in lower case with values, if [`super::Take::headers`] asked for them.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl fmt::Debug for Answer {
    // Answers often echo tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("retry_after", &self.retry_after)
            .field("excerpt_bytes", &self.excerpt.len())
            .field("truncated", &self.truncated)
            .finish_non_exhaustive()
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The other side answered, with whatever status.
    Answered(Answer),
    /// The policy refuses the call. Nothing was sent; not to be tried again.
    Blocked(Refusal),
    /// The name has no address, or nobody could say.
    NoAddress,
    /// No address took the connection.
    NoConnection,
    /// The handshake failed: certificate, name or version.
    NoTls,
    /// The connection ended, or spoke no HTTP, before the answer was whole. `status` is there if its head was.
    Broken {
        /// `FirstByte` or `Body`.
        phase: Phase,
        /// The status that was read before.
        status: Option<u16>,
    },
    /// The budget ran out.
    TimedOut {
        /// In which part.
        phase: Phase,
        /// The status that was read before.
        status: Option<u16>,
    },
    /// The head of the answer is larger than a head may be, or the body than [`super::Take::whole`] allows.
    TooLarge {
        /// The status that was read before.
        status: Option<u16>,
    },
}

/// The fixed classes of failure, all that a user is shown of one beside the status.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The policy refuses it.
    Blocked,
    /// The name has no address.
    Dns,
    /// No connection, or it broke off.
    Connect,
    /// No secure connection.
    Tls,
    /// It took too long.
    Timeout,
    /// An answer that is no success.
    HttpStatus,
    /// An answer that is too large.
    TooLarge,
}

impl ErrorClass {
    /// All of them.
    pub const ALL: [ErrorClass; 7] = [
        ErrorClass::Blocked,
        ErrorClass::Dns,
        ErrorClass::Connect,
        ErrorClass::Tls,
        ErrorClass::Timeout,
        ErrorClass::HttpStatus,
        ErrorClass::TooLarge,
    ];

    /// The word for records and the API.
    pub const fn word(self) -> &'static str {
        match self {
            ErrorClass::Blocked => "blocked",
            ErrorClass::Dns => "dns",
            ErrorClass::Connect => "connect",
            ErrorClass::Tls => "tls",
            ErrorClass::Timeout => "timeout",
            ErrorClass::HttpStatus => "http_status",
            ErrorClass::TooLarge => "too_large",
        }
    }

    /// The class of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.word() == word)
    }

    /// A sentence for the user.
    pub const fn sentence(self) -> &'static str {
        match self {
            ErrorClass::Blocked => "This server's policy does not allow calls to that address.",
            ErrorClass::Dns => "The name of the target could not be resolved.",
            ErrorClass::Connect => "No connection to the target, or it broke off.",
            ErrorClass::Tls => {
                "No secure connection: the certificate, its name or the TLS version was refused."
            }
            ErrorClass::Timeout => "The target took too long to answer.",
            ErrorClass::HttpStatus => "The target answered with a status that is no success.",
            ErrorClass::TooLarge => "The target's answer is too large.",
        }
    }
}

/// What came of a [`super::Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// How long the parts took.
    pub phases: Phases,
    /// The address that was connected to, for administrators only.
    pub peer: Option<SocketAddr>,
    /// What exactly went wrong, for administrators only: may name resolved addresses. Empty if nothing did.
    /// Never holds URL paths, headers or bodies.
    pub detail: String,
}

impl Outcome {
    /// The status, if one was read.
    pub const fn status(&self) -> Option<u16> {
        match &self.end {
            End::Answered(answer) => Some(answer.status),
            End::Broken { status, .. } | End::TimedOut { status, .. } | End::TooLarge { status } => *status,
            End::Blocked(_) | End::NoAddress | End::NoConnection | End::NoTls => None,
        }
    }

    /// What a user is told; `None` is success: a whole answer with a status from 200 to 299.
    pub const fn error_class(&self) -> Option<ErrorClass> {
        match &self.end {
            End::Answered(answer) if answer.status >= 200 && answer.status <= 299 => None,
            End::Answered(_) => Some(ErrorClass::HttpStatus),
            End::Blocked(_) => Some(ErrorClass::Blocked),
            End::NoAddress => Some(ErrorClass::Dns),
            End::NoConnection | End::Broken { .. } => Some(ErrorClass::Connect),
            End::NoTls => Some(ErrorClass::Tls),
            End::TimedOut { .. } => Some(ErrorClass::Timeout),
            End::TooLarge { .. } => Some(ErrorClass::TooLarge),
        }
    }
}

/// The beginning of a text, of at most so many characters, and three dots if there was more.
pub fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Bytes of a stranger as text that does nothing to a terminal or a page: what is no UTF-8 becomes U+FFFD; control
/// characters but line feeds and tabs, other ends of lines, and what is not seen but turns, joins or hides others, become
/// `\u{..}`.
pub fn escaped(bytes: &[u8]) -> String {
    escaped_but(bytes, |c| matches!(c, '\n' | '\t'))
}

/// The same in one line: line feeds and tabs become `\u{..}` too.
pub fn escaped_line(bytes: &[u8]) -> String {
    escaped_but(bytes, |_| false)
}

fn escaped_but(bytes: &[u8], kept: impl Fn(char) -> bool) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if (c.is_control() || is_unseen(c)) && !kept(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// The general categories Cf, Zl and Zp of Unicode 16, with all of the block of tags.
const fn is_unseen(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e007f}'
    )
}
