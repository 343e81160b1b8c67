//! What to ask: who aims it, the request itself, its budget, and what is wanted of the answer.

use std::fmt;

use crate::limits;
use crate::secret::Secret;
use crate::time::Span;

/// Who aimed a call. Each class has its own policy (`outbound.*` settings, DECISIONS 18).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A webhook channel: URL, headers and body are a user's.
    Webhook,
    /// A probe: the target is a user's, and facts of its answer flow back.
    Probe,
    /// A scheduled call.
    Job,
    /// A channel of another kind, whose server a user may name (ntfy, Gotify, Matrix, ...).
    Channel,
    /// Sign-on: an issuer, its keys, its metadata.
    SignOn,
    /// What only the operator can set: the mail relay, secret stores, the watchdog. May call private networks.
    Operator,
}

impl Class {
    /// All of them, in the order of the documentation.
    pub const ALL: [Class; 6] = [
        Class::Webhook,
        Class::Probe,
        Class::Job,
        Class::Channel,
        Class::SignOn,
        Class::Operator,
    ];

    /// The word for records, commands and settings.
    pub const fn word(self) -> &'static str {
        match self {
            Class::Webhook => "webhook",
            Class::Probe => "probe",
            Class::Job => "job",
            Class::Channel => "channel",
            Class::SignOn => "sign-on",
            Class::Operator => "operator",
        }
    }

    /// The class of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.word() == word)
    }
}

/// The methods that may be sent. CONNECT and TRACE are not among them.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are the words of HTTP")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl Method {
    /// All of them.
    pub const ALL: [Method; 7] = [
        Method::Get,
        Method::Head,
        Method::Post,
        Method::Put,
        Method::Patch,
        Method::Delete,
        Method::Options,
    ];

    /// As on the request line.
    pub const fn word(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
            Method::Options => "OPTIONS",
        }
    }

    /// The method of that word, in upper case only: methods are case-sensitive.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.word() == word)
    }
}

/// How long each part of an attempt may take. The parts lie inside `total`, they do not add to it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// From the first question to the name server to the last byte that is read.
    pub total: Span,
    /// For turning the name into addresses.
    pub resolve: Span,
    /// For the connection, over all addresses of the name.
    pub connect: Span,
    /// For the TLS handshake.
    pub tls: Span,
}

impl Default for Budget {
    /// 30 s in all; 5 s each to resolve, to connect and to shake hands (`delivery.md` section 3).
    fn default() -> Self {
        Budget {
            total: Span::from_secs(limits::ATTEMPT_SECS_MAX),
            resolve: Span::from_secs(limits::RESOLVE_SECS_MAX),
            connect: Span::from_secs(limits::CONNECT_SECS_MAX),
            tls: Span::from_secs(limits::TLS_SECS_MAX),
        }
    }
}

/// What is read of an answer, and how much of that comes back.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Take {
    /// Bytes of the body that are read before the connection is closed.
    pub read_bytes: usize,
    /// Bytes of the body that come back in [`super::Answer::excerpt`]; at most `read_bytes`.
    pub keep_bytes: usize,
    /// The headers come back in [`super::Answer::headers`].
    pub headers: bool,
    /// An answer longer than `read_bytes` is [`super::End::TooLarge`] instead of cut off: for documents that are of no use
    /// in part, such as a key set.
    pub whole: bool,
}

impl Default for Take {
    /// 64 KiB are read, 4 KiB come back, without headers; what is longer is cut off.
    fn default() -> Self {
        Take {
            read_bytes: limits::ANSWER_BYTES_MAX,
            keep_bytes: limits::EXCERPT_BYTES_MAX,
            headers: false,
            whole: false,
        }
    }
}

/// A header of a request. Values are often tokens, so they do not print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// As it is written on the wire.
    pub name: String,
    /// Refused by the door if it holds a control character (tab excepted).
    pub value: Secret<String>,
}

/// A call to be made. `Debug` shows neither URL nor headers nor body: all three may hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// Which policy it is judged by.
    pub class: Class,
    /// The method.
    pub method: Method,
    /// An absolute http or https URL. It is judged again before the call, whatever was judged when it was stored.
    pub url: Secret<String>,
    /// In the order in which they are sent. `Host`, `Content-Length` and the like are the door's own and refused here;
    /// `User-Agent`, `Accept` and `Accept-Encoding` may be given.
    pub headers: Vec<Header>,
    /// The body; empty for none. At most [`limits::REQUEST_BODY_BYTES_MAX`].
    pub body: Vec<u8>,
    /// How long it may take.
    pub budget: Budget,
    /// Redirects that are followed, each judged like the first URL. Probes only, and at most
    /// [`limits::REDIRECTS_MAX`]; for every other class it must be 0.
    pub redirects_max: u8,
    /// What is wanted of the answer.
    pub take: Take,
}

impl Request {
    /// A call without headers and body, with the usual budget.
    pub fn new(class: Class, method: Method, url: String) -> Self {
        Request {
            class,
            method,
            url: Secret::new(url),
            headers: Vec::new(),
            body: Vec::new(),
            budget: Budget::default(),
            redirects_max: 0,
            take: Take::default(),
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push(Header {
            name: name.to_owned(),
            value: Secret::new(value.into()),
        });
        self
    }

    /// Gives it a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("class", &self.class)
            .field("method", &self.method)
            .field("headers", &self.headers.len())
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}
