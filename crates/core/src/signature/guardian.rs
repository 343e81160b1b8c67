//! Guardian's signature: `{prefix}-Signature`, `-Key-Id`, `-Timestamp` and `-Nonce`, hex HMAC-SHA256 over lines of text
//! (`guardian.md` section 2).
//!
//! There are two forms without a mark that tells them apart: v1 has six lines, v2 a seventh with the hash of an override
//! header. A verifier may try both, since their numbers of lines differ and no part may hold a line end.

use std::collections::VecDeque;

use super::{SignError, fresh, hex, mac, same, secs, sha256_hex};
use crate::chance::Dice;
use crate::header::is_token;

/// The prefix of the headers unless told otherwise.
pub const PREFIX_DEFAULT: &str = "X-Health";
/// The id of the key unless told otherwise.
pub const KEY_ID_DEFAULT: &str = "default";
/// Seconds by which a signer's clock may differ from a verifier's.
pub const MAX_AGE_SECS_DEFAULT: i64 = 300;
/// Always this name, whatever the prefix is.
pub const OVERRIDES_HEADER: &str = "X-Health-Config-Overrides";

/// The two forms.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// Six lines: that of the published article and of Guardian 0.12.1 to 0.13.2.
    V1,
    /// Seven lines: Guardian 0.13.3 on.
    V2,
}

/// The parts of a call that are signed, as they stand on the wire.
#[derive(Copy, Clone, Debug)]
pub struct Parts<'a> {
    /// As on the request line. We send upper case only.
    pub method: &'a str,
    /// The path as on the request line, never empty, percent-encoded.
    pub path: &'a str,
    /// What stands between the first `?` and the end; empty for nothing.
    pub query: &'a str,
    /// Seconds since 1970, as text.
    pub timestamp: &'a str,
    /// New for each call.
    pub nonce: &'a str,
    /// The body's bytes.
    pub body: &'a [u8],
    /// The value of the override header, if it is sent. Counts for v2 only.
    pub overrides: Option<&'a str>,
}

/// A nonce as Guardian has it: a UUIDv4 without hyphens.
pub fn nonce(dice: &mut Dice) -> String {
    dice.id::<uuid::Uuid>().simple().to_string()
}

/// Path and query of an absolute URL as they stand on the request line.
pub fn target_of(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    Some(url[url::Position::BeforePath..url::Position::AfterQuery].to_owned())
}

impl<'a> Parts<'a> {
    /// Path and query of a request target such as `/a?b=c`.
    pub fn split_target(target: &'a str) -> (&'a str, &'a str) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        (if path.is_empty() { "/" } else { path }, query)
    }

    /// The text that is signed. Each part is looked at, since a line end in one would shift the others.
    ///
    /// # Errors
    /// [`SignError::Part`] with the name of the part.
    pub fn canonical(&self, form: Form) -> Result<String, SignError> {
        let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if !is_token(self.method) {
            return Err(SignError::Part("method"));
        }
        if !(self.path.starts_with('/') && visible(self.path) && !self.path.contains('?')) {
            return Err(SignError::Part("path"));
        }
        if !visible(self.query) {
            return Err(SignError::Part("query"));
        }
        if secs(self.timestamp).is_err() {
            return Err(SignError::Part("timestamp"));
        }
        if self.nonce.is_empty() || !visible(self.nonce) {
            return Err(SignError::Part("nonce"));
        }
        let body_hash = sha256_hex(self.body);
        let mut lines = vec![
            self.method,
            self.path,
            self.timestamp,
            self.nonce,
            self.query,
            &body_hash,
        ];
        let overrides_hash = sha256_hex(self.overrides.unwrap_or_default().as_bytes());
        if form == Form::V2 {
            lines.push(&overrides_hash);
        }
        Ok(lines.join("\n"))
    }
}

/// Who signs, and under which names.
#[derive(Copy, Clone, Debug)]
pub struct Signer<'a> {
    /// Which form.
    pub form: Form,
    /// The secret; its bytes are the key, white space included.
    pub secret: &'a [u8],
    /// Tells the receiver which secret it is. Not covered by the signature.
    pub key_id: &'a str,
    /// What the headers' names begin with.
    pub prefix: &'a str,
}

impl Signer<'_> {
    /// The four headers for these parts, names and values.
    ///
    /// # Errors
    /// [`SignError::Part`] with the name of what cannot be signed.
    pub fn sign(&self, parts: &Parts<'_>) -> Result<[(String, String); 4], SignError> {
        if self.secret.is_empty() {
            return Err(SignError::Part("secret"));
        }
        if !is_token(self.prefix) {
            return Err(SignError::Part("header prefix"));
        }
        if self.key_id.is_empty() || !self.key_id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SignError::Part("key id"));
        }
        let signature = hex(&mac(self.secret, &[parts.canonical(self.form)?.as_bytes()]));
        let named = |name: &str, value: &str| (format!("{}-{name}", self.prefix), value.to_owned());
        Ok([
            named("Signature", &signature),
            named("Key-Id", self.key_id),
            named("Timestamp", parts.timestamp),
            named("Nonce", parts.nonce),
        ])
    }
}

/// The nonces a verifier has seen, each kept for twice the allowed age: long enough that no call can come again while
/// its time is still good. Bounded: when it is full, the oldest goes first.
#[derive(Debug)]
pub struct Nonces {
    seen: VecDeque<(i64, String)>,
    max: usize,
}

impl Nonces {
    /// Room for `max` nonces.
    pub const fn new(max: usize) -> Self {
        Nonces {
            seen: VecDeque::new(),
            max,
        }
    }

    fn admit(&mut self, nonce: &str, now: i64, max_age: i64) -> Result<(), SignError> {
        while self.seen.front().is_some_and(|(at, _)| now - at > 2 * max_age) {
            self.seen.pop_front();
        }
        if self.seen.iter().any(|(_, seen)| seen == nonce) {
            return Err(SignError::Replayed);
        }
        if self.seen.len() >= self.max {
            self.seen.pop_front();
        }
        self.seen.push_back((now, nonce.to_owned()));
        Ok(())
    }
}

/// What a receiver looks at.
#[derive(Copy, Clone, Debug)]
pub struct Verifier<'a> {
    /// Which form it expects.
    pub form: Form,
    /// The secret that belongs to the key id of the call.
    pub secret: &'a [u8],
    /// What the headers' names begin with.
    pub prefix: &'a str,
    /// Seconds by which the signer's clock may differ.
    pub max_age: i64,
}

impl Verifier<'_> {
    /// Whether a call is from whoever has the secret. `header` finds a header's value by its name, in any case; the
    /// parts' timestamp and nonce are taken from the headers. With `nonces`, a call that comes again is refused.
    ///
    /// # Errors
    /// What is wrong, for the receiver's log.
    pub fn verify<'h>(
        &self,
        parts: &Parts<'_>,
        header: impl Fn(&str) -> Option<&'h str>,
        now: i64,
        nonces: Option<&mut Nonces>,
    ) -> Result<(), SignError> {
        let wanted = |name: &str| {
            let value = header(&format!("{}-{name}", self.prefix));
            value.filter(|value| !value.is_empty()).ok_or(SignError::Missing)
        };
        let (signature, _) = (wanted("Signature")?, wanted("Key-Id")?);
        let (timestamp, nonce) = (wanted("Timestamp")?, wanted("Nonce")?);
        fresh(timestamp, now, self.max_age)?;
        let parts = Parts {
            timestamp,
            nonce,
            ..*parts
        };
        let expected = hex(&mac(self.secret, &[parts.canonical(self.form)?.as_bytes()]));
        same(expected.as_bytes(), signature.as_bytes())?;
        nonces.map_or(Ok(()), |nonces| nonces.admit(nonce, now, self.max_age))
    }
}
