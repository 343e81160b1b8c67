//! What the placeholders of a webhook stand for, out of a message.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeMap;

use allswell_core::check::Status;
use allswell_core::secret::Secret;
use allswell_core::template::{self, Values};
use allswell_core::time::Timestamp;
use serde_json::{Value, json};

use crate::message::{About, AttemptInfo, LastPing, Message};

/// The names after `${json:`.
const JSON_NAMES: [&str; 15] = [
    "EVENT",
    "CODE",
    "STATUS",
    "NOW",
    "NAME",
    "SLUG",
    "TAGS",
    "CHECK",
    "BODY",
    "EXITSTATUS",
    "SEQ",
    "REASON",
    "MISSED",
    "PROJECT",
    "CHANNEL",
];

/// Whether `${json:NAME}` stands for something.
pub fn is_json_name(name: &str) -> bool {
    JSON_NAMES.contains(&name)
}

/// A message as values for templates. What has to be made is made at its first use, once for all templates of a call.
pub(super) struct Event<'m> {
    message: &'m Message,
    attempt: &'m AttemptInfo,
    secrets: &'m BTreeMap<String, Secret<String>>,
    tags: Vec<String>,
    body: OnceCell<Cow<'m, str>>,
    body_json: OnceCell<String>,
    /// By [`JSON_NAMES`].
    json: [OnceCell<String>; JSON_NAMES.len()],
}

impl<'m> Event<'m> {
    pub(super) fn new(
        message: &'m Message,
        attempt: &'m AttemptInfo,
        secrets: &'m BTreeMap<String, Secret<String>>,
    ) -> Self {
        // As Healthchecks counts them: split at spaces, one that stands twice is two.
        let tags = message.check.settings.tags.split(' ').map(str::trim);
        Event {
            message,
            attempt,
            secrets,
            tags: tags.filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
            body: OnceCell::new(),
            body_json: OnceCell::new(),
            json: [const { OnceCell::new() }; JSON_NAMES.len()],
        }
    }

    /// What is kept of the last ping's body, as text: what is no UTF-8 becomes U+FFFD. Of one that cannot be read it says
    /// so: what stands in the database may be damaged, and the alert is still news.
    fn body(&self) -> &str {
        self.body.get_or_init(|| match &self.message.last_ping {
            None => Cow::Borrowed(""),
            Some(LastPing { body: Some(body), .. }) => String::from_utf8_lossy(body),
            Some(LastPing { n, body: None, .. }) => format!("[the body of ping {n} cannot be read]").into(),
        })
    }

    /// Whether a body was wanted that cannot be read.
    pub(super) fn tells_unreadable_body(&self) -> bool {
        self.body.get().is_some()
            && self
                .message
                .last_ping
                .as_ref()
                .is_some_and(|ping| ping.body.is_none())
    }

    fn exit_status(&self) -> Option<u8> {
        self.message.last_ping.as_ref().and_then(|ping| ping.exit_status)
    }

    fn missed(&self) -> Value {
        let missed = self.message.missed.iter();
        missed
            .map(|flip| {
                json!({ "seq": flip.seq, "status": word(flip.status), "at": flip.at.to_rfc3339_micros() })
            })
            .collect()
    }

    /// All there is to tell, in one object: the body of a webhook that was made without one.
    fn event(&self) -> Value {
        let (message, flip, settings) = (self.message, &self.message.flip, &self.message.check.settings);
        let mut event = json!({
            "type": match &message.about {
                About::Flip => format!("check.{}", message.status()),
                About::Test => "test".to_owned(),
                About::Note(_) => "note".to_owned(),
            },
            "id": self.attempt.delivery.to_string(),
            "project": message.project.to_string(),
            "project_name": message.project_name,
            "channel_name": message.channel_name,
            "check": message.check.id.to_string(),
            "name": settings.name,
            "slug": settings.slug,
            "tags": self.tags,
            "status": message.status(),
            "seq": flip.seq,
            "occurred_at": flip.at.to_rfc3339_micros(),
            "expected_at": flip.expected_at.map(Timestamp::to_rfc3339_micros),
            "reason": self.reason(),
        });
        if let About::Note(text) = &message.about {
            event["text"] = json!(text);
        }
        if !message.missed.is_empty() {
            event["missed"] = self.missed();
        }
        if self.attempt.redelivery {
            event["redelivery"] = json!(true);
        }
        event
    }

    /// One of [`JSON_NAMES`] as JSON.
    fn value(&self, name: &str) -> String {
        let (message, settings) = (self.message, &self.message.check.settings);
        let value = match name {
            "EVENT" => self.event(),
            "CODE" => json!(message.check.id.to_string()),
            "STATUS" => json!(message.status()),
            "NOW" => json!(message.flip.at.to_rfc3339_micros()),
            "NAME" => json!(settings.name),
            "SLUG" => json!(settings.slug),
            "TAGS" => json!(self.tags),
            "CHECK" => return message.check_json.clone(),
            "BODY" => json!(self.body()),
            "EXITSTATUS" => json!(self.exit_status()),
            "SEQ" => json!(message.flip.seq),
            "REASON" => json!(self.reason()),
            "MISSED" => self.missed(),
            "PROJECT" => json!(message.project_name),
            "CHANNEL" => json!(message.channel_name),
            other => unreachable!("{other} is no value"),
        };
        value.to_string()
    }

    fn reason(&self) -> String {
        match &self.message.about {
            About::Flip => self.message.flip.reason.sentence(),
            About::Test => "somebody tries this channel".to_owned(),
            About::Note(text) => text.clone(),
        }
    }
}

/// The status of a flip that was missed. Healthchecks' words.
const fn word(status: Status) -> &'static str {
    status.word()
}

impl Values for Event<'_> {
    fn named(&self, name: &str) -> Cow<'_, str> {
        let (message, settings) = (self.message, &self.message.check.settings);
        match name {
            "CODE" => message.check.id.to_string().into(),
            "STATUS" => message.status().into(),
            "NOW" => message.flip.at.to_rfc3339_secs().into(),
            "NAME_JSON" => template::json_string(&settings.name).into(),
            "NAME" => settings.name.as_str().into(),
            "SLUG" => settings.slug.as_str().into(),
            "TAGS" => settings.tags.as_str().into(),
            "JSON" => self.json("CHECK").unwrap_or_default(),
            "BODY_JSON" => {
                let made = || template::json_string(self.body());
                self.body_json.get_or_init(made).as_str().into()
            }
            "BODY" => self.body().into(),
            "EXITSTATUS" => self
                .exit_status()
                .map_or_else(|| "-1".to_owned(), |status| status.to_string())
                .into(),
            other => unreachable!("{other} is no placeholder"),
        }
    }

    fn tags(&self) -> &[String] {
        &self.tags
    }

    fn json(&self, name: &str) -> Option<Cow<'_, str>> {
        let index = JSON_NAMES.iter().position(|known| *known == name)?;
        let made = || template::json_ascii(&self.value(name));
        Some(self.json[index].get_or_init(made).as_str().into())
    }

    fn secret(&self, name: &str) -> Option<&str> {
        self.secrets.get(name).map(|secret| secret.reveal().as_str())
    }
}
