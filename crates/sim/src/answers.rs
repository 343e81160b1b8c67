//! Whether what people asked for by hand was done as it must be: the answers that they get, the tests and notes that are
//! stored, and what is due again.

use std::collections::{BTreeMap, BTreeSet};

use allswell_core::delivery::Class;
use allswell_core::id::{ChannelId, DeliveryId};
use allswell_core::limits::CHANNEL_TESTS_PER_MINUTE;
use allswell_core::time::Span;
use allswell_engine::channels::Refused;
use allswell_engine::redeliver::Redelivered;
use allswell_store::Error;
use allswell_store::simulated::Promise;

use crate::hands::{ByHand, Came, Deed, ONCE_FOR, Request, Wanted, Why};
use crate::rules::{AGAIN, Held, STEPS, TESTED, broken, holds};
use crate::world::World;

/// What is sent again may be tried for so long.
const AGAIN_FOR: Span = Span::from_secs(24 * 3_600);
/// A test is tried within a minute, or not at all.
const TESTED_WITHIN: Span = Span::from_secs(60);
/// Of the tests that were used up one comes back after so long.
const TEST_EVERY: Span = Span::from_secs(2);

impl World {
    /// A request has its answer, which is the one that it must get.
    pub(crate) fn answered_by_hand(&mut self, request: Request, answer: ByHand) -> Held {
        let tell = || format!("{request:?} is answered {answer:?}");
        let refused = match &answer {
            Ok((_, deed)) => {
                let asked = match answer {
                    Ok((Some(Came::Again(asked)), _)) => asked,
                    _ => return self.tested(deed, tell),
                };
                return self.sent_again(request, asked, tell);
            }
            Err(why) => why,
        };
        match (refused, request.wanted) {
            (Why::Refused(Refused::Store(Error::Unavailable(_))), wanted) => {
                if request.tries > 0 {
                    self.ask_again(wanted, request.tries - 1);
                }
                Ok(())
            }
            (Why::Limit, Wanted::Test { .. }) => {
                let up = self.nodes[request.place].up.as_ref();
                let counter = up.filter(|up| up.number == request.node).map(|up| &up.counter);
                let since = self.latest_clock - Span::from_secs(60);
                let used = counter.is_none_or(|counter| {
                    counter.granted_since(since) + 1 >= CHANNEL_TESTS_PER_MINUTE as usize
                });
                holds(TESTED, used || !self.clocks_right(), tell)
            }
            (Why::OtherBody, Wanted::Test { channel, up, key }) => {
                let known = key.and_then(|key| self.hands.keys.get(&key));
                let other = known.is_some_and(|(_, first)| match first.wanted {
                    Wanted::Test {
                        channel: of,
                        up: is_up,
                        ..
                    } => (of, is_up) != (channel, up),
                    _ => false,
                });
                holds(TESTED, other, tell)
            }
            (
                Why::Refused(Refused::NotFound),
                Wanted::Test { channel, .. } | Wanted::SwitchOn(channel) | Wanted::Delete(channel),
            ) => holds(TESTED, self.switches.is_deleted(channel), tell),
            (Why::Refused(Refused::Faults(_)), Wanted::Test { channel, up, .. }) => {
                let of = self.channels.iter().find(|of| of.id == channel);
                let sends = of.is_some_and(|of| if up { of.up } else { of.down });
                holds(TESTED, !sends, tell)
            }
            (Why::Refused(Refused::Changed), Wanted::SwitchOn(_)) => Ok(()),
            _ => broken(STEPS, tell()),
        }
    }

    /// Whoever asked for a test is told of the one that was made for him, however often he asked.
    fn tested(&self, deed: &Deed, tell: impl Fn() -> String) -> Held {
        let Wanted::Test { channel, key, .. } = deed.request.wanted else {
            return Ok(());
        };
        let made = deed.delivery.and_then(|id| self.alone.get(&id));
        let it_is = made.is_some_and(|made| made.class == Class::Test && made.channel == channel);
        let known = key.and_then(|key| self.hands.keys.get(&key));
        let once = known.is_none_or(|(id, _)| deed.delivery == Some(*id));
        holds(TESTED, self.blind || (it_is && once), tell)
    }

    /// Whoever wants something sent again is refused for a reason alone.
    fn sent_again(&self, request: Request, asked: Option<Redelivered>, tell: impl Fn() -> String) -> Held {
        let Wanted::Again { delivery, force } = request.wanted else {
            return broken(AGAIN, tell());
        };
        let lane = self.sights.lanes.get(&delivery).copied();
        let promise = lane.and_then(|(check, ..)| self.promise(check, delivery));
        let Some(promise) = promise else {
            return broken(AGAIN, tell());
        };
        // At some time since it was asked. The instant that is stored is older than its commit.
        let open = |of: &Promise| {
            let ended_in = self.hands.ended.get(&of.id);
            of.finished_at.is_none() || ended_in.is_none_or(|look| *look > request.look)
        };
        let right = match asked {
            Some(Redelivered::Yes) => promise.class != Class::Test && open(promise),
            Some(Redelivered::IsTest) => promise.class == Class::Test,
            Some(Redelivered::StillOpen) => open(promise),
            Some(Redelivered::NewerDelivered) => {
                let model = self.models.get(&promise.check);
                let others = model.into_iter().flat_map(|model| model.promises.values());
                let mut newer =
                    others.filter(|other| other.channel == promise.channel && other.seq > promise.seq);
                !force && newer.any(|other| open(other) || self.hands.delivered.contains(&other.id))
            }
            None => false,
        };
        holds(AGAIN, right, tell)
    }

    /// What the last commits did by hand; gives the channels that were switched on.
    pub(crate) fn look_at_hands(&mut self, done: Vec<Deed>) -> Held<BTreeSet<ChannelId>> {
        self.hands.done = done;
        for deed in &self.hands.done {
            let Wanted::Test { key, .. } = deed.request.wanted else {
                continue;
            };
            let tell = || format!("{deed:?}");
            let Some(id) = deed.delivery else {
                return broken(TESTED, tell());
            };
            if let Some(key) = key {
                let before = self.hands.keys.insert(key, (id, deed.request));
                let forgotten = before.is_none_or(|(_, first)| first.at < deed.request.at - ONCE_FOR);
                holds(TESTED, forgotten || !self.clocks_right(), || {
                    format!("{} was carried out before: {before:?}", tell())
                })?;
            }
            let granted = self.hands.granted.entry(deed.request.node).or_default();
            let place = granted.partition_point(|at| *at <= deed.taken_at);
            granted.insert(place, deed.taken_at);
            // As many as may come at once, and one more for each two seconds.
            let last = granted[granted.len() - 1];
            let too_many = granted.iter().enumerate().find(|(n, at)| {
                let allowed =
                    i64::from(CHANNEL_TESTS_PER_MINUTE) + (last - **at).as_micros() / TEST_EVERY.as_micros();
                (granted.len() - n) as i64 > allowed
            });
            holds(TESTED, too_many.is_none() || self.clocks_set, || {
                format!("{} is one too many since {too_many:?}", tell())
            })?;
        }
        Ok(self.hands.switched_on().collect())
    }

    /// Looks at the deliveries that tell no flip: tests and notes of our own.
    pub(crate) fn look_at_those_alone(&mut self, committed: &[usize]) -> Held {
        let stamp = self.db.promises_alone_stamp().expect("readable");
        if stamp == self.alone_stamp {
            let asked = self.hands.done.iter().any(|deed| deed.delivery.is_some());
            return holds(TESTED, !asked, || format!("{:?} made no test", self.hands.done));
        }
        self.alone_stamp = stamp;
        let set_back = self.set_back_to(committed);
        let stored = self.db.promises_alone().expect("readable");
        let mut switched_on: Vec<ChannelId> = self.hands.switched_on().collect();
        let before = std::mem::take(&mut self.alone);
        for promise in &stored {
            self.sights
                .lanes
                .insert(promise.id, (promise.check, promise.channel, 0));
            self.sights.leased(promise, &set_back);
            if !before.contains_key(&promise.id) {
                self.asked_for(promise, &mut switched_on)?;
            }
            self.moved(&before, promise, &stored, committed)?;
        }
        self.alone = stored.into_iter().map(|promise| (promise.id, promise)).collect();
        for deed in &self.hands.done {
            let made = deed.delivery.is_none_or(|id| self.alone.contains_key(&id));
            holds(TESTED, made, || format!("{deed:?} made no test"))?;
        }
        Ok(())
    }

    /// A delivery is new that tells no flip: a test that somebody asked for, or a note. Its channel is there.
    fn asked_for(&self, promise: &Promise, switched_on: &mut Vec<ChannelId>) -> Held {
        let tell = || format!("{promise:?}, and what was asked for is {:?}", self.hands.done);
        let there = !self.switches.was_deleted(promise.channel);
        holds(TESTED, there, tell)?;
        if promise.class != Class::Test {
            return holds(TESTED, promise.class == Class::Report, tell);
        }
        let mut deeds = self.hands.done.iter();
        let deed = deeds.find(|deed| deed.delivery == Some(promise.id));
        let up = promise.note.as_deref() == Some("up");
        // What a clock ahead promised may be brought back by another in between.
        let within = promise.expires_at - promise.created_at <= TESTED_WITHIN || self.clocks_set;
        let asked = match deed.map(|deed| deed.request.wanted) {
            Some(Wanted::Test {
                channel, up: is_up, ..
            }) => (channel, is_up) == (promise.channel, up),
            // Whoever switches a channel on has it tested.
            _ => match switched_on.iter().position(|channel| *channel == promise.channel) {
                Some(place) => {
                    switched_on.swap_remove(place);
                    true
                }
                None => false,
            },
        };
        holds(TESTED, asked && within, tell)
    }

    /// A delivery that had ended is open again, since somebody asked for it.
    pub(crate) fn is_due_again(
        &mut self,
        before: &BTreeMap<DeliveryId, Promise>,
        now: &Promise,
        all: &[Promise],
        several: bool,
    ) -> Held {
        let known = &before[&now.id];
        let tell = || format!("{known:?} became {now:?}, by {:?}", self.hands.done);
        let Some((request, forced)) = self.hands.again(now.id) else {
            return broken(AGAIN, tell());
        };
        let kept = (now.seq, now.channel, now.attempts) == (known.seq, known.channel, known.attempts);
        let due = now.created_at == known.created_at
            && now.next_at == request.at
            && now.expires_at == request.at + AGAIN_FOR;
        // What a clock ahead made due may be brought back by another in between.
        let due = due || (several && self.clocks_set);
        let open = now.finished_at.is_none() || (several && now.state == "superseded");
        holds(AGAIN, kept && due && open && now.class != Class::Test, tell)?;
        // Those that were promised before: what comes with it stands behind it.
        let was_open = |other: &Promise| {
            let known = before.get(&other.id);
            known.is_some_and(|known| known.finished_at.is_none())
                && (!several || other.finished_at.is_none())
        };
        let newer = all
            .iter()
            .filter(|other| other.channel == now.channel && other.seq > now.seq);
        let mut newer = newer.filter(|other| self.hands.delivered.contains(&other.id) || was_open(other));
        let newer = newer.next();
        holds(AGAIN, forced || newer.is_none(), || {
            format!("{}, and its channel heard or hears of {newer:?}", tell())
        })?;
        self.is_open_again(now, forced);
        Ok(())
    }

    /// It is told anew, and its lane goes on from there.
    pub(crate) fn is_open_again(&mut self, now: &Promise, forced: bool) {
        self.sights.told.remove(&now.id);
        self.hands.ended.insert(now.id, self.sights.looks);
        if now.finished_at.is_some() {
            return;
        }
        if forced {
            self.hands.forced.insert(now.id, self.sights.looks);
        } else if let Some(last) = self.sights.last_told.get_mut(&(now.check, now.channel)) {
            // What is newer was tried and never arrived.
            *last = now.seq.min(*last);
        }
    }
}
