//! What the placeholders of a webhook stand for, out of a message.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeMap;

use allswell_core::check::Status;
use allswell_core::secret::Secret;
use allswell_core::template::{self, Values};
use allswell_core::time::Timestamp;
use serde_json::{Value, json};

use super::room::{Room, cut};
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
    room: Room,
    tags_whole: Vec<String>,
    /// The same, each as there is room for it.
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
        room: Room,
    ) -> Self {
        // As Healthchecks counts them: split at spaces, one that stands twice is two.
        let tags = message.check.settings.tags.split(' ').map(str::trim);
        let tags: Vec<String> = tags.filter(|tag| !tag.is_empty()).map(str::to_owned).collect();
        Event {
            message,
            attempt,
            secrets,
            room,
            tags: tags.iter().map(|tag| room.text(tag).into_owned()).collect(),
            tags_whole: tags,
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
            Some(LastPing { body: Some(body), .. }) => match String::from_utf8_lossy(body) {
                Cow::Borrowed(text) => self.text(text),
                Cow::Owned(text) => self.text(&text).into_owned().into(),
            },
            Some(LastPing { n, body: None, .. }) => format!("[the body of ping {n} cannot be read]").into(),
        })
    }

    /// A text as there is room for it.
    fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.room.text(text)
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

    /// The newest of the flips that were missed, and how many older ones are left out.
    fn missed(&self) -> (Value, usize) {
        let missed = &self.message.missed;
        let left_out = missed.len().saturating_sub(self.room.flips());
        let list = missed[left_out..].iter().map(
            |flip| json!({ "seq": flip.seq, "status": word(flip.status), "at": flip.at.to_rfc3339_micros() }),
        );
        (list.collect(), left_out)
    }

    /// All there is to tell, in one object: the body of a webhook that was made without one.
    fn event(&self) -> Value {
        let (message, flip, settings) = (self.message, &self.message.flip, &self.message.check.settings);
        let tags = self.room.texts(&self.tags_whole);
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
            "tags": self.tags_whole[..tags],
            "status": message.status(),
            "seq": flip.seq,
            "occurred_at": flip.at.to_rfc3339_micros(),
            "expected_at": flip.expected_at.map(Timestamp::to_rfc3339_micros),
            "reason": self.reason(),
        });
        if let About::Note(text) = &message.about {
            event["text"] = json!(text);
        }
        if tags < self.tags_whole.len() {
            event[cut("tags")] = json!(self.tags_whole.len() - tags);
        }
        if !message.missed.is_empty() {
            let (missed, left_out) = self.missed();
            event["missed"] = missed;
            if left_out > 0 {
                event[cut("missed")] = json!(left_out);
            }
        }
        if self.attempt.redelivery {
            event["redelivery"] = json!(true);
        }
        self.room.object(event)
    }

    /// One of [`JSON_NAMES`] as JSON.
    fn value(&self, name: &str) -> String {
        let (message, settings) = (self.message, &self.message.check.settings);
        let value = match name {
            "EVENT" => self.event(),
            "CODE" => json!(message.check.id.to_string()),
            "STATUS" => json!(message.status()),
            "NOW" => json!(message.flip.at.to_rfc3339_micros()),
            "NAME" => json!(self.text(&settings.name)),
            "SLUG" => json!(settings.slug),
            "TAGS" => json!(self.tags_whole[..self.room.texts(&self.tags_whole)]),
            "CHECK" if self.room == Room::Whole => return message.check_json.clone(),
            "CHECK" => {
                let whole = serde_json::from_str(&message.check_json);
                self.room.object(whole.unwrap_or_default())
            }
            "BODY" => json!(self.body()),
            "EXITSTATUS" => json!(self.exit_status()),
            "SEQ" => json!(message.flip.seq),
            "REASON" => json!(self.text(&self.reason())),
            "MISSED" => self.missed().0,
            "PROJECT" => json!(self.text(&message.project_name)),
            "CHANNEL" => json!(self.text(&message.channel_name)),
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
            "NAME_JSON" => template::json_string(&self.text(&settings.name)).into(),
            "NAME" => self.text(&settings.name),
            "SLUG" => settings.slug.as_str().into(),
            "TAGS" => self.text(&settings.tags),
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
