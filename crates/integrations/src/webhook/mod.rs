//! The `webhook` kind: a call that its user wrote, one for down and one for up, as Healthchecks has it
//! (`healthchecks.md` section 7.1), signed.
//!
//! [`input`] reads and judges what a user gives, [`Webhook::render`] makes the request of one attempt, [`event`] is what
//! the placeholders stand for. URLs, header values, bodies and keys are secrets: [`Webhook::shown`] is all that ever
//! comes back.

mod event;
mod input;
mod render;
mod room;
mod sample;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use allswell_core::chance::Dice;
use allswell_core::exchange::Method;
use allswell_core::secret::Secret;
use allswell_core::signature::guardian;
use allswell_core::signature::standard::SigningSecret;
use allswell_core::template;
use allswell_core::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use event::is_json_name;
pub use input::{Court, Fault, Judge, Warning, is_ours, signing_secret_fits};
pub use render::{RenderError, Rendered, Sender};

/// The body of a call that was made without one, and its content type: the whole event.
pub const BODY_DEFAULT: &str = "${json:EVENT}";
/// The methods a webhook may have.
pub const METHODS: [Method; 3] = [Method::Get, Method::Post, Method::Put];
/// Characters of a URL, as in Healthchecks.
pub const URL_CHARS_MAX: usize = 1_000;
/// Characters of a header's name and of its value, as in Healthchecks.
pub const HEADER_CHARS_MAX: usize = 1_000;
/// Headers of a call.
pub const HEADERS_MAX: usize = 32;
/// Characters of a body. Healthchecks allows 1,000.
pub const BODY_CHARS_MAX: usize = 10_000;
/// Bytes of the shortest secret of a Guardian signature.
pub const GUARDIAN_SECRET_BYTES_MIN: usize = 16;
/// Bytes of the longest secret of a Guardian signature.
pub const GUARDIAN_SECRET_BYTES_MAX: usize = 512;
/// Hours for which a replaced secret goes on signing, unless told otherwise.
pub const OVERLAP_HOURS_DEFAULT: i64 = 24;
/// Hours for which a replaced secret may go on signing: a week.
pub const OVERLAP_HOURS_MAX: i64 = 168;
/// Secrets that sign at the same time.
const KEYS_MAX: usize = 4;

/// A webhook channel's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// Sent when a check goes down.
    pub down: Option<Call>,
    /// Sent when a check comes back up.
    pub up: Option<Call>,
    /// How both are signed.
    pub signing: Signing,
}

/// One call, with its placeholders.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// GET, POST or PUT.
    #[serde(with = "method_word")]
    pub method: Method,
    /// Placeholders stand behind the host only.
    pub url: String,
    /// Names without placeholders, values with.
    pub headers: BTreeMap<String, String>,
    /// Sent with POST and PUT only.
    pub body: String,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("method", &self.method)
            .field("headers", &self.headers.len())
            .field("body_chars", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// How calls are signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signing {
    /// Which form.
    pub form: Form,
    /// For Guardian: tells the receiver which secret it is.
    pub key_id: String,
    /// For Guardian: what the names of its headers begin with.
    pub header_prefix: String,
    /// The newest first. None for [`Form::None`], else at least one.
    keys: Vec<SigningKey>,
}

/// A secret, and until when it signs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SigningKey {
    secret: String,
    /// In microseconds since 1970; `None` for the current one.
    until: Option<i64>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey(*** until {:?})", self.until)
    }
}

/// The forms of a signature (DECISIONS 25).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// `webhook-signature`.
    StandardWebhooks,
    /// Guardian with six lines.
    GuardianV1,
    /// Guardian with seven lines.
    GuardianV2,
    /// Not signed.
    None,
}

impl Form {
    /// All of them, in the order they are offered.
    pub const ALL: [Form; 4] = [
        Form::StandardWebhooks,
        Form::GuardianV1,
        Form::GuardianV2,
        Form::None,
    ];

    /// The word stored and typed.
    pub const fn word(self) -> &'static str {
        match self {
            Form::StandardWebhooks => "standard-webhooks",
            Form::GuardianV1 => "guardian-v1",
            Form::GuardianV2 => "guardian-v2",
            Form::None => "none",
        }
    }

    /// Whether a request has room for a second signature, by the secret that is being replaced.
    pub const fn signs_twice(self) -> bool {
        matches!(self, Form::StandardWebhooks)
    }

    /// The form of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Form::ALL.into_iter().find(|form| form.word() == word)
    }
}

impl Default for Signing {
    fn default() -> Self {
        Signing {
            form: Form::StandardWebhooks,
            key_id: guardian::KEY_ID_DEFAULT.to_owned(),
            header_prefix: guardian::PREFIX_DEFAULT.to_owned(),
            keys: Vec::new(),
        }
    }
}

impl Signing {
    /// The secret that signs first. Shown once, when it was made.
    pub fn current(&self) -> Option<Secret<String>> {
        self.keys.first().map(|key| Secret::new(key.secret.clone()))
    }

    /// Makes a secret where one is needed and there is none; gives it, to be shown once.
    pub fn complete(&mut self, dice: &mut Dice) -> Option<Secret<String>> {
        match self.form {
            Form::None => {
                self.keys.clear();
                None
            }
            _ if !self.keys.is_empty() => None,
            _ => {
                let secret = SigningSecret::generate(dice).to_text();
                self.keys = vec![SigningKey {
                    secret: secret.reveal().clone(),
                    until: None,
                }];
                Some(secret)
            }
        }
    }

    /// Puts a new secret in front; the others go on signing for `overlap`, or as long as they still had. In Guardian's
    /// forms they sign no more: a request has room for one signature, and its receiver looks the secret up by the key id.
    pub fn rotate(&mut self, secret: &Secret<String>, now: Timestamp, overlap: Span) {
        if !self.form.signs_twice() {
            self.keys.clear();
        }
        let until = (now + overlap).as_micros();
        for key in &mut self.keys {
            key.until = Some(key.until.map_or(until, |earlier| earlier.min(until)));
        }
        let form = self.form;
        self.keys.retain(|key| {
            key.until > Some(now.as_micros()) && signing_secret_fits(form, &key.secret).is_ok()
        });
        self.keys.insert(
            0,
            SigningKey {
                secret: secret.reveal().clone(),
                until: None,
            },
        );
        self.keys.truncate(KEYS_MAX);
    }

    /// The secrets that sign at this instant, the newest first.
    fn valid_at(&self, now: Timestamp) -> impl Iterator<Item = &str> {
        self.keys
            .iter()
            .filter(move |key| key.until.is_none_or(|until| until > now.as_micros()))
            .map(|key| key.secret.as_str())
    }
}

impl Webhook {
    /// What is stored, sealed.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a configuration is plain data")
    }

    /// What was stored; `None` if a later version wrote it.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// The calls with the names under which users know them.
    pub fn calls(&self) -> impl Iterator<Item = (&'static str, &Call)> {
        let named = [("down", &self.down), ("up", &self.up)];
        named
            .into_iter()
            .filter_map(|(name, call)| call.as_ref().map(|call| (name, call)))
    }

    /// The names of the secrets its templates use, each once.
    pub fn secret_names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (_, call) in self.calls() {
            for text in call.templates() {
                let found = template::secrets_of(text, is_json_name).unwrap_or_default();
                names.extend(found.into_iter().map(str::to_owned));
            }
        }
        names.sort();
        names.dedup();
        names
    }

    /// What anybody may see of it: methods, origins, names of headers, how it is signed. `now` tells which secrets still
    /// sign.
    pub fn shown(&self, now: Timestamp) -> Value {
        let keys: Vec<Value> = self
            .signing
            .keys
            .iter()
            .filter(|key| key.until.is_none_or(|until| until > now.as_micros()))
            .map(|key| {
                json!({ "signs_until": key.until.map(|at| Timestamp::from_micros(at).to_rfc3339_micros()) })
            })
            .collect();
        let mut signing = json!({ "form": self.signing.form.word(), "secrets": keys });
        if matches!(self.signing.form, Form::GuardianV1 | Form::GuardianV2) {
            signing["key_id"] = json!(self.signing.key_id);
            signing["header_prefix"] = json!(self.signing.header_prefix);
        }
        json!({
            "down": self.down.as_ref().map(Call::shown),
            "up": self.up.as_ref().map(Call::shown),
            "signing": signing,
        })
    }
}

impl Call {
    /// Everything that may hold placeholders.
    fn templates(&self) -> impl Iterator<Item = &str> {
        let texts = [self.url.as_str(), self.body.as_str()];
        texts.into_iter().chain(self.headers.values().map(String::as_str))
    }

    /// Whether its body is sent.
    fn sends_body(&self) -> bool {
        matches!(self.method, Method::Post | Method::Put) && !self.body.is_empty()
    }

    fn shown(&self) -> Value {
        let headers: BTreeMap<&str, &str> = self.headers.keys().map(|name| (name.as_str(), "***")).collect();
        json!({
            "method": self.method.word(),
            "url": masked(&self.url),
            "headers": headers,
            "body_chars": self.body.chars().count(),
        })
    }
}

/// The origin of a URL with the rest hidden: `https://example.com/***`.
fn masked(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    format!("{scheme}://{host}/***")
}

mod method_word {
    use allswell_core::exchange::Method;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(method: &Method, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(method.word())
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Method, D::Error> {
        let word = String::deserialize(from)?;
        Method::from_word(&word).ok_or_else(|| D::Error::custom("no method"))
    }
}
