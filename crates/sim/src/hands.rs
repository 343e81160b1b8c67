//! What people do by hand to channels and deliveries, as the API carries it out: they test a channel, at most so often and
//! once for each key, send again what has ended, switch on what is off, and delete a channel.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use allswell_core::chance::Dice;
use allswell_core::check::Status;
use allswell_core::delivery::Class;
use allswell_core::id::{ChannelId, DeliveryId};
use allswell_core::limits::{CHANNEL_TESTS_PER_MINUTE, ONCE_HOURS};
use allswell_core::quota::Quota;
use allswell_core::scope::ProjectScope;
use allswell_core::time::{Span, Timestamp};
use allswell_engine::channels::{self, Errand, Refused};
use allswell_engine::redeliver::{self, Redelivered};
use allswell_store::once::{Before, Once};
use allswell_store::simulated::Promise;
use allswell_store::{Error, Tx};
use serde_json::json;
use uuid::Uuid;

use crate::node::Done;
use crate::rules::{AGAIN, Held, STEPS, TESTED, broken, holds};
use crate::task::Task;
use crate::world::World;

/// What is sent again may be tried for so long.
const AGAIN_FOR: Span = Span::from_secs(24 * 3_600);
/// A test is tried within a minute, or not at all.
const TESTED_WITHIN: Span = Span::from_secs(60);
const TESTS: Quota = Quota::new(CHANNEL_TESTS_PER_MINUTE, Span::from_secs(60));
/// Of the tests that were used up one comes back after so long.
const TEST_EVERY: Span = Span::from_secs(2);

/// What somebody wants.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Wanted {
    Test {
        channel: ChannelId,
        up: bool,
        /// By which a repeat is known.
        key: Option<u128>,
    },
    Again {
        delivery: DeliveryId,
        force: bool,
    },
    SwitchOn(ChannelId),
    Delete(ChannelId),
}

/// A request, and when a node got it.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Request {
    pub(crate) wanted: Wanted,
    place: usize,
    pub(crate) node: usize,
    at: Timestamp,
    tries: u32,
}

/// What came of one.
#[derive(Clone, Debug)]
pub(crate) enum Came {
    Done,

    Again(Option<Redelivered>),
}

/// Why nothing came of one.
#[derive(Debug)]
pub(crate) enum Why {
    Refused(Refused),
    /// Too many tests.
    Limit,
    /// Its key came before with something else.
    OtherBody,
}

/// What a transaction came to, if it was not refused: `None` if all was done before.
pub(crate) type ByHand = Result<(Option<Came>, Deed), Why>;

impl From<Error> for Why {
    fn from(error: Error) -> Self {
        Why::Refused(Refused::Store(error))
    }
}

impl From<Refused> for Why {
    fn from(refused: Refused) -> Self {
        Why::Refused(refused)
    }
}

/// What a transaction of a node did, known if it is committed.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Deed {
    pub(crate) request: Request,
    /// The test that was made.
    delivery: Option<DeliveryId>,
    /// When it was taken off the quota.
    taken_at: Timestamp,
}

/// The tests that a process has granted: what its users have used up, and when.
#[derive(Default)]
struct Granted {
    until: Timestamp,
    at: Vec<Timestamp>,
}

/// What a process keeps for the requests of its users.
#[derive(Clone, Default)]
pub(crate) struct Counter {
    granted: Arc<Mutex<Granted>>,
    /// Its clock, in microseconds.
    clock: Arc<AtomicI64>,
}

impl Counter {
    pub(crate) fn set_clock(&self, now: Timestamp) {
        self.clock.store(now.as_micros(), Ordering::Relaxed);
    }

    fn take(&self) -> Result<Timestamp, Why> {
        let now = Timestamp::from_micros(self.clock.load(Ordering::Relaxed));
        let mut granted = self.granted.lock().expect("nobody panics with it");
        if !TESTS.take(&mut granted.until, now).allowed {
            return Err(Why::Limit);
        }
        granted.at.push(now);
        Ok(now)
    }

    /// Tests that were granted since then.
    fn granted_since(&self, since: Timestamp) -> usize {
        let granted = self.granted.lock().expect("nobody panics with it");
        granted.at.iter().filter(|at| **at >= since).count()
    }
}

/// What is known of what people did by hand.
#[derive(Default)]
pub(crate) struct Hands {
    /// What the last commits did.
    pub(crate) done: Vec<Deed>,
    /// The test that each key stands for, and whether it is one of coming up.
    keys: BTreeMap<u128, (DeliveryId, ChannelId, bool)>,
    /// When each process granted tests that were made, by its number.
    granted: BTreeMap<usize, Vec<Timestamp>>,
    /// What is sent again, whatever was told since, and the look that first saw it.
    pub(crate) forced: BTreeMap<DeliveryId, u64>,
    /// What has ever counted as delivered.
    pub(crate) delivered: BTreeSet<DeliveryId>,
    next_key: u128,
}

impl Hands {
    /// What the last commits have made due again.
    pub(crate) fn again(&self, id: DeliveryId) -> Option<(Request, bool)> {
        self.done.iter().find_map(|deed| match deed.request.wanted {
            Wanted::Again { delivery, force } if delivery == id => Some((deed.request, force)),
            _ => None,
        })
    }

    fn switched_on(&self) -> impl Iterator<Item = ChannelId> {
        self.done.iter().filter_map(|deed| match deed.request.wanted {
            Wanted::SwitchOn(channel) => Some(channel),
            _ => None,
        })
    }
}

impl World {
    /// Somebody does one of these.
    pub(crate) fn somebody_lends_a_hand(&mut self) {
        let channels: Vec<ChannelId> = self.channels.iter().map(|channel| channel.id).collect();
        let channel = channels[self.roll(channels.len() as u32) as usize];
        let up = self.roll(2) == 0;
        match self.roll(40) {
            0..=5 => self.ask(Wanted::Test {
                channel,
                up,
                key: None,
            }),
            6..=11 => {
                // The same again, to whichever node: the first answer was lost, or takes its time. Or with that key by mistake.
                let key = match self.roll(4) {
                    0 => self.hands.next_key,
                    _ => {
                        self.hands.next_key += 1;
                        self.hands.next_key
                    }
                };
                for n in 0..2 + self.roll(2) {
                    let other = n > 1 && self.roll(4) == 0;
                    self.ask(Wanted::Test {
                        channel,
                        up: up ^ other,
                        key: Some(key),
                    });
                }
            }
            12 => {
                for _ in 0..33 + self.roll(6) {
                    self.ask(Wanted::Test {
                        channel,
                        up: false,
                        key: None,
                    });
                }
            }
            13..=30 => self.somebody_sends_again(),
            31 if self.roll(2) == 0 => {
                let hooks = self.channels.iter().filter(|channel| channel.hook.is_some());
                let hooks: Vec<ChannelId> = hooks.map(|channel| channel.id).collect();
                let channel = hooks[self.roll(hooks.len() as u32) as usize];
                self.ask(Wanted::Delete(channel));
            }
            _ => self.somebody_switches_on(),
        }
    }

    /// Somebody switches a channel on again.
    pub(crate) fn somebody_switches_on(&mut self) {
        let off: Vec<ChannelId> = self.switches.off().collect();
        if !off.is_empty() {
            let channel = off[self.roll(off.len() as u32) as usize];
            self.ask(Wanted::SwitchOn(channel));
        }
    }

    fn somebody_sends_again(&mut self) {
        let mine = self.models.values().filter(|model| model.project == self.project);
        let promises = mine.flat_map(|model| model.promises.values());
        let promises = promises.chain(self.alone.values());
        let mut ended: Vec<(bool, DeliveryId)> = promises
            .map(|promise| (promise.state == "exhausted", promise.id))
            .collect();
        // Mostly what was given up, of which there is less.
        if self.roll(2) == 0 && ended.iter().any(|(given_up, _)| *given_up) {
            ended.retain(|(given_up, _)| *given_up);
        }
        if ended.is_empty() {
            return;
        }
        for _ in 0..=self.roll(3) {
            let (_, delivery) = ended[self.roll(ended.len() as u32) as usize];
            let force = self.roll(3) == 0;
            self.ask(Wanted::Again { delivery, force });
        }
    }

    fn ask(&mut self, wanted: Wanted) {
        self.ask_again(wanted, 3);
    }

    /// Hands a request to a node, if one is up.
    fn ask_again(&mut self, wanted: Wanted, tries: u32) {
        let up = self.nodes_up();
        if up.is_empty() {
            return;
        }
        let place = up[self.roll(up.len() as u32) as usize];
        let at = self.clock_of(place);
        self.say(|| format!("somebody asks at {at}: {wanted:?}"));
        let (deeds, mut dice) = (self.deeds.clone(), self.dice.fork());
        let by = Errand {
            scope: ProjectScope::granted(self.project),
            actor: "somebody".to_owned(),
            now: at,
        };
        let up = self.nodes[place].up.as_mut().expect("it is up");
        let request = Request {
            wanted,
            place,
            node: up.number,
            at,
            tries,
        };
        let (store, counter) = (up.store.clone(), up.counter.clone());
        let work = async move {
            let done = store
                .write(async move |tx| {
                    let mut deed = Deed {
                        request,
                        delivery: None,
                        taken_at: at,
                    };
                    let came = carry_out(tx, &by, &mut deed, &counter, &mut dice).await?;
                    if let Some(came) = &came {
                        let did = !matches!(came, Came::Again(asked) if *asked != Some(Redelivered::Yes));
                        if did {
                            deeds.lock().expect("nobody panics with it").push(deed);
                        }
                    }
                    Ok::<_, Why>((came, deed))
                })
                .await;
            Done::Hand(Box::new((request, done)))
        };
        up.tasks.push(Task::new(work));
    }

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
                let other = known.is_some_and(|(_, of, is_up)| (*of, *is_up) != (channel, up));
                holds(TESTED, other, tell)
            }
            (Why::Refused(Refused::NotFound), Wanted::Test { channel, .. } | Wanted::SwitchOn(channel)) => {
                holds(TESTED, self.switches.is_deleted(channel), tell)
            }
            (Why::Refused(Refused::NotFound), Wanted::Delete(channel)) => {
                holds(TESTED, self.switches.is_deleted(channel), tell)
            }
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
        let once = known.is_none_or(|(id, ..)| deed.delivery == Some(*id));
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
        // By the clocks nothing may be told of what was open when it was asked.
        let open = |of: &Promise| {
            let until = of.finished_at;
            until.is_none_or(|at| at >= request.at || !self.clocks_right())
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
            let Wanted::Test { channel, up, key } = deed.request.wanted else {
                continue;
            };
            let tell = || format!("{deed:?}");
            let Some(id) = deed.delivery else {
                return broken(TESTED, tell());
            };
            if let Some(key) = key {
                let before = self.hands.keys.insert(key, (id, channel, up));
                holds(TESTED, before.is_none(), || {
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
        let stored = self.db.promises_alone().expect("readable");
        let mut switched_on: Vec<ChannelId> = self.hands.switched_on().collect();
        let before = std::mem::take(&mut self.alone);
        for promise in &stored {
            self.sights
                .lanes
                .insert(promise.id, (promise.check, promise.channel, 0));
            self.sights.leased(promise);
            if !before.contains_key(&promise.id) {
                self.asked_for(promise, &mut switched_on, committed)?;
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
    fn asked_for(&self, promise: &Promise, switched_on: &mut Vec<ChannelId>, committed: &[usize]) -> Held {
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
        holds(TESTED, asked && within && !committed.is_empty(), tell)
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
        let kept = (now.seq, now.channel, now.attempts, now.created_at)
            == (known.seq, known.channel, known.attempts, known.created_at);
        let due = now.next_at == request.at && now.expires_at == request.at + AGAIN_FOR;
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
        self.sights.told.remove(&now.id);
        if forced {
            self.hands.forced.insert(now.id, self.sights.looks);
        } else if let Some(last) = self.sights.last_told.get_mut(&(now.check, now.channel)) {
            // What is newer was tried and never arrived.
            *last = now.seq.min(*last);
        }
        Ok(())
    }
}

/// Carries a request out; `None` if it changed nothing, and only found what was done before.
async fn carry_out(
    tx: &mut Tx<'_>,
    by: &Errand,
    deed: &mut Deed,
    counter: &Counter,
    dice: &mut Dice,
) -> Result<Option<Came>, Why> {
    match deed.request.wanted {
        Wanted::Test { channel, up, key } => {
            let status = if up { Status::Up } else { Status::Down };
            // As the API: what the hashes are made of is no matter here, nor what else the answer says.
            let mut body_hash = [0; 32];
            body_hash[..16].copy_from_slice(channel.as_uuid_bytes());
            body_hash[16] = u8::from(up);
            let once = key.map(|key| Once {
                id: Uuid::from_u128(key),
                body_hash,
                since: by.now - Span::from_secs(ONCE_HOURS * 3_600),
            });
            if let Some(once) = &once {
                match tx.once_begin(by.scope, once, by.now).await? {
                    Before::Never => {}
                    Before::Answered(_, body) => {
                        let text = String::from_utf8(body).unwrap_or_default();
                        deed.delivery = text.parse().ok();
                        return Ok(None);
                    }
                    Before::OtherBody => return Err(Why::OtherBody),
                }
            }
            let delivery = channels::test(tx, by, channel, status, dice).await?;
            // Last, as in the API: what is refused for another reason costs no test.
            deed.taken_at = counter.take()?;
            deed.delivery = Some(delivery);
            if let Some(once) = &once {
                let answer = delivery.to_string();
                tx.once_end(by.scope, once, 202, answer.as_bytes(), dice).await?;
            }
            Ok(Some(Came::Done))
        }
        Wanted::Again { delivery, force } => {
            let asked = redeliver::again(tx, by, delivery, force, dice).await?;
            Ok(Some(Came::Again(asked)))
        }
        Wanted::SwitchOn(channel) => {
            let input = json!({ "enabled": true });
            channels::edit(tx, by, &channels::Rules::default(), channel, &input, dice).await?;
            Ok(Some(Came::Done))
        }
        Wanted::Delete(channel) => {
            channels::delete(tx, by, channel, dice).await?;
            Ok(Some(Came::Done))
        }
    }
}
