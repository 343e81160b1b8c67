//! What a user gives for a webhook, judged as a whole: each fault names the field and the rule, and nothing is taken
//! unless everything is good.
//!
//! The form is JSON, the same for the API, the command line and, as a merge patch (RFC 7396), for edits:
//!
//! ```json
//! {"down": {"method": "POST", "url": "https://…", "headers": {"X-Name": "$NAME"}, "body": "…"},
//!  "up": null,
//!  "signing": {"form": "standard-webhooks", "secret": "whsec_…", "key_id": "default", "header_prefix": "X-Health"}}
//! ```

use std::collections::BTreeMap;
use std::fmt;

use allswell_core::exchange::Method;
use allswell_core::header::{self, is_token};
use allswell_core::refusal::Refusal;
use allswell_core::signature::standard::{self, SigningSecret};
use allswell_core::template::{self, TemplateError};
use serde_json::{Map, Value, json};

use super::render::{ATTEMPT, IDEMPOTENCY_KEY, REDELIVERY};
use super::{
    BODY_CHARS_MAX, BODY_DEFAULT, Call, Form, GUARDIAN_SECRET_BYTES_MAX, GUARDIAN_SECRET_BYTES_MIN,
    HEADER_CHARS_MAX, HEADERS_MAX, METHODS, Signing, SigningKey, URL_CHARS_MAX, Webhook, is_json_name,
};

/// A field that cannot be taken, and the rule it breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field as the API names it: `down.headers.X-Name`.
    pub field: String,
    /// A code for the rule.
    pub rule: &'static str,
    /// What is wrong, for the user; without the value.
    pub sentence: String,
    /// What exactly, and what would allow it: for administrators only.
    pub for_administrators: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.sentence)
    }
}

/// Something that is taken or sent all the same, and that its owner should know.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Warning {
    /// The content type says JSON, and the body is none once its placeholders are filled.
    BrokenJson,
    /// The signature covers an empty body and not the URL, in which the message is.
    UrlNotSigned,
    /// A body is configured for a method that sends none.
    BodyNotSent,
    /// The body of the last ping is damaged in the database, or the key to it is gone.
    BodyUnreadable,
    /// What a placeholder stands for has no room in the call, and is told in part.
    Shortened,
    /// The secret of a Guardian signature begins or ends with white space, which is part of it.
    SecretSpace,
}

impl Warning {
    /// The code for records and the API.
    pub const fn code(&self) -> &'static str {
        match self {
            Warning::BrokenJson => "broken_json",
            Warning::UrlNotSigned => "url_not_signed",
            Warning::BodyNotSent => "body_not_sent",
            Warning::BodyUnreadable => "body_unreadable",
            Warning::Shortened => "shortened",
            Warning::SecretSpace => "secret_space",
        }
    }

    /// What to know.
    pub const fn sentence(&self) -> &'static str {
        match self {
            Warning::BrokenJson => {
                "The content type says JSON, but the body is none when a value in it holds a quote or a line end. It is \
                 sent as it is; $NAME_JSON, $BODY_JSON and ${json:NAME} write a value as JSON, with its quotes."
            }
            Warning::UrlNotSigned => {
                "The signature covers the body and not the URL, and this call has no body. The form guardian-v1 covers \
                 method and URL."
            }
            Warning::BodyNotSent => "The body is not sent with GET.",
            Warning::BodyUnreadable => {
                "The body of the last ping cannot be read, and the request says so in its place."
            }
            Warning::Shortened => {
                "What a placeholder stands for is too long for the call, and is sent in part; `[N more characters]` or a \
                 member `…_cut` says how much is left out."
            }
            Warning::SecretSpace => {
                "The secret begins or ends with white space, such as the line end of a file. It signs as it is."
            }
        }
    }
}

/// Judges a URL, whose placeholders are filled, as the policy of this server does. Gives its scheme, host and port in
/// their normal form, as `http://127.0.0.1:8080`.
pub type Judge<'j> = &'j dyn Fn(&str) -> Result<String, Refusal>;

/// What is needed to judge an input.
pub struct Court<'c> {
    /// The policy for URLs.
    pub judge: Judge<'c>,
    /// Whether the project has a secret of that name.
    pub has_secret: &'c dyn Fn(&str) -> bool,
    /// The name of the header that this instance adds with the HMAC of the body; empty for none.
    pub signature_header: &'c str,
}

/// Headers that say which delivery and which try it is, and that it is ours.
const OURS: [&str; 6] = [
    standard::ID,
    standard::TIMESTAMP,
    standard::SIGNATURE,
    IDEMPOTENCY_KEY,
    ATTEMPT,
    REDELIVERY,
];

/// What stands behind the prefix in the headers of a Guardian signature.
const GUARDIAN_PARTS: [&str; 4] = ["Signature", "Key-Id", "Timestamp", "Nonce"];

/// Whether webhooks carry a header of this name that says which delivery and which try it is.
pub fn is_ours(name: &str) -> bool {
    OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name))
}

impl Webhook {
    /// Reads an input. With `before`, the input is a merge patch over it, and secrets that it does not name are kept.
    ///
    /// # Errors
    /// All faults, in the order of the fields.
    pub fn read(input: &Value, before: Option<&Webhook>, court: &Court<'_>) -> Result<Self, Vec<Fault>> {
        let mut whole = before.map_or_else(|| json!({}), Webhook::to_input);
        if !input.is_object() {
            return Err(vec![fault("", "type", "the configuration must be an object")]);
        }
        merge(&mut whole, input);
        let mut reader = Reader {
            faults: Vec::new(),
            court,
        };
        let webhook = reader.webhook(&whole, before);
        match (webhook, reader.faults.is_empty()) {
            (Some(webhook), true) => Ok(webhook),
            _ => Err(reader.faults),
        }
    }

    /// The input that would make it, with all that is secret but the keys.
    fn to_input(&self) -> Value {
        let call = |call: &Call| json!({ "method": call.method.word(), "url": call.url, "headers": call.headers, "body": call.body });
        json!({
            "down": self.down.as_ref().map(call),
            "up": self.up.as_ref().map(call),
            "signing": {
                "form": self.signing.form.word(),
                "key_id": self.signing.key_id,
                "header_prefix": self.signing.header_prefix,
            },
        })
    }

    /// What its owner should know of this configuration without a message at hand.
    pub(super) fn warnings(&self) -> Vec<(&'static str, Warning)> {
        let mut warnings = Vec::new();
        let is_guardian = matches!(self.signing.form, Form::GuardianV1 | Form::GuardianV2);
        let spaced = |key: &&SigningKey| key.until.is_none() && key.secret.trim() != key.secret;
        if is_guardian && self.signing.keys.iter().any(|key| spaced(&key)) {
            warnings.push(("signing.secret", Warning::SecretSpace));
        }
        for (name, call) in self.calls() {
            if self.signing.form == Form::StandardWebhooks && !call.sends_body() {
                warnings.push((name, Warning::UrlNotSigned));
            }
            if !call.body.is_empty() && !call.sends_body() {
                warnings.push((name, Warning::BodyNotSent));
            }
        }
        warnings
    }
}

fn fault(field: &str, rule: &'static str, sentence: impl Into<String>) -> Fault {
    Fault {
        field: field.to_owned(),
        rule,
        sentence: sentence.into(),
        for_administrators: None,
    }
}

/// RFC 7396: objects are merged, null removes, everything else replaces.
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    let Value::Object(into) = into else { return };
    for (key, value) in patch {
        if value.is_null() {
            into.remove(key);
        } else {
            merge(into.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

struct Reader<'c> {
    faults: Vec<Fault>,
    court: &'c Court<'c>,
}

impl Reader<'_> {
    fn refuse(&mut self, field: &str, rule: &'static str, sentence: impl Into<String>) {
        self.faults.push(fault(field, rule, sentence));
    }

    /// The members of an object, all of which must be known.
    fn object<'v>(
        &mut self,
        field: &str,
        value: &'v Value,
        known: &[&str],
    ) -> Option<&'v Map<String, Value>> {
        let Some(object) = value.as_object() else {
            self.refuse(field, "type", "must be an object");
            return None;
        };
        for key in object.keys().filter(|key| !known.contains(&key.as_str())) {
            let path = path(field, key);
            self.refuse(
                &path,
                "unknown",
                format!("there is no such field; there are {}", known.join(", ")),
            );
        }
        Some(object)
    }

    /// A string of bounded length; what is missing is empty.
    fn text(&mut self, field: &str, value: Option<&Value>, chars_max: usize) -> String {
        let text = match value {
            None | Some(Value::Null) => return String::new(),
            Some(Value::String(text)) => text,
            Some(_) => {
                self.refuse(field, "type", "must be a string");
                return String::new();
            }
        };
        if text.chars().count() > chars_max {
            self.refuse(field, "length", format!("is longer than {chars_max} characters"));
        }
        text.clone()
    }

    fn webhook(&mut self, value: &Value, before: Option<&Webhook>) -> Option<Webhook> {
        let object = self.object("", value, &["down", "up", "signing"])?;
        // First, since its names decide which headers are taken.
        let signing = self.signing(object.get("signing"), before);
        let down = self.call("down", object.get("down"), signing.as_ref());
        let up = self.call("up", object.get("up"), signing.as_ref());
        let given = |name: &str| object.get(name).is_some_and(|call| !call.is_null());
        if down.is_none() && up.is_none() && !given("down") && !given("up") {
            self.refuse("down.url", "required", "there must be a URL for down or for up");
        }
        Some(Webhook {
            down,
            up,
            signing: signing?,
        })
    }

    /// One call. Without a URL there is none, as in Healthchecks.
    fn call(&mut self, name: &str, value: Option<&Value>, signing: Option<&Signing>) -> Option<Call> {
        let value = value.filter(|value| !value.is_null())?;
        let object = self.object(name, value, &["method", "url", "headers", "body"])?;
        let field = |key: &str| path(name, key);
        let method = self.method(&field("method"), object.get("method"));
        let url = self.text(&field("url"), object.get("url"), URL_CHARS_MAX);
        let headers = self.headers(&field("headers"), object.get("headers"), signing);
        let bodiless = object.get("body").is_none_or(Value::is_null);
        let body = self.text(&field("body"), object.get("body"), BODY_CHARS_MAX);
        if url.trim().is_empty() {
            self.refuse(&field("url"), "required", "there is no URL");
            return None;
        }
        let url = self.url(&field("url"), &url);
        self.template(&field("body"), &body);
        let mut call = Call {
            method,
            url: url.unwrap_or_default(),
            headers,
            body,
        };
        if bodiless && method != Method::Get {
            BODY_DEFAULT.clone_into(&mut call.body);
            if !call
                .headers
                .keys()
                .any(|name| name.eq_ignore_ascii_case("content-type"))
            {
                call.headers
                    .insert("Content-Type".to_owned(), "application/json".to_owned());
            }
        }
        Some(call)
    }

    fn method(&mut self, field: &str, value: Option<&Value>) -> Method {
        let word = match value {
            // One that can carry the event, unless told otherwise.
            None | Some(Value::Null) => return Method::Post,
            Some(value) => value.as_str().unwrap_or_default(),
        };
        let found = METHODS.into_iter().find(|method| method.word() == word);
        found.unwrap_or_else(|| {
            self.refuse(field, "method", "must be GET, POST or PUT");
            Method::Post
        })
    }

    /// The text before the path, where no placeholder may stand, then the whole as the policy sees it. Gives what is kept:
    /// that text in its normal form, so that what is shown is what is called.
    fn url(&mut self, field: &str, url: &str) -> Option<String> {
        let authority_end = match url.find("://") {
            Some(at) => url[at + 3..]
                .find(['/', '?', '#'])
                .map_or(url.len(), |end| at + 3 + end),
            None => url.len(),
        };
        if url[..authority_end].contains('$') {
            self.refuse(
                field,
                "placeholder",
                "placeholders may stand in the path and the query, not before them",
            );
            return None;
        }
        if !self.template(field, url) {
            return None;
        }
        // What is filled in is percent-encoded and stands behind the host: it cannot change this verdict but by the
        // length, and the door judges each call again.
        match (self.court.judge)(&plain(url)) {
            Ok(origin) => {
                let kept = format!("{origin}{}", &url[authority_end..]);
                // It is read again with the next edit, by the same rule.
                let chars = kept.chars().count();
                if chars > URL_CHARS_MAX {
                    let sentence = format!(
                        "has {chars} characters once its host is written out, and may have {URL_CHARS_MAX}"
                    );
                    self.refuse(field, "length", &sentence);
                    return None;
                }
                Some(kept)
            }
            Err(refusal) => {
                self.faults.push(Fault {
                    for_administrators: Some(refusal.for_administrators()),
                    ..fault(field, refusal.rule.code(), refusal.to_string())
                });
                None
            }
        }
    }

    /// Whether the placeholders of ours name something.
    fn template(&mut self, field: &str, text: &str) -> bool {
        let faults = self.faults.len();
        match template::secrets_of(text, is_json_name) {
            Ok(names) => {
                for name in names.into_iter().filter(|name| !(self.court.has_secret)(name)) {
                    let error = TemplateError::NoSecret(name.to_owned());
                    self.faults.push(fault(field, "secret", error.to_string()));
                }
            }
            Err(error) => self.refuse(field, "placeholder", error.to_string()),
        }
        self.faults.len() == faults
    }

    fn headers(
        &mut self,
        field: &str,
        value: Option<&Value>,
        signing: Option<&Signing>,
    ) -> BTreeMap<String, String> {
        let mut headers = BTreeMap::new();
        let object = match value {
            None | Some(Value::Null) => return headers,
            Some(Value::Object(object)) => object,
            Some(_) => {
                self.refuse(field, "type", "must be an object of names and values");
                return headers;
            }
        };
        if object.len() > HEADERS_MAX {
            self.refuse(field, "length", format!("are more than {HEADERS_MAX}"));
        }
        for (name, value) in object {
            let field = path(field, &name.escape_debug().to_string());
            let value = self.text(&field, Some(value), HEADER_CHARS_MAX);
            self.header_name(&field, name, &headers, signing);
            self.header_value(&field, &value);
            headers.insert(name.clone(), value.trim().to_owned());
        }
        headers
    }

    fn header_name(
        &mut self,
        field: &str,
        name: &str,
        others: &BTreeMap<String, String>,
        signing: Option<&Signing>,
    ) {
        let lower = name.to_ascii_lowercase();
        let guardian = signing
            .filter(|signing| matches!(signing.form, Form::GuardianV1 | Form::GuardianV2))
            .is_some_and(|signing| {
                let prefix = signing.header_prefix.to_ascii_lowercase();
                GUARDIAN_PARTS
                    .iter()
                    .any(|part| lower == format!("{prefix}-{}", part.to_ascii_lowercase()))
            });
        if !is_token(name) {
            self.refuse(field, "header_name", "is not the name of a header");
        } else if name.len() > HEADER_CHARS_MAX {
            self.refuse(
                field,
                "length",
                format!("is longer than {HEADER_CHARS_MAX} characters"),
            );
        } else if header::judge_name(name).is_err() {
            self.refuse(
                field,
                "header_reserved",
                "belongs to the connection and cannot be set",
            );
        } else if is_ours(name) || guardian || self.court.signature_header.eq_ignore_ascii_case(name) {
            self.refuse(
                field,
                "header_reserved",
                "is set by this server and cannot be set otherwise",
            );
        } else if others.keys().any(|other| other.eq_ignore_ascii_case(name)) {
            self.refuse(field, "header_twice", "stands there twice");
        }
    }

    fn header_value(&mut self, field: &str, value: &str) {
        if value.trim().is_empty() {
            self.refuse(field, "required", "has no value");
        } else if value.trim().chars().any(char::is_control) {
            self.refuse(
                field,
                "characters",
                "holds a line end or another control character",
            );
        }
        self.template(field, value);
    }

    fn signing(&mut self, value: Option<&Value>, before: Option<&Webhook>) -> Option<Signing> {
        let mut signing = Signing {
            keys: before
                .map(|webhook| webhook.signing.keys.clone())
                .unwrap_or_default(),
            ..Signing::default()
        };
        // Without it the form is what it is by default, and the secrets must fit it as any other.
        let unsaid = json!({});
        let value = value.filter(|value| !value.is_null()).unwrap_or(&unsaid);
        let object = self.object("signing", value, &["form", "secret", "key_id", "header_prefix"])?;
        if let Some(word) = object.get("form") {
            match word.as_str().and_then(Form::from_word) {
                Some(form) => signing.form = form,
                None => {
                    let known = Form::ALL.map(Form::word).join(", ");
                    self.refuse("signing.form", "form", format!("must be one of {known}"));
                }
            }
        }
        for (key, slot) in [
            ("key_id", &mut signing.key_id),
            ("header_prefix", &mut signing.header_prefix),
        ] {
            let field = path("signing", key);
            if object.contains_key(key) {
                *slot = self.text(&field, object.get(key), 64);
                if !is_token(slot) {
                    self.refuse(&field, "token", "must be letters, digits and hyphens");
                }
            }
        }
        let secret = self.text("signing.secret", object.get("secret"), 1_000);
        if !secret.is_empty() {
            signing.keys = vec![SigningKey { secret, until: None }];
        }
        if let Some(key) = signing.keys.first()
            && let Err(sentence) = signing_secret_fits(signing.form, &key.secret)
        {
            self.refuse("signing.secret", "secret", sentence);
        }
        // Those that were replaced and sign on for a while. What cannot sign in this form would stop every alert.
        let form = signing.form;
        signing
            .keys
            .retain(|key| key.until.is_none() || signing_secret_fits(form, &key.secret).is_ok());
        if matches!(form, Form::GuardianV1 | Form::GuardianV2) && is_token(&signing.header_prefix) {
            self.prefix(&signing.header_prefix);
        }
        Some(signing)
    }

    /// Judges the names that a prefix makes, as those that users give themselves.
    fn prefix(&mut self, prefix: &str) {
        for name in GUARDIAN_PARTS.map(|part| format!("{prefix}-{part}")) {
            let sentence = if header::judge_name(&name).is_err() {
                format!("makes {name}, which belongs to the connection")
            } else if is_ours(&name) || self.court.signature_header.eq_ignore_ascii_case(&name) {
                format!("makes {name}, which this server sets otherwise")
            } else {
                continue;
            };
            self.refuse("signing.header_prefix", "header_reserved", sentence);
            return;
        }
    }
}

/// Whether a secret can sign in this form; the error is what it must be.
pub fn signing_secret_fits(form: Form, secret: &str) -> Result<(), String> {
    match form {
        Form::None => Ok(()),
        Form::StandardWebhooks => SigningSecret::parse(secret)
            .map(drop)
            .map_err(|error| error.to_string()),
        Form::GuardianV1 | Form::GuardianV2 => {
            let bounds = GUARDIAN_SECRET_BYTES_MIN..=GUARDIAN_SECRET_BYTES_MAX;
            if !bounds.contains(&secret.len()) {
                return Err(format!("must have {} to {} bytes", bounds.start(), bounds.end()));
            }
            Ok(())
        }
    }
}

/// A URL with its placeholders filled by a letter each.
fn plain(url: &str) -> String {
    struct Letters;
    impl template::Values for Letters {
        fn named(&self, _: &str) -> std::borrow::Cow<'_, str> {
            "x".into()
        }
        fn tags(&self) -> &[String] {
            &[]
        }
        fn json(&self, _: &str) -> Option<std::borrow::Cow<'_, str>> {
            Some("x".into())
        }
        fn secret(&self, _: &str) -> Option<&str> {
            Some("x")
        }
    }
    template::fill(url, template::Place::Url, &Letters, url.len()).unwrap_or_else(|_| url.to_owned())
}

fn path(field: &str, key: &str) -> String {
    if field.is_empty() {
        key.to_owned()
    } else {
        format!("{field}.{key}")
    }
}
