//! From rows to what is sent: the facts of claimed deliveries are read together, and become messages one by one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use allswell_core::absence::ABSENCE_MIN;
use allswell_core::check::{Check, Settings, State, Status};
use allswell_core::delivery::{self, Class, Outdated, Term};
use allswell_core::exchange::Request;
use allswell_core::flip::{Flip, Reason};
use allswell_core::id::{ChannelId, ProjectId};
use allswell_core::retry::fast_phase_is_over;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::secret::Secret;
use allswell_core::signal::Cause;
use allswell_core::time::Timestamp;
use allswell_integrations::webhook::{RenderError, Webhook};
use allswell_integrations::{About, AttemptInfo, Kind, LastPing, Message, Missed, Needs, log};
use allswell_store::outbox::{Claimed, End, SWITCHED_OFF, Target, Told};
use allswell_store::{Error, Reader, Result};

use super::note::Note;
use super::result::Bearing;

/// The note of a test that tells that a check came back up. One without a note tells that it went down.
pub(crate) const TEST_UP: &str = "up";

/// Named secrets of a project.
pub(super) type Secrets = Arc<BTreeMap<String, Secret<String>>>;

/// What a claimed delivery is about, as it was read.
pub(super) struct Facts {
    pub(super) claimed: Claimed,
    /// It is tried even if its time is over.
    is_owed_a_try: bool,
    /// `None`: the channel or the project is gone.
    target: Option<Arc<Target>>,
    /// `None`: the check or the flip is gone, or it is about none.
    told: Option<Told>,
    last_ping: Option<LastPing>,
    /// The channels of the check, where somebody wants to know them.
    channels: Option<Vec<ChannelId>>,
    secrets: Secrets,
    /// What it tells does not hold any more, and nothing newer follows.
    outdated: Option<Outdated>,
    /// Why a row that it needs cannot be read.
    unreadable: Option<String>,
}

/// A channel as its deliveries need it.
#[derive(Clone)]
struct Place {
    target: Arc<Target>,
    needs: Needs,
    secrets: Secrets,
}

/// Keeps a row that cannot be read apart from what keeps all from being read: it is the trouble of those alone that
/// need it.
fn readable<T>(read: Result<T>) -> Result<std::result::Result<T, String>> {
    match read {
        Ok(value) => Ok(Ok(value)),
        Err(Error::Corrupt(why)) => Ok(Err(why)),
        Err(error) => Err(error),
    }
}

/// What is to be done for a delivery.
pub(super) enum Work {
    /// Send this; beside it what its owner should know.
    Send(Box<Request>, Vec<String>),
    /// Write this into the log.
    Line(String),
    /// Nothing more: it ends, and why.
    End(End, String),
    /// It waits for a server that can read its flip.
    Unreadable(String),
}

/// Reads the facts of deliveries that were just claimed.
pub(super) async fn read(
    reader: &mut Reader<'_>,
    mut claimed: Vec<Claimed>,
    now: Timestamp,
) -> Result<Vec<Facts>> {
    let system = SystemScope::engine();
    let mut owed = vec![false; claimed.len()];
    // Since the others were promised nobody can have been away.
    if claimed
        .iter()
        .any(|claimed| now - claimed.created_at > ABSENCE_MIN)
    {
        owed = Box::pin(lengthen(reader, &mut claimed, now)).await?;
    }
    let mut places: Vec<(ProjectId, ChannelId)> = claimed
        .iter()
        .map(|claimed| (claimed.project, claimed.channel))
        .collect();
    places.sort_unstable();
    places.dedup();
    let mut found = reader.delivery_targets(system, &places).await?;
    let mut targets = HashMap::new();
    for (project, channel) in places {
        let Some(target) = found.remove(&channel) else {
            continue;
        };
        let place = match readable(target)? {
            Ok(target) => readable(place(reader, project, target).await)?,
            Err(why) => Err(why),
        };
        targets.insert(channel, place);
    }
    let mut told = reader
        .deliveries_told(system, &claimed.iter().collect::<Vec<_>>())
        .await?;
    let mut facts = Vec::with_capacity(claimed.len());
    for (claimed, is_owed_a_try) in claimed.into_iter().zip(owed) {
        let told = told.remove(&claimed.id);
        let (place, mut unreadable) = match targets.get(&claimed.channel) {
            Some(Ok(place)) => (Some(place.clone()), None),
            Some(Err(why)) => (None, Some(why.clone())),
            None => (None, None),
        };
        let needs = place.as_ref().map(|place| place.needs).unwrap_or_default();
        // A test tells a check that no channel is assigned to.
        let (mut last_ping, mut channels) = (None, needs.check_json.then(Vec::new));
        match &told {
            Some(Ok(told)) => match readable(beside(reader, told, needs).await)? {
                Ok((ping, assigned)) => (last_ping, channels) = (ping, assigned.or(channels)),
                Err(why) => unreadable = Some(why),
            },
            Some(Err(error)) => unreadable = Some(error.to_string()),
            None => {}
        }
        let outdated = match &told {
            Some(Ok(told)) => outdated(reader, &claimed, told, now).await?,
            _ => None,
        };
        let (target, secrets) = place.map(|place| (place.target, place.secrets)).unzip();
        facts.push(Facts {
            claimed,
            is_owed_a_try,
            target,
            told: told.and_then(Result::ok),
            last_ping,
            channels,
            outdated,
            secrets: secrets.unwrap_or_default(),
            unreadable,
        });
    }
    Ok(facts)
}

/// Whether an alert that waited is not told any more. One that somebody had sent again is told whatever came since.
async fn outdated(
    reader: &mut Reader<'_>,
    claimed: &Claimed,
    told: &Told,
    now: Timestamp,
) -> Result<Option<Outdated>> {
    let Some(flip) = told.flips.last().filter(|_| !claimed.redelivery) else {
        return Ok(None);
    };
    if !fast_phase_is_over(claimed.attempts, claimed.created_at, now) {
        return Ok(None);
    }
    let standing = reader.delivery_standing(SystemScope::engine(), claimed).await?;
    Ok(standing.and_then(|standing| delivery::outdated(flip.to, told.check.state.status, standing)))
}

/// Gives each the time that we were away since it was promised; tells which of those whose time is over all the same are
/// tried once more.
async fn lengthen(reader: &mut Reader<'_>, claimed: &mut [Claimed], now: Timestamp) -> Result<Vec<bool>> {
    let system = SystemScope::engine();
    let since = claimed.iter().map(|claimed| claimed.created_at).min();
    let absences = reader.away_since(system, since.unwrap_or(now), now).await?;
    let mut owed = vec![false; claimed.len()];
    for (claimed, owed) in claimed.iter_mut().zip(&mut owed) {
        let term = Term {
            class: claimed.class,
            promised_at: claimed.created_at,
            expires_at: claimed.expires_at,
            absences: &absences,
        };
        claimed.expires_at = term.ends_at();
        if claimed.expires_at <= now {
            *owed = term.is_owed_a_try(reader.last_try(system, claimed).await?);
        }
    }
    Ok(owed)
}

/// Where a channel's deliveries go, and what its messages need.
async fn place(reader: &mut Reader<'_>, project: ProjectId, target: Target) -> Result<Place> {
    Ok(Place {
        needs: Needs::of(target.config.reveal()),
        secrets: secrets(reader, project, &target).await?,
        target: Arc::new(target),
    })
}

/// What stands beside the flip, as far as a channel's messages need it: the last ping, and the check's channels.
async fn beside(
    reader: &mut Reader<'_>,
    told: &Told,
    needs: Needs,
) -> Result<(Option<LastPing>, Option<Vec<ChannelId>>)> {
    let system = SystemScope::engine();
    let mut last_ping = None;
    if let Some(flip) = told.flips.last().filter(|_| needs.last_ping) {
        let (project, check) = (ProjectScope::granted(told.check.project), told.check.id);
        if let Some((n, exit_status)) = reader.ping_before(system, check, flip.at).await? {
            let body = match readable(reader.ping_body(project, check, n).await)? {
                Ok(body) => Some(body.unwrap_or_default()),
                // Only what stands beside the news: the alert goes out, and says what is missing.
                Err(why) => {
                    tracing::error!(check.id = %check, "an alert is sent without the body of a ping: {why}");
                    None
                }
            };
            last_ping = Some(LastPing { n, exit_status, body });
        }
    }
    let mut channels = None;
    if needs.check_json {
        channels = Some(reader.check_channel_ids(system, told.check.id).await?);
    }
    Ok((last_ping, channels))
}

/// The project's secrets, if the channel's templates name any.
async fn secrets(reader: &mut Reader<'_>, project: ProjectId, target: &Target) -> Result<Secrets> {
    const NAMED: &[u8] = b"${secret:";
    if !target
        .config
        .reveal()
        .windows(NAMED.len())
        .any(|part| part == NAMED)
    {
        return Ok(Secrets::default());
    }
    reader
        .secret_values(ProjectScope::granted(project))
        .await
        .map(Arc::new)
}

impl Facts {
    /// What an end before any attempt has to do with the channel. One that expired is the channel's trouble if it was tried
    /// before; that we never tried it, or could not send it, is ours. A test is only a test.
    pub(super) fn bearing(&self, end: End) -> Option<Bearing> {
        let sends = self.unreadable.is_none() && self.target.as_ref().is_some_and(|target| !target.disabled);
        match end {
            _ if !sends || self.claimed.class == Class::Test => None,
            End::Blocked => Some(Bearing::Blocked),
            End::Expired if self.claimed.attempts > 0 => Some(Bearing::Fails { given_up: true }),
            End::Expired | End::Delivered | End::Cancelled | End::Superseded | End::Exhausted => None,
        }
    }

    /// What is to be done at `now`.
    pub(super) fn work(&self, trade: &super::Trade, now: Timestamp) -> Work {
        let is_over = self.claimed.expires_at <= now;
        let expired = || Work::End(End::Expired, "expired".to_owned());
        if is_over && !self.is_owed_a_try {
            return expired();
        }
        match self.to_tell(trade, now) {
            // Nobody tells when it could be tried.
            Work::Unreadable(_) if is_over => expired(),
            work => work,
        }
    }

    fn to_tell(&self, trade: &super::Trade, now: Timestamp) -> Work {
        let claimed = &self.claimed;
        if let Some(why) = &self.unreadable {
            return Work::Unreadable(why.clone());
        }
        let gone = |what: &str| Work::End(End::Cancelled, format!("the {what} is gone"));
        let Some(target) = &self.target else {
            return gone("channel");
        };
        // A test shows whether it works again.
        if target.disabled && claimed.class != Class::Test {
            return Work::End(End::Cancelled, SWITCHED_OFF.to_owned());
        }
        let Some(message) = self.message(target, trade, now) else {
            return gone("check");
        };
        let attempt = AttemptInfo {
            delivery: claimed.id,
            n: claimed.attempts + 1,
            now,
            redelivery: claimed.redelivery,
        };
        if let Some(why) = self.outdated {
            return Work::End(End::Cancelled, why.sentence().to_owned());
        }
        match Kind::from_word(&target.kind) {
            Some(Kind::Log) => Work::Line(line(&message)),
            Some(Kind::Silent) => Work::End(End::Cancelled, "this kind sends nothing".to_owned()),
            Some(Kind::Webhook) => self.webhook(target, &message, &attempt, trade),
            None => Work::End(End::Cancelled, "a kind this version does not know".to_owned()),
        }
    }

    fn webhook(
        &self,
        target: &Target,
        message: &Message,
        attempt: &AttemptInfo,
        trade: &super::Trade,
    ) -> Work {
        let Some(webhook) = Webhook::from_bytes(target.config.reveal()) else {
            return Work::Unreadable("its channel's configuration is of a later version".to_owned());
        };
        let mut dice = trade.dice();
        match webhook.render(message, attempt, &self.secrets, &trade.rules.sender, &mut dice) {
            Ok(rendered) => {
                let warnings = rendered
                    .warnings
                    .iter()
                    .map(|warning| warning.code().to_owned())
                    .collect();
                Work::Send(Box::new(rendered.request), warnings)
            }
            Err(RenderError::NoCall) => Work::End(
                End::Cancelled,
                "the channel sends nothing for this status".to_owned(),
            ),
            Err(error) => Work::End(End::Blocked, format!("the request cannot be made: {error}")),
        }
    }

    fn message(&self, target: &Target, trade: &super::Trade, now: Timestamp) -> Option<Message> {
        let claimed = &self.claimed;
        let (about, check, flip, missed) = if claimed.seq == 0 {
            let (about, check, flip) = self.made_up(target, now);
            (about, check, flip, Vec::new())
        } else {
            let told = self.told.as_ref()?;
            let (flip, before) = told.flips.split_last()?;
            let missed = before.iter().map(|flip| Missed {
                seq: flip.seq,
                status: flip.to,
                at: flip.at,
            });
            let mut check = told.check.clone();
            // As the flip left it, and not as a later one did: all of a message tells of one status.
            check.state.status = flip.to;
            (About::Flip, check, flip.clone(), missed.collect())
        };
        let json = |channels: &Vec<ChannelId>| (trade.describe)(&check, channels, now);
        Some(Message {
            check_json: self.channels.as_ref().map(json).unwrap_or_default(),
            about,
            project: claimed.project,
            project_name: target.project_name.clone(),
            channel: claimed.channel,
            channel_name: target.name.clone(),
            check,
            flip,
            missed,
            last_ping: self.last_ping.clone(),
        })
    }

    /// What a test or a note tells: a check that nobody has, whose name says what it is.
    fn made_up(&self, target: &Target, now: Timestamp) -> (About, Check, Flip) {
        let claimed = &self.claimed;
        let note = claimed.note.as_deref().and_then(Note::from_json);
        let (about, name) = match note {
            Some(note) => {
                let sentence = note.sentence();
                (About::Note(sentence.clone()), sentence)
            }
            None => (About::Test, format!("TEST of {}", target.name)),
        };
        let at = claimed.created_at.min(now);
        let status = match claimed.note.as_deref() {
            Some(TEST_UP) => Status::Up,
            _ => Status::Down,
        };
        let check = Check {
            // Of no check, but an id that stays over all attempts.
            id: claimed.id.as_uuid().into(),
            project: claimed.project,
            badge: claimed.id.as_uuid(),
            settings: Settings {
                name,
                ..Settings::default()
            },
            state: State {
                status,
                ..State::new(at)
            },
            deadline: None,
            version: 1,
            created_at: at,
        };
        let flip = Flip {
            seq: 0,
            from: if status == Status::Up {
                Status::Down
            } else {
                Status::Up
            },
            to: status,
            at,
            expected_at: None,
            reason: Reason::Fail {
                ping: 0,
                cause: Cause::Address,
            },
        };
        (about, check, flip)
    }
}

fn line(message: &Message) -> String {
    match &message.about {
        About::Flip => {
            let check = &message.check;
            log::line(&check.settings.name, &check.id.to_string(), &message.flip)
        }
        About::Test => format!("a test of channel {:?}", message.channel_name),
        About::Note(text) => text.escape_debug().collect(),
    }
}
