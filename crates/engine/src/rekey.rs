//! The replacing of keys while everything else goes on: a new root key, new data keys, every sealed value sealed anew.
//!
//! `allswell keys rotate` writes down that it is wanted; whoever runs this step takes it forward by a bounded slice at a
//! time. How far it is stands in the database, so that it goes on after any end. Values name the data key that opens
//! them, so that old and new ones lie side by side for as long as it takes.
//!
//! Nodes must not meet what they cannot open: nothing is wrapped with a root key before every node that is awake says
//! that it has it, and values are gone through when every such node has forgotten the old data keys. One that slept
//! through all that may still write with an old one when it wakes: those are kept for a day, and then looked for.

use std::sync::{Mutex as StdMutex, PoisonError};

use allswell_core::chance::Dice;
use allswell_core::id::NodeId;
use allswell_core::scope::SystemScope;
use allswell_core::seal::KeyRing;
use allswell_core::time::{Span, Timestamp};
use allswell_store::instance::UnlockError;
use allswell_store::rotation::{Phase, Rotation, Slice};
use allswell_store::{Error, Result, Store};
use tokio::sync::Mutex;

use crate::Due;
use crate::loops::Step;

/// Data keys in one transaction.
const KEYS: i64 = 100;
/// Values in one transaction: few, since pings wait for it on SQLite.
const VALUES: i64 = 200;
/// Between two slices, for those who wait for the database.
const BREATH: Span = Span::from_millis(5);
/// Between two looks at what others must do first.
const WAIT: Span = Span::from_millis(250);
/// Without work.
const IDLE: Span = Span::from_secs(1);
/// A node that gave no sign of life for so long, which is three of them, is not waited for.
const AWAKE: Span = Span::from_secs(45);
/// How long retired data keys are kept for what a node that slept may yet write with them.
const REST: Span = Span::from_days(1);

/// Where the ring is read anew: gives it when it is another than before.
pub type Home = Box<dyn Fn() -> Option<KeyRing> + Send + Sync>;

/// Whose word is waited for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Others {
    /// That of each node that is awake.
    Awaited,
    /// Nobody else's: there can be no other node.
    None,
}

/// Takes rotations forward.
pub struct Rekey {
    store: Store,
    /// Says of itself which keys it has; `None` for a command, which is no node.
    node: Option<NodeId>,
    others: Others,
    home: Home,
    dice: Mutex<Dice>,
    known: StdMutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Read anew, and not yet taken.
    ring: Option<KeyRing>,
    /// What this node last said of itself.
    noted: Option<(Vec<String>, Option<Timestamp>)>,
}

impl Rekey {
    /// `home` is asked for the ring before each step.
    pub fn new(store: Store, node: Option<NodeId>, others: Others, home: Home, dice: Dice) -> Self {
        Rekey {
            store,
            node,
            others,
            home,
            dice: Mutex::new(dice),
            known: StdMutex::default(),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the ring if it has changed at its home. One that lacks a key or has another by its name is refused,
    /// and said once.
    async fn read_ring(&self) -> Result<()> {
        let ring = (self.home)().or_else(|| self.known().ring.take());
        let Some(ring) = ring else { return Ok(()) };
        let before = self.store.root_key_labels()?;
        match self.store.ring_replace(ring.clone()).await {
            Ok(()) if before == self.store.root_key_labels()? => {}
            Ok(()) => tracing::info!("the key ring has changed and was read anew"),
            Err(UnlockError::Store(error)) => {
                self.known().ring = Some(ring);
                return Err(error);
            }
            Err(unfit) => tracing::error!(
                "the key ring has changed and is not taken; this server goes on with the ring it has, and could not start \
                 with this one: {unfit}"
            ),
        }
        Ok(())
    }

    /// Forgets data keys that were replaced, then says what this node knows.
    async fn note(&self, keyed_at: Option<Timestamp>, now: Timestamp) -> Result<()> {
        let knows = (self.store.root_key_labels()?, keyed_at);
        if self.known().noted.as_ref() == Some(&knows) {
            return Ok(());
        }
        self.store.data_keys_forget();
        if let Some(node) = self.node {
            let (labels, gone) = (knows.0.clone(), now - REST);
            self.store
                .write(async move |tx| {
                    tx.node_keys_note(SystemScope::engine(), node, &labels, keyed_at, now, gone)
                        .await
                })
                .await?;
        }
        self.known().noted = Some(knows);
        Ok(())
    }

    async fn go_on(&self, rotation: Rotation, now: Timestamp) -> Result<Due> {
        let others = self.others;
        match rotation.phase {
            Phase::Announced => {
                let here = self.store.root_key_labels()?.contains(&rotation.label);
                if !here || !awaited(&self.store, &rotation, others, now).await?.is_empty() {
                    return Ok(Due::At(now + WAIT));
                }
                self.enter(rotation, Phase::Wrapping, now).await
            }
            Phase::Wrapping => self.wrap(rotation, now).await,
            Phase::Keying => self.make_keys(rotation, now).await,
            Phase::Settling => {
                if !awaited(&self.store, &rotation, others, now).await?.is_empty() {
                    return Ok(Due::At(now + WAIT));
                }
                self.enter(rotation.at_first(), Phase::Sealing, now).await
            }
            Phase::Sealing | Phase::Sweeping => self.seal(rotation, now).await,
            Phase::Resting => {
                let until = rotation.finished_at.unwrap_or(now) + REST;
                if now < until {
                    return Ok(Due::At(now + IDLE));
                }
                self.enter(rotation.at_first(), Phase::Sweeping, now).await
            }
            Phase::Done => Ok(Due::At(now + IDLE)),
        }
    }

    async fn enter(&self, mut rotation: Rotation, phase: Phase, now: Timestamp) -> Result<Due> {
        rotation.phase = phase;
        self.store
            .write(async move |tx| tx.rotation_save(SystemScope::engine(), &rotation).await)
            .await?;
        Ok(Due::At(now + BREATH))
    }

    async fn wrap(&self, rotation: Rotation, now: Timestamp) -> Result<Due> {
        let mut dice = self.dice.lock().await.fork();
        let of = rotation.clone();
        let slice = self
            .store
            .write(async move |tx| {
                tx.rotation_wrap(SystemScope::engine(), &of, KEYS, &mut dice)
                    .await
            })
            .await?;
        match slice {
            Slice::More => Ok(Due::At(now + BREATH)),
            // If others did it, this is not saved, and the next look finds how far it is.
            Slice::End => self.enter_if_none_left(rotation, Phase::Keying, now).await,
        }
    }

    async fn make_keys(&self, rotation: Rotation, now: Timestamp) -> Result<Due> {
        let mut dice = self.dice.lock().await.fork();
        let of = rotation.clone();
        let slice = self
            .store
            .write(async move |tx| {
                tx.rotation_make_keys(SystemScope::engine(), &of, KEYS, &mut dice, now)
                    .await
            })
            .await?;
        match slice {
            Slice::More => Ok(Due::At(now + BREATH)),
            Slice::End => self.enter_if_none_left(rotation, Phase::Settling, now).await,
        }
    }

    /// Enters the next phase when a look behind the last slice finds nothing: that slice may have been the last one.
    async fn enter_if_none_left(&self, before: Rotation, phase: Phase, now: Timestamp) -> Result<Due> {
        self.store
            .write(async move |tx| {
                let system = SystemScope::engine();
                let Some(mut rotation) = tx.rotation(system).await? else {
                    return Ok(());
                };
                if (rotation.n, rotation.phase) != (before.n, before.phase)
                    || !tx.rotation_is_through(system, &rotation).await?
                {
                    return Ok::<_, Error>(());
                }
                rotation.phase = phase;
                if phase == Phase::Settling {
                    rotation.keyed_at = Some(now);
                }
                tx.rotation_save(system, &rotation).await.map(drop)
            })
            .await?;
        Ok(Due::At(now + BREATH))
    }

    /// A slice of values. Behind the last one: another pass if this one found something, otherwise the end.
    async fn seal(&self, rotation: Rotation, now: Timestamp) -> Result<Due> {
        let mut dice = self.dice.lock().await.fork();
        self.store
            .write(async move |tx| {
                let system = SystemScope::engine();
                if tx.rotation_seal(system, &rotation, VALUES, &mut dice).await? != Some(Slice::End) {
                    return Ok(());
                }
                let Some(mut rotation) = tx.rotation(system).await? else {
                    return Ok(());
                };
                let sweeping = rotation.phase == Phase::Sweeping;
                if tx.rotation_left_something(system, &rotation).await? {
                    rotation.phase = Phase::Wrapping;
                } else if rotation.values_sealed > 0 {
                    rotation = rotation.at_first();
                } else if sweeping {
                    // What does not open may yet be mended, as long as its key is there.
                    if rotation.values_unreadable == 0 {
                        tx.rotation_forget_keys(system, &rotation).await?;
                    }
                    rotation.phase = Phase::Done;
                } else {
                    rotation.finished_at = rotation.finished_at.or(Some(now));
                    rotation.phase = Phase::Resting;
                }
                tx.rotation_save(system, &rotation).await.map(drop)
            })
            .await?;
        Ok(Due::At(now + BREATH))
    }
}

/// The nodes whose word a rotation waits for.
pub async fn awaited(
    store: &Store,
    rotation: &Rotation,
    others: Others,
    now: Timestamp,
) -> Result<Vec<NodeId>> {
    if others == Others::None {
        return Ok(Vec::new());
    }
    let nodes = store
        .read(async move |reader| reader.nodes_keys(SystemScope::engine(), now - AWAKE).await)
        .await?;
    let ready = |node: &allswell_store::rotation::NodeKeys| match rotation.phase {
        Phase::Announced => node
            .labels
            .as_ref()
            .is_some_and(|labels| labels.contains(&rotation.label)),
        Phase::Settling => node.keyed_at >= rotation.keyed_at,
        _ => true,
    };
    Ok(nodes
        .iter()
        .filter(|node| !ready(node))
        .map(|node| node.node)
        .collect())
}

impl Step for Rekey {
    const NAME: &'static str = "rekey";

    async fn step(&self, now: Timestamp) -> Result<Due> {
        self.read_ring().await?;
        let rotation = self
            .store
            .read(async |reader| reader.rotation(SystemScope::engine()).await)
            .await?;
        self.note(rotation.as_ref().and_then(|rotation| rotation.keyed_at), now)
            .await?;
        match rotation {
            Some(rotation) => self.go_on(rotation, now).await,
            None => Ok(Due::At(now + IDLE)),
        }
    }
}
