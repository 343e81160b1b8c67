//! Channels that are switched off, by the engine, and on again, by people.

use std::collections::BTreeSet;

use allswell_core::exchange::{End, Outcome};
use allswell_core::id::ChannelId;
use allswell_core::scope::ProjectScope;
use allswell_core::time::Span;
use allswell_store::simulated::Promise;

use crate::node::Done;
use crate::rules::{GONE, Held, broken, holds};
use crate::task::Task;
use crate::world::World;

/// Whoever fails for shorter is not switched off for that.
const FAILS_FOR: Span = Span::from_secs(120 * 3_600);

/// What is known of switches.
#[derive(Default)]
pub(crate) struct Switches {
    /// The channels that are off now.
    off: BTreeSet<ChannelId>,
    /// Those that the last commits have switched.
    changed: BTreeSet<ChannelId>,
    /// Those that were off at some time.
    ever_off: BTreeSet<ChannelId>,
    /// Those that somebody wants on.
    wanted_on: BTreeSet<ChannelId>,
    /// Receivers that said it of themselves, to an alert or to a note of ours.
    said_gone: BTreeSet<usize>,
}

impl Switches {
    /// The channels that are promised nothing, and those of which nobody knows it: who committed first, whoever switched
    /// them or whoever promised?
    pub(crate) fn known(&self) -> (BTreeSet<ChannelId>, BTreeSet<ChannelId>) {
        let off = self.off.difference(&self.changed).copied().collect();
        (off, self.changed.clone())
    }

    /// A receiver answers a call so.
    pub(crate) fn heard(&mut self, receiver: usize, outcome: &Outcome) {
        if is_gone(outcome) {
            self.said_gone.insert(receiver);
        }
    }

    pub(crate) fn was_ever_off(&self, channel: ChannelId) -> bool {
        self.ever_off.contains(&channel)
    }
}

/// Whether a receiver says that it is gone for good.
pub(crate) fn is_gone(outcome: &Outcome) -> bool {
    matches!(&outcome.end, End::Answered(answer) if answer.status == 410)
}

impl World {
    pub(crate) fn look_at_switches(&mut self) -> Held {
        let off = self.db.channels_off().expect("readable");
        let before = std::mem::replace(&mut self.switches.off, off.clone());
        for channel in off.difference(&before) {
            let hook = self.all_channels().find(|of| of.id == *channel);
            let hook = hook.and_then(|of| of.hook);
            let gone = hook.is_some_and(|hook| self.switches.said_gone.contains(&hook));
            holds(GONE, gone || self.lasted() >= FAILS_FOR, || {
                format!("channel {channel} was switched off, and why?")
            })?;
        }
        for channel in before.difference(&off) {
            let wanted = self.switches.wanted_on.contains(channel);
            holds(GONE, wanted, || {
                format!("channel {channel} is on again, and nobody asked for it")
            })?;
        }
        self.switches.changed = off.symmetric_difference(&before).copied().collect();
        self.switches.ever_off.extend(off);
        Ok(())
    }

    /// What came of an attempt is stored: if its receiver is gone for good, its channel is off with that.
    pub(crate) fn is_off_if_gone(&self, outcome: &Outcome, now: &Promise) -> Held {
        let switches = &self.switches;
        let off = switches.off.contains(&now.channel) || switches.changed.contains(&now.channel);
        if is_gone(outcome) && (!off || now.finished_at.is_none()) {
            return broken(GONE, format!("{now:?} found nobody, {outcome:?}"));
        }
        Ok(())
    }

    /// Somebody switches a channel on again.
    pub(crate) fn somebody_switches_on(&mut self) {
        let off: Vec<ChannelId> = self.switches.off.iter().copied().collect();
        let up = self.nodes_up();
        if off.is_empty() || up.is_empty() {
            return;
        }
        let channel = off[self.roll(off.len() as u32) as usize];
        let place = up[self.roll(up.len() as u32) as usize];
        self.say(|| format!("somebody switches channel {channel} on"));
        self.switches.wanted_on.insert(channel);
        let scope = ProjectScope::granted(self.project);
        let up = self.nodes[place].up.as_mut().expect("it is up");
        let store = up.store.clone();
        let work = async move {
            let done = store.write(async move |tx| tx.channel_enable(scope, channel).await);
            Done::Deed(done.await.map(drop))
        };
        up.tasks.push(Task::new(work));
    }
}
