//! What people do by hand to channels and deliveries, as the API carries it out: they test a channel, at most so often and
//! once for each key, send again what has ended, switch on what is off, and delete a channel.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use allswell_core::chance::Dice;
use allswell_core::check::Status;
use allswell_core::id::{ChannelId, DeliveryId};
use allswell_core::limits::{CHANNEL_TESTS_PER_MINUTE, ONCE_HOURS};
use allswell_core::quota::Quota;
use allswell_core::scope::ProjectScope;
use allswell_core::time::{Span, Timestamp};
use allswell_engine::channels::{self, Errand, Refused};
use allswell_engine::redeliver::{self, Redelivered};
use allswell_store::once::{Before, Once};
use allswell_store::{Error, Tx};
use serde_json::json;
use uuid::Uuid;

use crate::node::Done;
use crate::task::Task;
use crate::world::World;

/// How long a key is known.
pub(crate) const ONCE_FOR: Span = Span::from_secs(ONCE_HOURS * 3_600);
const TESTS: Quota = Quota::new(CHANNEL_TESTS_PER_MINUTE, Span::from_secs(60));

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
    pub(crate) place: usize,
    pub(crate) node: usize,
    pub(crate) at: Timestamp,
    /// The last look before that.
    pub(crate) look: u64,
    pub(crate) tries: u32,
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
    pub(crate) delivery: Option<DeliveryId>,
    /// When it was taken off the quota.
    pub(crate) taken_at: Timestamp,
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
    pub(crate) fn granted_since(&self, since: Timestamp) -> usize {
        let granted = self.granted.lock().expect("nobody panics with it");
        granted.at.iter().filter(|at| **at >= since).count()
    }
}

/// What is known of what people did by hand.
#[derive(Default)]
pub(crate) struct Hands {
    /// What the last commits did.
    pub(crate) done: Vec<Deed>,
    /// The test that each key stands for, and what it was asked for by.
    pub(crate) keys: BTreeMap<u128, (DeliveryId, Request)>,
    /// When each process granted tests that were made, by its number.
    pub(crate) granted: BTreeMap<usize, Vec<Timestamp>>,
    /// What is sent again, whatever was told since, and the look that first saw it.
    pub(crate) forced: BTreeMap<DeliveryId, u64>,
    /// The look that first saw a delivery ended, each time anew.
    pub(crate) ended: BTreeMap<DeliveryId, u64>,
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

    pub(crate) fn switched_on(&self) -> impl Iterator<Item = ChannelId> {
        self.done.iter().filter_map(|deed| match deed.request.wanted {
            Wanted::SwitchOn(channel) => Some(channel),
            _ => None,
        })
    }
}

impl World {
    /// Somebody does one of these.
    pub(crate) fn somebody_lends_a_hand(&mut self) {
        let mut channels: Vec<ChannelId> = self.channels.iter().map(|channel| channel.id).collect();
        let deleted = |channel: &ChannelId| self.switches.is_deleted(*channel);
        if channels.iter().any(deleted) && self.roll(2) == 0 {
            // Somebody who has not heard of it.
            channels.retain(|channel| self.switches.is_deleted(*channel));
        }
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
                for _ in 0..50 + self.roll(20) {
                    self.ask(Wanted::Test {
                        channel,
                        up: false,
                        key: None,
                    });
                }
            }
            13..=30 => self.somebody_sends_again(),
            31 => {
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
    pub(crate) fn ask_again(&mut self, wanted: Wanted, tries: u32) {
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
            look: self.sights.looks,
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
                since: by.now - ONCE_FOR,
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
