//! How channels fare after a batch of attempts, in the transaction that records it: since when they fail, when that is
//! said, and when one is switched off. Never in silence: what is switched off stands in the audit log, on the channel, in
//! our log, and is told to another channel of the project that works.

use std::collections::{BTreeMap, HashSet};

use allswell_core::absence::Absence;
use allswell_core::chance::Dice;
use allswell_core::delivery::{Class, Owed};
use allswell_core::health::{self, Trouble};
use allswell_core::id::{ChannelId, ProjectId};
use allswell_core::limits;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::time::{Span, Timestamp};
use allswell_integrations::Kind;
use allswell_store::audit::Act;
use allswell_store::outbox::Health;
use allswell_store::{Result, Tx};
use serde_json::json;

use super::note::{Code, Note};
use super::result::Bearing;

/// What a batch of attempts says of one channel.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    works: bool,
    given_up: u64,
    gone: bool,
    blocked: bool,
    /// How the last failure is shown.
    error: Option<String>,
}

/// What a batch of attempts says of the channels.
#[derive(Clone, Debug, Default)]
pub(super) struct Seens(BTreeMap<(ProjectId, ChannelId), Seen>);

impl Seens {
    pub(super) fn note(&mut self, place: (ProjectId, ChannelId), bearing: Bearing, shown: &str) {
        let seen = self.0.entry(place).or_default();
        match bearing {
            Bearing::Works => seen.works = true,
            Bearing::Fails { given_up } => seen.given_up += u64::from(given_up),
            Bearing::Gone => (seen.gone, seen.given_up) = (true, seen.given_up + 1),
            Bearing::Blocked => seen.blocked = true,
        }
        // Of a batch in which our rules refused it, that is what is to be told.
        if bearing != Bearing::Works && (bearing == Bearing::Blocked || !seen.blocked) {
            seen.error = Some(shown.to_owned());
        }
    }

    /// Writes it down; gives what is to be said in the log, once it is committed.
    pub(super) async fn write(self, tx: &mut Tx<'_>, now: Timestamp, dice: &mut Dice) -> Result<Vec<Note>> {
        let system = SystemScope::engine();
        let works = |seen: &Seen| seen.works && !seen.gone;
        let working = self.0.iter().filter(|(_, seen)| works(seen));
        let working: Vec<ChannelId> = working.map(|((_, channel), _)| *channel).collect();
        let working = tx.channels_to_note_working(system, &working).await?;
        let working: HashSet<ChannelId> = working.into_iter().collect();
        let mut said = Vec::new();
        // All in one order, so that two nodes wait for each other in one direction.
        for ((project, channel), seen) in self.0 {
            if !works(&seen) {
                said.extend(write_one(tx, project, channel, &seen, now, dice).await?);
            } else if working.contains(&channel) {
                tx.channel_works(system, channel).await?;
            }
        }
        Ok(said)
    }
}

async fn write_one(
    tx: &mut Tx<'_>,
    project: ProjectId,
    channel: ChannelId,
    seen: &Seen,
    now: Timestamp,
    dice: &mut Dice,
) -> Result<Option<Note>> {
    let system = SystemScope::engine();
    let Some(error) = &seen.error else { return Ok(None) };
    tx.channel_fails(system, channel, error, seen.given_up, now)
        .await?;
    let Some(health) = tx.channel_health(system, channel).await? else {
        return Ok(None);
    };
    let Some(code) = come_to(tx, &health, seen, now).await? else {
        return Ok(None);
    };
    let note = Note {
        code,
        channel: channel.to_string(),
        name: health.name.clone(),
        error: error.clone(),
    };
    if matches!(code, Code::DisabledFailing | Code::DisabledGone) {
        let act = Act {
            at: now,
            project: Some(project),
            actor: "engine".to_owned(),
            action: "channel.disable",
            target: format!("channel:{channel}"),
            data: json!({ "reason": reason(code), "error": error }).to_string(),
        };
        tx.audit(dice.id_at(now), &act).await?;
    }
    tell(tx, project, channel, &note, now, dice).await?;
    Ok(Some(note))
}

const fn reason(code: Code) -> &'static str {
    match code {
        Code::DisabledGone => "gone",
        Code::DisabledFailing | Code::Failing | Code::Blocked => "failing",
    }
}

/// What is to be said now. Whoever writes it first says it, so that of two nodes one does.
async fn come_to(tx: &mut Tx<'_>, health: &Health, seen: &Seen, now: Timestamp) -> Result<Option<Code>> {
    let (system, channel) = (SystemScope::engine(), health.channel);
    if seen.gone {
        let did = tx
            .channel_disable(system, channel, reason(Code::DisabledGone), now)
            .await?;
        return Ok(did.then_some(Code::DisabledGone));
    }
    // Said once, whatever else failed before: each further alert would be refused alike.
    if seen.blocked && tx.channel_blocked_said(system, channel, now).await? {
        return Ok(Some(Code::Blocked));
    }
    let since = health.failing_since.unwrap_or(now);
    let judge = |absences: &[Absence]| health::judge(since, health.given_up, health.warnings, absences, now);
    // Mostly it comes to nothing, and absences only make it less.
    if judge(&[]).is_none() {
        return Ok(None);
    }
    let absences = tx.away_since(system, since, now).await?;
    Ok(match judge(&absences) {
        None => None,
        Some(Trouble::Warn(count)) => tx
            .channel_warned(system, channel, count)
            .await?
            .then_some(Code::Failing),
        Some(Trouble::Disable) => {
            let did = tx
                .channel_disable(system, channel, reason(Code::DisabledFailing), now)
                .await?;
            did.then_some(Code::DisabledFailing)
        }
    })
}

/// Promises the note to a channel of the project that works, if there is one.
async fn tell(
    tx: &mut Tx<'_>,
    project: ProjectId,
    about: ChannelId,
    note: &Note,
    now: Timestamp,
    dice: &mut Dice,
) -> Result<()> {
    let others = tx
        .channels_working_beside(SystemScope::engine(), project, about)
        .await?;
    let sends = |other: &&Health| Kind::from_word(&other.kind).is_none_or(Kind::sends);
    let Some(other) = others.iter().find(sends) else {
        return Ok(());
    };
    let owed = Owed {
        channel: other.channel,
        class: Class::Report,
        expires_at: now + Span::from_secs(limits::ALERT_HOURS_MAX * 3_600),
    };
    let scope = ProjectScope::granted(project);
    tx.delivery_insert_plain(scope, &owed, Some(&note.to_json()), dice.id_at(now), now)
        .await
}
