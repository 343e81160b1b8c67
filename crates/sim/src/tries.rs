//! What receivers saw, held against what is stored: whose attempt it is, that nothing else of its lane is under way, what
//! it tells, that it is not early, and that what came of it is stored.

use std::collections::BTreeMap;

use allswell_core::check::Status;
use allswell_core::delivery::Class;
use allswell_core::exchange::{End, Outcome, RetryAfter};
use allswell_core::id::{ChannelId, CheckId, DeliveryId, NodeId};
use allswell_core::time::{Span, Timestamp};
use allswell_store::simulated::Promise;

use crate::outside::{Call, Heard};
use crate::rules::{
    ALONE, COVERED, CUT_OFF, DELETED, EARLY_TRY, ENDED, GONE, Held, IDS, KEPT, NUMBERED, PATIENCE, RECORDED,
    TELLS, TESTED, TOLD, broken, holds,
};
use crate::switches::is_gone;
use crate::world::World;

/// Seconds after the first, second, … failure; the last one repeats (`delivery.md` section 3).
const WAITS: [i64; 7] = [2, 10, 60, 300, 1_800, 7_200, 21_600];
/// What an attempt may take: its lease must last for longer.
pub(crate) const ATTEMPT: Span = Span::from_secs(33);
/// What an attempt's begin and its length, both in whole seconds, leave out.
const STALE: Span = Span::from_secs(2);
/// No receiver is given more patience.
const ASKED_MAX: Span = Span::from_secs(3_600);

/// One attempt, as its receiver saw it.
#[derive(Clone, Debug)]
pub(crate) struct Try {
    pub(crate) call: Call,
    pub(crate) began: Timestamp,
    pub(crate) ended: bool,
    /// It has its row.
    recorded: bool,
    /// Whoever made it crashed, or lost its lease before that.
    lost: bool,
}

impl Try {
    pub(crate) fn has_arrived(&self) -> bool {
        self.ended && arrived(&self.call.outcome)
    }
}

/// All attempts so far.
#[derive(Default)]
pub(crate) struct Tries {
    of: BTreeMap<DeliveryId, Vec<Try>>,
    by_call: BTreeMap<u64, DeliveryId>,
}

impl Tries {
    pub(crate) fn of(&self, id: DeliveryId) -> &[Try] {
        self.of.get(&id).map(Vec::as_slice).unwrap_or_default()
    }

    /// A process has crashed: what came of its attempts may never be stored.
    pub(crate) fn lose(&mut self, node: usize) {
        for one in self.of.values_mut().flatten() {
            one.lost |= one.call.node == node && !one.recorded;
        }
    }

    /// One of those that its node made under one number has the row of that number: there is none for the others, which
    /// another lease was for.
    fn lose_others(&mut self, id: DeliveryId, recorded: &Try) {
        for one in self.of.get_mut(&id).into_iter().flatten() {
            let same = (one.call.node, one.call.n) == (recorded.call.node, recorded.call.n);
            one.lost |= same && one.call.number != recorded.call.number;
        }
    }

    fn ended(&mut self, call: u64) {
        let tries = self.by_call.get(&call).and_then(|id| self.of.get_mut(id));
        let mut same = tries.into_iter().flatten().filter(|one| one.call.number == call);
        if let Some(one) = same.next() {
            one.ended = true;
        }
    }
}

/// Whether the whole answer is there, with a status from 200 to 299.
fn arrived(outcome: &Outcome) -> bool {
    matches!(&outcome.end, End::Answered(answer) if (200..300).contains(&answer.status))
}

/// The least wait after this attempt, and the most that the schedule gives.
fn waits(n: u64) -> (Span, Span) {
    let index = usize::try_from(n.saturating_sub(1)).unwrap_or(usize::MAX);
    let secs = WAITS.get(index).copied().unwrap_or(WAITS[WAITS.len() - 1]);
    (Span::from_millis(secs * 800), Span::from_millis(secs * 1_200))
}

/// How long its receiver wants to be left alone after it ended.
fn asked(outcome: &Outcome, ended_at: Timestamp) -> Span {
    let End::Answered(answer) = &outcome.end else {
        return Span::ZERO;
    };
    match answer.retry_after {
        None => Span::ZERO,
        Some(RetryAfter::Seconds(secs)) => Span::from_secs(i64::from(secs)).min(ASKED_MAX),
        Some(RetryAfter::At(at)) => (at - ended_at).min(ASKED_MAX).max(Span::ZERO),
    }
}

/// Whether asking again three times gives nothing else.
fn refuses(outcome: &Outcome) -> bool {
    !arrived(outcome)
        && matches!(&outcome.end, End::Answered(answer)
            if !matches!(answer.status, 408 | 425 | 429 | 500..=599))
}

impl World {
    /// Takes note of what happened outside.
    pub(crate) fn heed(&mut self) -> Held {
        for heard in self.outside.take() {
            match heard {
                Heard::Begun(call) => self.tried(*call)?,
                Heard::Ended(call) => self.tries.ended(call),
            }
        }
        let endless = self.outside.endless(self.now);
        holds(CUT_OFF, endless.is_none(), || format!("call {endless:?} goes on"))
    }

    /// An attempt reached its receiver.
    fn tried(&mut self, call: Call) -> Held {
        self.say(|| {
            let Call {
                number,
                node,
                receiver,
                n,
                seq,
                ..
            } = &call;
            let how = &call.outcome.end;
            format!("node {node} calls {receiver} of flip {seq}, try {n}: call {number}, {how:?}")
        });
        if self.blind {
            return Ok(());
        }
        let Some(id) = call.delivery else {
            return broken(IDS, format!("its marks do not agree: {call:?}"));
        };
        let Some((check, channel, seq)) = self.sights.lanes.get(&id).copied() else {
            return broken(IDS, format!("nobody promised {call:?}"));
        };
        let receiver = self.all_channels().find(|of| of.id == channel);
        let same = call.check == Some(check)
            && call.seq == seq
            && receiver.and_then(|channel| channel.hook) == Some(call.receiver);
        holds(IDS, same, || {
            format!("{call:?} is not of check {check}, flip {seq}")
        })?;
        let promise = self.promise(check, id);
        let Some(promise) = promise.cloned() else {
            return broken(IDS, format!("{call:?} is of a delivery that is gone"));
        };
        // By a clock that was set another may have taken its lease before it began, and have gone on since.
        let owner = self.names.get(&call.node).copied();
        let lost = promise.lease.map(|(who, _)| who) != owner;
        if !lost || self.clocks_right() {
            self.may_be_tried(&call, &promise)?;
            self.tells_its_flips(&call, &promise)?;
        }
        self.in_order(id, (check, channel, seq))?;
        self.tries.by_call.insert(call.number, id);
        let one = Try {
            call,
            began: self.now,
            ended: false,
            recorded: false,
            lost,
        };
        self.tries.of.entry(id).or_default().push(one);
        Ok(())
    }

    /// Its lease covers it, it is the next one and not early, and its lane is free.
    fn may_be_tried(&self, call: &Call, promise: &Promise) -> Held {
        let tell = || format!("{call:?} of {promise:?} at {}", self.now);
        let again = self.tries.of(promise.id).iter();
        let mut again = again.filter(|one| one.call.n == call.n && !one.lost);
        holds(NUMBERED, call.n == promise.attempts + 1, tell)?;
        let before = again.next();
        holds(RECORDED, before.is_none(), || {
            format!("{}, and before it {before:?}", tell())
        })?;
        if !self.clocks_right() {
            return Ok(());
        }
        let owner = self.names.get(&call.node).copied();
        let covered = promise
            .lease
            .is_some_and(|(who, until)| Some(who) == owner && until >= self.now + ATTEMPT);
        holds(COVERED, covered && promise.finished_at.is_none(), tell)?;
        // Whoever begins it has looked since its lease was taken.
        let since = self.sights.leases.get(&promise.id).map_or(0, |(_, look)| *look);
        // A test shows whether it works again.
        let off = (promise.class != Class::Test && self.switches.is_off_since(promise.channel, since))
            || self.switches.is_deleted_since(promise.channel, since);
        holds(GONE, !off, || format!("{}, and its channel is off", tell()))?;
        let deleted_in = self.models.get(&promise.check).and_then(|model| model.deleted_in);
        let deleted = deleted_in.is_some_and(|look| look <= since);
        holds(DELETED, !deleted, tell)?;
        holds(EARLY_TRY, promise.next_at <= self.now, tell)?;
        let open = self.open_in_lane(promise.check, promise.channel);
        holds(ALONE, open.is_none(), || {
            format!("{}, and meanwhile {open:?}", tell())
        })
    }

    fn open_in_lane(&self, check: CheckId, channel: ChannelId) -> Option<u64> {
        let of_lane = |(_, id): &(&u64, &DeliveryId)| {
            let lane = self.sights.lanes.get(id);
            lane.is_some_and(|lane| (lane.0, lane.1) == (check, channel))
        };
        // Of what was sent again, whatever was told since, nobody knows when.
        let ordered = |(_, id): &(&u64, &DeliveryId)| !self.hands.forced.contains_key(id);
        let mut calls = self.tries.by_call.iter().filter(of_lane).filter(ordered);
        calls
            .find(|(number, _)| self.outside.is_open(**number))
            .map(|(number, _)| *number)
    }

    /// It has the status of its flip, and names those that its delivery overtook.
    fn tells_its_flips(&self, call: &Call, promise: &Promise) -> Held {
        if promise.seq == 0 {
            let status = if promise.note.as_deref() == Some("up") {
                "up"
            } else {
                "down"
            };
            return holds(TELLS, call.missed.is_empty() && call.status == status, || {
                format!("{call:?} of {promise:?}")
            });
        }
        let flips = &self.models[&promise.check].flips;
        let flip = flips.iter().find(|flip| flip.seq == promise.seq);
        let status = match flip.map(|flip| flip.to) {
            Some(Status::Down) => "down",
            Some(Status::Up) => "up",
            _ => "",
        };
        let told: Vec<u64> = promise.tells.iter().map(|(seq, _)| *seq).collect();
        let mut tells: Vec<u64> = call.missed.iter().copied().chain([call.seq]).collect();
        tells.sort_unstable();
        let mut owed = told;
        owed.sort_unstable();
        owed.dedup();
        holds(TELLS, tells == owed && call.status == status, || {
            format!("{call:?}, and {promise:?} is to be told, {status:?}")
        })
    }

    fn number_of(&self, owner: NodeId) -> Option<usize> {
        let mut names = self.names.iter();
        names.find(|(_, name)| **name == owner).map(|(number, _)| *number)
    }

    pub(crate) fn is_hook(&self, channel: ChannelId) -> bool {
        let mut all = self.all_channels();
        all.any(|of| of.id == channel && of.hook.is_some())
    }

    /// The row of an attempt was written: it was made, and it is judged by what its receiver said.
    pub(crate) fn recorded(&mut self, before: &Promise, now: &Promise) -> Held {
        let tell = || format!("{before:?} became {now:?}");
        let owner = before.lease.and_then(|(owner, _)| self.number_of(owner));
        let tries = self.tries.of.get_mut(&now.id);
        let made = tries.into_iter().flatten().filter(|one| {
            let by_owner = owner.is_none_or(|owner| owner == one.call.node);
            one.call.n == now.attempts && by_owner && one.ended
        });
        let mut made: Vec<&mut Try> = made.collect();
        if now.class != Class::Test && made.iter().any(|one| is_gone(&one.call.outcome)) {
            self.switches.found_nobody(now.channel);
        }
        // Whoever lost a lease and got it back may have tried twice, and stores either.
        let fits = |one: &Try| one.has_arrived() == (now.state == "delivered");
        let Some(one) = made.iter_mut().max_by_key(|one| fits(one)) else {
            return broken(RECORDED, format!("nobody saw the attempt: {}", tell()));
        };
        one.recorded = true;
        let (one, n) = (one.clone(), now.attempts);
        self.tries.lose_others(now.id, &one);
        let outcome = &one.call.outcome;
        if self.hands.again(now.id).is_some() {
            // What it came to is not to be seen any more.
            if arrived(outcome) {
                self.hands.delivered.insert(now.id);
            }
            return Ok(());
        }
        let is_test = now.class == Class::Test;
        if !is_test {
            self.is_off_if_gone(outcome, now)?;
        }
        let tell = || format!("{} after {:?}", tell(), one.call);
        if arrived(outcome) {
            self.sights.told.insert(now.id);
            return holds(TOLD, now.state == "delivered", tell);
        }
        let (ended_at, (least, most)) = (one.call.ends_at, waits(n));
        let wish = asked(outcome, ended_at);
        match now.state.as_str() {
            // Somebody else may have come in between, and overtaken it or taken it by a clock that is ahead.
            "ready" | "leased" | "superseded" => {
                let patient = now.next_at + STALE >= ended_at + least.max(wish);
                let soon = now.next_at <= self.latest_clock.max(self.now) + most.max(wish);
                holds(TESTED, !is_test, tell)?;
                holds(PATIENCE, (patient && soon) || !self.clocks_right(), tell)
            }
            "exhausted" => {
                let gone = is_gone(outcome);
                let late = self.latest_clock + most.max(wish) >= now.expires_at;
                holds(
                    ENDED,
                    is_test || gone || late || (refuses(outcome) && n >= 3),
                    tell,
                )
            }
            "delivered" => broken(TOLD, tell()),
            _ => broken(ENDED, tell()),
        }
    }

    /// A lease is gone, and what came of its attempt is not stored: then whoever held it is gone too, or came too late.
    pub(crate) fn lease_is_gone(&mut self, before: &Promise, owner: NodeId, committed: &[usize]) -> Held {
        let number = self.number_of(owner);
        let is_up = self
            .nodes
            .iter()
            .any(|node| node.up.as_ref().map(|up| up.number) == number);
        let tries = self.tries.of.get_mut(&before.id);
        for one in tries.into_iter().flatten() {
            let is_its = Some(one.call.node) == number && one.call.n == before.attempts + 1;
            if !is_its || one.lost || one.recorded {
                continue;
            }
            one.lost = true;
            let itself = is_up && committed.iter().all(|who| Some(*who) == number);
            holds(KEPT, !itself, || {
                format!("{before:?} was given up during {one:?}")
            })?;
        }
        Ok(())
    }

    /// At the end each attempt has its row, but those that were lost.
    pub(crate) fn all_attempts_are_stored(&self) -> Held {
        for one in self.tries.of.values().flatten() {
            holds(RECORDED, one.recorded || one.lost, || {
                format!("{one:?} has no row")
            })?;
        }
        Ok(())
    }
}
