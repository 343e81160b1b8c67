//! Channels that are switched off, by the engine, and on again, by people.
//!
//! Each time counts for itself: a channel goes off with the row of an attempt that found nobody, or after days without
//! success, and on with the request of somebody; and being off excuses what was decided while it was off, nothing later.

use std::collections::{BTreeMap, BTreeSet};

use allswell_core::exchange::{End, Outcome};
use allswell_core::id::ChannelId;
use allswell_core::time::{Span, Timestamp};
use allswell_store::simulated::Promise;

use crate::rules::{GONE, Held, broken, holds};
use crate::world::{START, World};

/// Whoever fails for shorter is not switched off for that.
const FAILS_FOR: Span = Span::from_secs(120 * 3_600);

/// What is known of switches.
#[derive(Default)]
pub(crate) struct Switches {
    /// The channels that are off now, each with the look that first saw it so.
    off: BTreeMap<ChannelId, u64>,
    /// The last look that left a channel off.
    last_off: BTreeMap<ChannelId, u64>,
    /// Those that the last commits have switched off, and on.
    went_off: BTreeSet<ChannelId>,
    went_on: BTreeSet<ChannelId>,
    /// Those of which the last commits wrote down that nobody is there, and those that somebody switched on with them.
    found_nobody: BTreeSet<ChannelId>,
    switched_on: BTreeSet<ChannelId>,
    /// Those that somebody deleted, each with the look that first saw it so.
    deleted: BTreeMap<ChannelId, u64>,
    look: u64,
    /// When something last arrived, or somebody switched it on.
    works: BTreeMap<ChannelId, Timestamp>,
}

impl Switches {
    /// The channels that are promised nothing, and those of which nobody knows it: who committed first, whoever switched
    /// them or whoever promised?
    pub(crate) fn known(&self) -> (BTreeSet<ChannelId>, BTreeSet<ChannelId>) {
        let deleted = self.deleted.iter().filter(|(_, look)| **look == self.look);
        let mut changed: BTreeSet<ChannelId> = deleted.map(|(channel, _)| *channel).collect();
        changed.extend(self.went_off.union(&self.went_on));
        let off = self.off.keys().chain(self.deleted.keys());
        let off = off.filter(|channel| !changed.contains(channel));
        (off.copied().collect(), changed)
    }

    /// The channels that are off and not deleted.
    pub(crate) fn off(&self) -> impl Iterator<Item = ChannelId> {
        let off = self.off.keys().copied();
        off.filter(|channel| !self.deleted.contains_key(channel))
    }

    /// Whether somebody has deleted a channel.
    pub(crate) fn is_deleted(&self, channel: ChannelId) -> bool {
        self.deleted.contains_key(&channel)
    }

    /// Whether somebody had deleted a channel before the last commits.
    pub(crate) fn was_deleted(&self, channel: ChannelId) -> bool {
        self.deleted.get(&channel).is_some_and(|look| *look < self.look)
    }

    /// Whether a channel was deleted already at this look.
    pub(crate) fn is_deleted_since(&self, channel: ChannelId, look: u64) -> bool {
        self.deleted.get(&channel).is_some_and(|since| *since <= look)
    }

    /// Whether a channel was off at some time since this look and before the last commits.
    pub(crate) fn was_off_since(&self, channel: ChannelId, look: u64) -> bool {
        self.last_off.get(&channel).is_some_and(|last| *last >= look)
    }

    /// Whether a channel has been off all the time since this look.
    pub(crate) fn is_off_since(&self, channel: ChannelId, look: u64) -> bool {
        self.off.get(&channel).is_some_and(|since| *since <= look)
    }

    /// Whether the last commits have switched a channel off, if only for a moment.
    pub(crate) fn went_off(&self, channel: ChannelId) -> bool {
        self.went_off.contains(&channel) || self.switched_on.contains(&channel)
    }

    /// The row of an attempt was written that found nobody.
    pub(crate) fn found_nobody(&mut self, channel: ChannelId) {
        self.found_nobody.insert(channel);
    }

    /// Something has arrived.
    pub(crate) fn works(&mut self, channel: ChannelId, at: Timestamp) {
        self.works.insert(channel, at);
    }
}

/// Whether a receiver says that it is gone for good.
pub(crate) fn is_gone(outcome: &Outcome) -> bool {
    matches!(&outcome.end, End::Answered(answer) if answer.status == 410)
}

impl World {
    /// Which channels are off after the last commits; `switched_on` by somebody, with one of them.
    pub(crate) fn look_at_switches(&mut self, switched_on: BTreeSet<ChannelId>) {
        let off = self.db.channels_off().expect("readable");
        let look = self.sights.looks;
        let deleted = self.db.channels_deleted().expect("readable");
        let switches = &mut self.switches;
        switches.look = look;
        for channel in deleted {
            switches.deleted.entry(channel).or_insert(look);
        }
        let before = std::mem::take(&mut switches.off);
        for channel in before.keys() {
            switches.last_off.insert(*channel, look - 1);
        }
        let since = |channel: &ChannelId| (*channel, before.get(channel).copied().unwrap_or(look));
        switches.off = off.iter().map(since).collect();
        let before: BTreeSet<ChannelId> = before.into_keys().collect();
        switches.went_off = off.difference(&before).copied().collect();
        switches.went_on = before.difference(&off).copied().collect();
        switches.found_nobody.clear();
        let now = self.latest_clock;
        let on = switched_on.iter().map(|channel| (*channel, now));
        switches.works.extend(on);
        switches.switched_on = switched_on;
    }

    /// Each channel that the last commits have switched was switched for a reason that they wrote down with it.
    pub(crate) fn switched_rightly(&self) -> Held {
        let switches = &self.switches;
        for channel in &switches.went_off {
            let last = switches.works.get(channel).copied().unwrap_or(START);
            let fails_for = self.latest_clock - last;
            let why = switches.found_nobody.contains(channel) || fails_for >= FAILS_FOR;
            holds(GONE, why, || {
                format!("channel {channel} was switched off, and fails for {fails_for} only")
            })?;
        }
        for channel in &switches.went_on {
            holds(GONE, switches.switched_on.contains(channel), || {
                format!("channel {channel} is on again, and nobody asked for it")
            })?;
        }
        Ok(())
    }

    /// What came of an attempt is stored: if its receiver is gone for good, its channel is off with that.
    pub(crate) fn is_off_if_gone(&self, outcome: &Outcome, now: &Promise) -> Held {
        let switches = &self.switches;
        // Somebody may have switched it on in between.
        let off = switches.off.contains_key(&now.channel)
            || switches.switched_on.contains(&now.channel)
            || switches.is_deleted(now.channel);
        if is_gone(outcome) && (!off || now.finished_at.is_none()) {
            return broken(GONE, format!("{now:?} found nobody, {outcome:?}"));
        }
        Ok(())
    }
}
