//! Whom a check tells, and what people should know of a check that they made or changed.

use allswell_core::check::{Check, Status};
use allswell_core::id::{ChannelId, CheckId};
use allswell_core::schedule::Zones;
use allswell_core::scope::ProjectScope;
use allswell_core::time::Timestamp;
use allswell_engine::record;
use allswell_store::{Error, Reader};
use serde_json::{Value, json};

use crate::commands::printable;

/// A channel, as far as a check's reader wants to know it.
#[derive(Clone)]
pub struct Told {
    pub id: ChannelId,
    pub kind: String,
    pub name: String,
    /// Since when it is switched off.
    pub off: Option<Timestamp>,
}

impl Told {
    pub fn value(&self) -> Value {
        json!({ "id": self.id.to_string(), "kind": self.kind, "name": self.name, "enabled": self.off.is_none() })
    }

    pub fn words(&self) -> String {
        let off = self
            .off
            .map_or_else(String::new, |at| format!(", switched off {}", at.floor_secs()));
        format!("{} ({}{off})", printable(&self.name), printable(&self.kind))
    }
}

/// All channels of a project.
pub async fn channels(reader: &mut Reader<'_>, scope: ProjectScope) -> Result<Vec<Told>, Error> {
    let channels = reader.channels_health(scope).await?;
    let told = channels.into_iter().map(|health| Told {
        id: health.channel,
        kind: health.kind,
        name: health.name,
        off: health.disabled.map(|(at, _)| at),
    });
    Ok(told.collect())
}

/// The channels that a check tells.
pub async fn by(reader: &mut Reader<'_>, scope: ProjectScope, check: CheckId) -> Result<Vec<Told>, Error> {
    let ids = reader.check_channels(scope, check).await?;
    let mut told = channels(reader, scope).await?;
    told.retain(|channel| ids.contains(&channel.id));
    Ok(told)
}

/// Whether nothing is expected of a check until it is heard of: nobody is told of one that never begins.
pub fn awaits_first_ping(check: &Check, zones: &Zones) -> bool {
    let plan = record::plan_to_show(check, zones);
    check.state.status == Status::New && check.state.deadline(&plan).is_none()
}

/// What a check that awaits its first ping should say of itself.
pub const FIRST_PING: &str =
    "waits for its first ping: nothing is expected of it and nobody is told until then";

/// Something that people should know of what they asked for.
pub struct Note {
    field: &'static str,
    rule: &'static str,
    detail: String,
}

impl Note {
    pub fn value(&self) -> Value {
        json!({ "field": self.field, "rule": self.rule, "detail": self.detail })
    }

    pub fn line(&self) -> String {
        format!("Note on {}: {}\n", self.field, self.detail)
    }

    /// Of a check that tells nobody, and how that is mended.
    pub fn of_nobody(check: &Check, told: &[Told], project_has_channels: bool) -> Option<Self> {
        let makes = if project_has_channels {
            ""
        } else {
            "the project has no channel; `allswell channel create` makes one. "
        };
        told.is_empty().then(|| Note {
            field: "channel",
            rule: "nobody",
            detail: format!(
                "{makes}The check tells nobody until it has a channel: allswell check update --project {} {} --add-channel \
                 CHANNEL",
                check.project, check.id
            ),
        })
    }

    /// Of a slug that another check has too, as it may be.
    pub async fn of_slug(
        reader: &mut Reader<'_>,
        scope: ProjectScope,
        check: &Check,
    ) -> Result<Option<Self>, Error> {
        let slug = &check.settings.slug;
        if slug.is_empty() {
            return Ok(None);
        }
        let namesakes = reader.checks_by_slug(scope, slug).await?;
        let other = namesakes.iter().find(|other| other.id != check.id);
        Ok(other.map(|other| Note {
            field: "slug",
            rule: "taken",
            detail: format!(
                "{slug} is the slug of check {} too: pings to …/{slug} are refused (409 ambiguous slug) until one of the two \
                 has another",
                other.id
            ),
        }))
    }
}
