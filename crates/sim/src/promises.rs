//! Looking at deliveries after each commit: that each is owed, whose it is, how it ended, and in which order they are told.

use std::collections::{BTreeMap, BTreeSet};

use allswell_core::check::Status;
use allswell_core::delivery::Class;
use allswell_core::flip::Flip;
use allswell_core::id::{ChannelId, CheckId, DeliveryId, NodeId};
use allswell_core::limits::{ALERT_FLIPS_MAX, ALERT_HOURS_MAX};
use allswell_core::retry::fast_phase_is_over;
use allswell_core::time::{Span, Timestamp};
use allswell_store::simulated::Promise;

use crate::model::{Channel, Model};
use crate::rules::{COVERED, ENDED, HEAD, Held, LEASED, ORDER, OVERTAKEN, OWED, TOLD, broken, holds};
use crate::tries::ATTEMPT;
use crate::world::World;

impl World {
    pub(crate) fn look_at_promises(&mut self, committed: &[usize]) -> Held {
        let set_back = self.set_back_to(committed);
        let stamps = self.db.promise_stamps().expect("readable");
        let ids: Vec<CheckId> = self.models.keys().copied().collect();
        for id in ids {
            let (model, stamp) = (&self.models[&id], stamps.get(&id).copied());
            if stamp == model.promise_stamp && model.promises.len() == model.owed.len() {
                continue;
            }
            let stored = self.db.promises(id).expect("readable");
            for promise in &stored {
                let lane = (id, promise.channel, promise.seq);
                self.sights.lanes.insert(promise.id, lane);
                self.sights.leased(promise, &set_back);
            }
            let model = self.models.get_mut(&id).expect("just seen");
            are_owed(model, &stored)?;
            let before = std::mem::take(&mut model.promises);
            for promise in &stored {
                self.moved(&before, promise, &stored, committed)?;
            }
            self.leases_are_at_the_head(&stored)?;
            let model = self.models.get_mut(&id).expect("just seen");
            model.promise_stamp = stamp;
            model.promises = stored.into_iter().map(|promise| (promise.id, promise)).collect();
        }
        Ok(())
    }

    /// A delivery of this check, or one that tells no flip.
    pub(crate) fn promise(&self, check: CheckId, id: DeliveryId) -> Option<&Promise> {
        let model = self.models.get(&check);
        let of_check = model.and_then(|model| model.promises.get(&id));
        of_check.or_else(|| self.alone.get(&id))
    }

    /// Of a lane only the oldest that is open may be leased: so no newer one is told before an older one has ended. But for
    /// one that was leased before somebody had the older one sent again, whatever was told since.
    fn leases_are_at_the_head(&self, stored: &[Promise]) -> Held {
        let mut heads: BTreeMap<ChannelId, &Promise> = BTreeMap::new();
        for promise in stored.iter().filter(|promise| promise.finished_at.is_none()) {
            let head = *heads.entry(promise.channel).or_insert(promise);
            let behind = head.id != promise.id && promise.lease.is_some();
            let leased = self.sights.held.get(&promise.id).map(|(_, look)| *look);
            let forced = self.hands.forced.get(&head.id).copied();
            let was_first = forced.is_some_and(|forced| leased.is_some_and(|leased| leased <= forced));
            holds(HEAD, !behind || was_first, || {
                format!("{promise:?} stands behind {head:?}")
            })?;
        }
        Ok(())
    }

    /// How a delivery went on since the last look.
    pub(crate) fn moved(
        &mut self,
        all_before: &BTreeMap<DeliveryId, Promise>,
        now: &Promise,
        all: &[Promise],
        committed: &[usize],
    ) -> Held {
        let before = all_before.get(&now.id);
        let tell = || format!("{before:?} became {now:?} by {committed:?}");
        holds(LEASED, now.attempts == now.tries, tell)?;
        let Some(before) = before else {
            let new = now.finished_at.is_none() && now.attempts == 0 && now.lease.is_none();
            // A commit of another node may have come in between.
            return holds(OWED, new || committed.len() > 1, tell);
        };
        if before.finished_at.is_some() {
            if before == now {
                return Ok(());
            }
            holds(LEASED, self.hands.again(now.id).is_some(), tell)?;
            return self.is_due_again(all_before, now, all, committed.len() > 1);
        }
        let mine = |owner: NodeId| {
            let mut who = committed.iter().filter_map(|node| self.names.get(node));
            who.any(|name| *name == owner)
        };
        let held = before.lease.is_some_and(|(owner, _)| mine(owner)) || committed.len() > 1;
        // What waits for a channel ends with that.
        let switched =
            now.state == "cancelled" && before.lease.is_none() && self.switches.went_off(now.channel);
        let ended = now.finished_at.is_some() && now.state != "superseded" && !switched;
        if now.attempts != before.attempts || ended {
            holds(LEASED, held && now.attempts <= before.attempts + 1, tell)?;
        }
        let lost = before.lease.filter(|_| now.attempts == before.attempts);
        let lost = lost.filter(|(owner, _)| now.lease.map(|(owner, _)| owner) != Some(*owner));
        if let Some((owner, _)) = lost {
            self.lease_is_gone(before, owner, committed)?;
        } else if now.attempts != before.attempts && self.is_hook(now.channel) {
            self.recorded(before, now)?;
        }
        if let Some((_, forced)) = self.hands.again(now.id) {
            // It ended and was sent again, one right after the other.
            if now.attempts != before.attempts && !self.is_hook(now.channel) {
                self.hands.delivered.insert(now.id);
            }
            self.is_open_again(now, forced);
            return Ok(());
        }
        if now.finished_at.is_some() {
            self.hands.forced.remove(&now.id);
            self.hands.ended.insert(now.id, self.sights.looks);
            return self.ended_rightly(all_before, now, all, committed.len() > 1);
        }
        match lost {
            // Nobody takes a lease from somebody else before it has lapsed; the only server takes all at its start.
            Some((_, until)) => {
                let lapsed = until <= self.latest_clock || self.starting;
                holds(LEASED, lapsed || held, tell)
            }
            None => Ok(()),
        }
    }

    /// `several`: others may have come in between, so that it was tried and then ended by somebody else.
    fn ended_rightly(
        &mut self,
        all_before: &BTreeMap<DeliveryId, Promise>,
        now: &Promise,
        all: &[Promise],
        several: bool,
    ) -> Held {
        let before = &all_before[&now.id];
        let tell = || format!("{before:?} became {now:?}, clocks at {}", self.latest_clock);
        let tried = now.attempts - before.attempts;
        match now.state.as_str() {
            "delivered" => {
                holds(LEASED, tried == 1, tell)?;
                self.switches.works(now.channel, self.latest_clock);
                self.hands.delivered.insert(now.id);
                holds(TOLD, self.sights.told.contains(&now.id), tell)
            }
            "superseded" => {
                holds(LEASED, tried == 0 || several, tell)?;
                // Its own fast phase, or that of one before it in its lane, which is overtaken with it.
                let over = all.iter().any(|first| {
                    let open = all_before
                        .get(&first.id)
                        .is_none_or(|was| was.finished_at.is_none());
                    (first.channel, first.seq <= now.seq, open) == (now.channel, true, true)
                        && fast_phase_is_over(first.attempts, first.created_at, self.latest_clock)
                });
                // What it had overtaken itself goes on with that, but what is more than one alert tells.
                let tells = |other: &&Promise| {
                    let told: BTreeSet<u64> = other.tells.iter().map(|(told, _)| *told).collect();
                    let full = told.len() as u64 >= ALERT_FLIPS_MAX;
                    let has = |(seq, _): &(u64, u64)| {
                        told.contains(seq) || (full && told.first().is_some_and(|first| seq < first))
                    };
                    let mut all = before.tells.iter().chain(&now.tells);
                    (other.channel, other.seq > now.seq) == (now.channel, true) && all.all(has)
                };
                holds(OVERTAKEN, over && all.iter().any(|other| tells(&other)), tell)
            }
            // A step that waited long has counted that too, and asked no clock again.
            "expired" => {
                let over = self.lasts_until(now) <= self.clock_at_most();
                holds(ENDED, tried == 0 && over, tell)
            }
            "exhausted" => holds(LEASED, tried == 1 && self.is_hook(now.channel), tell),
            "cancelled" if before.lease.is_none() && self.switches.went_off(now.channel) => {
                holds(ENDED, tried == 0 && now.class != Class::Test, tell)
            }
            "cancelled" => {
                let of_it = |channel: &&Channel| channel.id == now.channel;
                let silent = self
                    .channels
                    .iter()
                    .find(of_it)
                    .is_some_and(|channel| channel.silent);
                // Whoever ends it has looked since its lease was taken, and before these commits.
                let Some((_, since)) = self.sights.leases.get(&now.id) else {
                    return broken(ENDED, tell());
                };
                let model = self.models.get(&now.check);
                let deleted_in = model.and_then(|model| model.deleted_in);
                let deleted = deleted_in.is_some_and(|look| look < self.sights.looks)
                    || self.switches.was_deleted(now.channel);
                // A test shows whether it works again.
                let off = now.class != Class::Test && self.switches.was_off_since(now.channel, *since);
                let outdated = self.is_outdated(now);
                holds(ENDED, tried == 0 && (silent || deleted || off || outdated), tell)
            }
            _ => broken(ENDED, tell()),
        }
    }

    /// Whether an alert that waited says what does not hold any more, to somebody who would hear nothing of that, or its check
    /// was taken off its channel.
    fn is_outdated(&self, now: &Promise) -> bool {
        let Some(model) = self.models.get(&now.check) else {
            return false;
        };
        let is_down = |flip: &Flip| flip.to == Status::Down;
        let own = model.flips.iter().find(|flip| flip.seq == now.seq);
        let since = model.flips.iter().filter(|flip| flip.seq > now.seq);
        let mut others = since.filter(|flip| own.is_some_and(|own| is_down(own) != is_down(flip)));
        let tells_both = self
            .all_channels()
            .any(|of| of.id == now.channel && of.down && of.up);
        let unassigned = model.taken_off.contains(&now.channel);
        (unassigned || (tells_both && others.next().is_some()))
            && fast_phase_is_over(now.attempts, now.created_at, self.clock_at_most())
    }

    /// When the time of a delivery is over, without what we were away. By clocks that were set nobody can say how long that
    /// was; and whoever watches a test does not wait for us.
    fn lasts_until(&self, promise: &Promise) -> Timestamp {
        if promise.class == Class::Test || !self.clocks_right() {
            return promise.expires_at;
        }
        let day = Span::from_secs(ALERT_HOURS_MAX * 3_600);
        let begun = promise.created_at.max(promise.expires_at - day);
        let mut until = promise.expires_at;
        for absence in &self.sights.absences {
            if absence.from < until && absence.to > begun {
                until = until + (absence.to - absence.from.max(begun));
            }
        }
        until
    }

    /// Hears what was told since the last time.
    pub(crate) fn hear(&mut self) -> Held {
        for (id, node) in self.told.take() {
            if !self.blind {
                self.heard(id, node)?;
            }
        }
        Ok(())
    }

    fn heard(&mut self, id: DeliveryId, node: usize) -> Held {
        let Some((check, channel, seq)) = self.sights.lanes.get(&id).copied() else {
            return broken(TOLD, format!("nobody promised delivery {id}"));
        };
        self.sights.told.insert(id);
        let promise = self.promise(check, id);
        let lease = promise.and_then(|promise| promise.lease);
        let covered = lease.is_some_and(|(owner, until)| {
            self.names.get(&node) == Some(&owner) && until >= self.now + ATTEMPT
        });
        holds(COVERED, covered || !self.clocks_right(), || {
            format!("node {node} writes a line of {promise:?} at {}", self.now)
        })?;
        self.in_order(id, (check, channel, seq))
    }

    /// A channel is told of a flip, and has heard of none that is newer.
    pub(crate) fn in_order(
        &mut self,
        id: DeliveryId,
        (check, channel, seq): (CheckId, ChannelId, u64),
    ) -> Held {
        // Somebody insists.
        if self.hands.forced.contains_key(&id) {
            return Ok(());
        }
        let promise = self.models.get(&check).and_then(|model| model.promises.get(&id));
        // Its lease may be gone by clocks that differ by more than a lease lasts: then two may tell it, and nothing else
        // lets an older one come late.
        let late = promise.is_none_or(|promise| promise.finished_at.is_some());
        let clocks_differ = !self.clocks_right();
        let last = self.sights.last_told.entry((check, channel)).or_insert(seq);
        let in_order = *last <= seq;
        holds(ORDER, in_order || (late && clocks_differ), || {
            format!("check {check} told channel {channel} of flip {seq} after {last}: {promise:?}")
        })?;
        *last = seq.max(*last);
        Ok(())
    }
}

/// Each flip has its delivery to each channel that wants it, and each flip is told by one that nobody overtook.
fn are_owed(model: &mut Model, stored: &[Promise]) -> Held {
    let mut keys: Vec<(u64, ChannelId)> = Vec::new();
    for promise in stored {
        let own = promise.tells.contains(&(promise.seq, 0));
        holds(OWED, own, || format!("{promise:?} does not tell its flip"))?;
        keys.push((promise.seq, promise.channel));
    }
    keys.sort();
    let perhaps = std::mem::take(&mut model.perhaps_owed);
    model
        .owed
        .extend(perhaps.into_iter().filter(|owed| keys.contains(owed)));
    model.owed.sort();
    let id = model.id;
    holds(OWED, keys == model.owed, || {
        format!("check {id}: promised {keys:?}, and owed {:?}", model.owed)
    })
}
