//! What the placeholders of a webhook stand for, out of a message.

use std::borrow::Cow;
use std::collections::BTreeMap;

use allswell_core::check::Status;
use allswell_core::secret::Secret;
use allswell_core::template::{self, Values};
use allswell_core::time::Timestamp;
use serde_json::{Value, json};

use crate::message::{About, AttemptInfo, Message};

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

/// A message as values for templates.
pub(super) struct Event<'m> {
    message: &'m Message,
    attempt: &'m AttemptInfo,
    secrets: &'m BTreeMap<String, Secret<String>>,
    tags: Vec<String>,
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
        }
    }

    /// What is kept of the last ping's body, as text: what is no UTF-8 becomes U+FFFD.
    fn body(&self) -> Cow<'_, str> {
        let last = self.message.last_ping.as_ref();
        last.map_or(Cow::Borrowed(""), |ping| String::from_utf8_lossy(&ping.body))
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
            "JSON" => template::json_ascii(&message.check_json).into(),
            "BODY_JSON" => template::json_string(&self.body()).into(),
            "BODY" => self.body(),
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
        let (message, settings) = (self.message, &self.message.check.settings);
        let value = match name {
            "EVENT" => self.event(),
            "CODE" => json!(message.check.id.to_string()),
            "STATUS" => json!(message.status()),
            "NOW" => json!(message.flip.at.to_rfc3339_micros()),
            "NAME" => json!(settings.name),
            "SLUG" => json!(settings.slug),
            "TAGS" => json!(self.tags),
            "CHECK" => return Some(template::json_ascii(&message.check_json).into()),
            "BODY" => json!(self.body()),
            "EXITSTATUS" => json!(self.exit_status()),
            "SEQ" => json!(message.flip.seq),
            "REASON" => json!(self.reason()),
            "MISSED" => self.missed(),
            "PROJECT" => json!(message.project_name),
            "CHANNEL" => json!(message.channel_name),
            _ => return None,
        };
        Some(template::json_ascii(&value.to_string()).into())
    }

    fn secret(&self, name: &str) -> Option<&str> {
        self.secrets.get(name).map(|secret| secret.reveal().as_str())
    }
}
