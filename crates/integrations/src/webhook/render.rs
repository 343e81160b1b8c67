//! One attempt of a webhook: placeholders filled, then signed over the very bytes that are sent.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use allswell_core::chance::Dice;
use allswell_core::exchange::{Class, Method, Request};
use allswell_core::limits;
use allswell_core::secret::Secret;
use allswell_core::signature::standard::{self, SigningSecret};
use allswell_core::signature::{SignError, body_sha256, guardian};
use allswell_core::template::{Place, TemplateError, fill};
use serde::de::IgnoredAny;

use super::event::Event;
use super::input::Warning;
use super::room::Room;
use super::{Call, Form, Signing, Webhook};
use crate::message::{About, AttemptInfo, Message};

/// The header with the number of the attempt, from 1.
pub const ATTEMPT: &str = "X-Allswell-Attempt";
/// The header that says that somebody asked to send it again.
pub const REDELIVERY: &str = "X-Allswell-Redelivery";
/// The header with the id for receivers that know the draft of the IETF.
pub const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// What this instance adds to each webhook.
#[derive(Clone, Debug, Default)]
pub struct Sender {
    /// The name of the header with `sha256=` and the HMAC of the body, beside the channel's own signature. Empty: none.
    pub signature_header: String,
    /// The secret for that header. `None`: the channel's own.
    pub signature_secret: Option<Secret<String>>,
}

/// A request ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The request.
    pub request: Request,
    /// What its owner should know; it is sent all the same.
    pub warnings: Vec<Warning>,
}

/// Why there is no request. None of them passes by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RenderError {
    /// The channel sends nothing for this status.
    NoCall,
    /// A placeholder cannot be filled.
    Template(TemplateError),
    /// A part cannot be signed.
    Sign(SignError),
}

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RenderError::NoCall => f.write_str("the channel sends nothing for this status"),
            RenderError::Template(error) => error.fmt(f),
            RenderError::Sign(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RenderError {}

impl From<TemplateError> for RenderError {
    fn from(error: TemplateError) -> Self {
        RenderError::Template(error)
    }
}

impl From<SignError> for RenderError {
    fn from(error: SignError) -> Self {
        RenderError::Sign(error)
    }
}

impl Webhook {
    /// The request of one attempt. `secrets` are those of the project; `dice` roll the nonce of a Guardian signature.
    ///
    /// # Errors
    /// [`RenderError`]: there is nothing to send, or it cannot be made.
    pub fn render(
        &self,
        message: &Message,
        attempt: &AttemptInfo,
        secrets: &BTreeMap<String, Secret<String>>,
        sender: &Sender,
        dice: &mut Dice,
    ) -> Result<Rendered, RenderError> {
        let (mut call, other) = match message.status() {
            "up" => (self.up.as_ref(), self.down.as_ref()),
            _ => (self.down.as_ref(), self.up.as_ref()),
        };
        // A note of ours is told by whichever call there is.
        if matches!(message.about, About::Note(_)) {
            call = call.or(other);
        }
        let call = call.ok_or(RenderError::NoCall)?;
        let mut parts = Parts {
            message,
            attempt,
            secrets,
            whole: Event::new(message, attempt, secrets, Room::Whole),
            warnings: BTreeSet::new(),
        };
        let mut filled = Filled::new(call, &mut parts)?;
        // Ours take their share of what the headers may have: those that users wrote get what is left.
        let marks = marks(attempt);
        let headers = parts.fitting(|event| {
            filled.headers = fill_headers(call, event)?;
            let mut ours = marks.clone();
            ours.extend(signatures(&self.signing, &filled, attempt, dice)?);
            ours.extend(self.signing.body_signature(&filled.body, sender));
            together(&filled.headers, ours)
        })?;
        let mut warnings: Vec<Warning> = parts.warnings.iter().copied().collect();
        if filled.claims_json() && serde_json::from_str::<IgnoredAny>(&filled.body).is_err() {
            warnings.push(Warning::BrokenJson);
        }
        let mut request = Request::new(Class::Webhook, filled.method, filled.url);
        for (name, value) in headers {
            request = request.header(&name, value);
        }
        Ok(Rendered {
            request: request.body(filled.body),
            warnings,
        })
    }
}

/// What the parts of a call are filled with, and what its owner should know of how.
struct Parts<'m> {
    message: &'m Message,
    attempt: &'m AttemptInfo,
    secrets: &'m BTreeMap<String, Secret<String>>,
    whole: Event<'m>,
    warnings: BTreeSet<Warning>,
}

impl Parts<'_> {
    /// Makes a part, and again with less room for its values as long as it is too long. An error is of what is too long by
    /// itself, or cannot be made at all.
    fn fitting<T>(
        &mut self,
        mut make: impl FnMut(&Event<'_>) -> Result<T, RenderError>,
    ) -> Result<T, RenderError> {
        let mut made = make(&self.whole);
        let mut shorter = None;
        let mut room = Room::Whole;
        while let (Err(RenderError::Template(TemplateError::TooLong(_))), Some(less)) = (&made, room.less()) {
            room = less;
            let event = Event::new(self.message, self.attempt, self.secrets, room);
            made = make(&event);
            shorter = Some(event);
        }
        let event = shorter.as_ref().unwrap_or(&self.whole);
        if shorter.is_some() {
            self.warnings.insert(Warning::Shortened);
        }
        if event.tells_unreadable_body() {
            self.warnings.insert(Warning::BodyUnreadable);
        }
        made
    }
}

/// A call with its placeholders filled.
struct Filled<'c> {
    method: Method,
    url: String,
    headers: Vec<(&'c str, String)>,
    body: String,
}

impl<'c> Filled<'c> {
    /// All but the headers.
    fn new(call: &'c Call, parts: &mut Parts<'_>) -> Result<Self, RenderError> {
        let mut body = String::new();
        if call.sends_body() {
            body = parts.fitting(|event| {
                let body = fill(&call.body, Place::Body, event, limits::REQUEST_BODY_BYTES_MAX);
                Ok(body?)
            })?;
        }
        // The door refuses what is larger; it need not be made for that.
        let url = parts.fitting(|event| Ok(fill(&call.url, Place::Url, event, limits::URL_BYTES_MAX)?))?;
        Ok(Filled {
            method: call.method,
            url,
            headers: Vec::new(),
            body,
        })
    }

    fn header(&self, wanted: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.as_str())
    }

    fn claims_json(&self) -> bool {
        let kind = self
            .header("content-type")
            .unwrap_or_default()
            .to_ascii_lowercase();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        !self.body.is_empty() && (kind == "application/json" || kind.ends_with("+json"))
    }
}

fn fill_headers<'c>(call: &'c Call, event: &Event<'_>) -> Result<Vec<(&'c str, String)>, RenderError> {
    let mut headers = Vec::with_capacity(call.headers.len());
    let mut header_bytes = 0;
    for (name, value) in &call.headers {
        let value = fill(value, Place::Header, event, limits::REQUEST_HEADER_BYTES_MAX)?;
        header_bytes += value.len();
        if header_bytes > limits::REQUEST_HEADER_BYTES_MAX {
            return Err(TemplateError::TooLong(limits::REQUEST_HEADER_BYTES_MAX).into());
        }
        headers.push((name.as_str(), value));
    }
    Ok(headers)
}

/// The user's headers and ours. Ours win: a name that was free when the channel was saved may have become ours by a
/// setting.
fn together(
    theirs: &[(&str, String)],
    ours: Vec<(String, String)>,
) -> Result<Vec<(String, String)>, RenderError> {
    let is_ours = |name: &str| ours.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    let kept = theirs.iter().filter(|(name, _)| !is_ours(name));
    let mut headers: Vec<(String, String)> = kept
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    headers.extend(ours);
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > limits::REQUEST_HEADER_BYTES_MAX {
        return Err(TemplateError::TooLong(limits::REQUEST_HEADER_BYTES_MAX).into());
    }
    Ok(headers)
}

/// Which delivery this is, and which try.
fn marks(attempt: &AttemptInfo) -> Vec<(String, String)> {
    let id = attempt.delivery.to_string();
    let mut marks = vec![
        // A string of structured fields (RFC 9651), as the draft has it.
        (IDEMPOTENCY_KEY.to_owned(), format!("\"{id}\"")),
        (ATTEMPT.to_owned(), attempt.n.to_string()),
        (standard::ID.to_owned(), id),
        (standard::TIMESTAMP.to_owned(), attempt.now.as_secs().to_string()),
    ];
    if attempt.redelivery {
        marks.push((REDELIVERY.to_owned(), "true".to_owned()));
    }
    marks
}

fn signatures(
    signing: &Signing,
    filled: &Filled<'_>,
    attempt: &AttemptInfo,
    dice: &mut Dice,
) -> Result<Vec<(String, String)>, SignError> {
    let form = match signing.form {
        Form::None => return Ok(Vec::new()),
        Form::StandardWebhooks => {
            let signature = signing.standard_signature(attempt, filled.body.as_bytes())?;
            return Ok(vec![(standard::SIGNATURE.to_owned(), signature)]);
        }
        Form::GuardianV1 => guardian::Form::V1,
        Form::GuardianV2 => guardian::Form::V2,
    };
    let target = guardian::target_of(&filled.url).ok_or(SignError::Part("path"))?;
    let (path, query) = guardian::Parts::split_target(&target);
    let (timestamp, nonce) = (attempt.now.as_secs().to_string(), guardian::nonce(dice));
    let parts = guardian::Parts {
        method: filled.method.word(),
        path,
        query,
        timestamp: &timestamp,
        nonce: &nonce,
        body: filled.body.as_bytes(),
        overrides: filled.header(guardian::OVERRIDES_HEADER),
    };
    let secret = signing.current().ok_or(SignError::Part("secret"))?;
    let signer = guardian::Signer {
        form,
        secret: secret.reveal().as_bytes(),
        key_id: &signing.key_id,
        prefix: &signing.header_prefix,
    };
    signer.sign(&parts).map(Vec::from)
}

impl Signing {
    fn standard_signature(&self, attempt: &AttemptInfo, body: &[u8]) -> Result<String, SignError> {
        let secrets = self
            .valid_at(attempt.now)
            .map(|text| SigningSecret::parse(text).map_err(|_| SignError::Part("secret")))
            .collect::<Result<Vec<_>, SignError>>()?;
        let borrowed: Vec<&SigningSecret> = secrets.iter().collect();
        let id = attempt.delivery.to_string();
        standard::sign(&borrowed, &id, attempt.now.as_secs(), body)
    }

    /// The header of the operator's choice, beside the channel's own.
    fn body_signature(&self, body: &str, sender: &Sender) -> Option<(String, String)> {
        let own = self.current();
        let secret = sender.signature_secret.as_ref().or(own.as_ref())?;
        let wanted = self.form != Form::None && !sender.signature_header.is_empty();
        wanted.then(|| {
            let value = body_sha256(secret.reveal().as_bytes(), body.as_bytes());
            (sender.signature_header.clone(), value)
        })
    }
}
