//! The replacing of keys, a slice at a time: which rotation is under way, how far it is, and what nodes know of it.
//!
//! Nothing here waits or decides what comes next (the engine does). Every slice is one transaction that takes the rotation
//! forward by one step, on the condition that nobody else took that step: whoever dies in between has done nothing.

use std::collections::HashMap;
use std::sync::Arc;

use allswell_core::chance::Dice;
use allswell_core::id::{DataKeyId, NodeId, ProjectId};
use allswell_core::scope::SystemScope;
use allswell_core::seal::{DataKey, KeyRing, sealed_with};
use allswell_core::time::Timestamp;
use uuid::Uuid;

use crate::db::{Param, Reader, Row, Tx, statements};
use crate::instance::{UnlockError, unwrap};
use crate::sealed::{Key, SEALED, SealedColumn};
use crate::{Error, Result, Store};

statements! {
    NEWEST = "select n, root_key, label, phase, step, started_at, keyed_at, finished_at, at_column, at_id, at_second,
                     at_n, at_name, pass, keys_wrapped, keys_made, values_seen, values_sealed, values_unreadable
              from rotations order by n desc limit 1";
    ROOTS_BEFORE = "select root_key, replaced from rotations";
    BEGIN = "insert into rotations (n, root_key, label, phase, step, started_at, replaced, pass, keys_wrapped, keys_made,
                                    values_seen, values_sealed, values_unreadable)
             values ($1, $2, $3, 'announced', 0, $4, $5, 0, 0, 0, 0, 0, 0)";
    GO_ON = "update rotations set step = step + 1, phase = $3, keyed_at = $4, finished_at = $5, at_column = $6,
                    at_id = $7, at_second = $8, at_n = $9, at_name = $16, pass = $10, keys_wrapped = $11, keys_made = $12,
                    values_seen = $13, values_sealed = $14, values_unreadable = $15
             where n = $1 and step = $2";
    // The instance's key first: its root key is the one that new data keys are wrapped with.
    WRAPPED_BY_OTHERS = "select id, project_id, root_key, wrapped from data_keys where root_key <> $1
                         order by project_id is not null, id limit $2";
    WRAPPED_BY = "select id, project_id, root_key, wrapped from data_keys where root_key = $1
                  order by project_id is not null, id limit 1";
    WRAP = "update data_keys set root_key = $2, wrapped = $3 where id = $1 and root_key = $4";
    MADE_BEFORE = "select id, project_id from data_keys
                   where project_id is not null and retired_at is null and rotation < $1 order by id limit $2";
    RETIRE = "update data_keys set retired_at = $2 where id = $1 and retired_at is null";
    FORGET_RETIRED = "delete from data_keys where retired_at is not null and rotation < $1";
    AWAKE = "select a.node_id as node_id, k.labels as labels, k.keyed_at as keyed_at
             from awake a left join node_keys k on k.node_id = a.node_id where a.seen_at > $1 order by a.node_id";
    NODE_NOTE = "insert into node_keys (node_id, labels, keyed_at, noted_at) values ($1, $2, $3, $4)
                 on conflict (node_id) do update set labels = excluded.labels, keyed_at = excluded.keyed_at,
                     noted_at = excluded.noted_at";
    NODES_GONE = "delete from node_keys where noted_at < $1 and node_id not in (select node_id from awake)";
}

/// How far a rotation is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The new root key is in the ring; each node must have it before anything is wrapped with it.
    Announced,
    /// Data keys are wrapped with the new root key.
    Wrapping,
    /// Each project gets a new data key; the old one only opens from then on.
    Keying,
    /// Each node must have forgotten the old data keys.
    Settling,
    /// Values are sealed with the new data keys.
    Sealing,
    /// Nothing rests on the old root key; old data keys are kept for what a node that slept may yet have written.
    Resting,
    /// Values are looked through for that.
    Sweeping,
    /// The old data keys are gone.
    Done,
}

impl Phase {
    /// The stored word.
    pub const fn word(self) -> &'static str {
        match self {
            Phase::Announced => "announced",
            Phase::Wrapping => "wrapping",
            Phase::Keying => "keying",
            Phase::Settling => "settling",
            Phase::Sealing => "sealing",
            Phase::Resting => "resting",
            Phase::Sweeping => "sweeping",
            Phase::Done => "done",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [
            Phase::Announced,
            Phase::Wrapping,
            Phase::Keying,
            Phase::Settling,
            Phase::Sealing,
            Phase::Resting,
            Phase::Sweeping,
            Phase::Done,
        ]
        .into_iter()
        .find(|phase| phase.word() == word)
    }
}

/// A rotation of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Its number, from 1.
    pub n: i64,
    /// Name of the new root key.
    pub root_key: String,
    /// Its name and fingerprint.
    pub label: String,
    /// How far it is.
    pub phase: Phase,
    /// When it began.
    pub started_at: Timestamp,
    /// When every project had its new data key.
    pub keyed_at: Option<Timestamp>,
    /// When nothing rested on older root keys any more.
    pub finished_at: Option<Timestamp>,
    /// How often all values were gone through.
    pub pass: i64,
    /// Data keys that were wrapped anew.
    pub keys_wrapped: i64,
    /// Data keys that were made.
    pub keys_made: i64,
    /// Values that were looked at in this pass.
    pub values_seen: i64,
    /// Values that were sealed anew, in this pass.
    pub values_sealed: i64,
    /// Values that do not open, in this pass. The data keys that they name are kept.
    pub values_unreadable: i64,
    step: i64,
    at_column: Option<String>,
    at: Key,
}

/// What a node knows of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeKeys {
    /// The node.
    pub node: NodeId,
    /// Its root keys by name and fingerprint; `None` if it never said.
    pub labels: Option<Vec<String>>,
    /// The newest rotation whose data keys it knows of.
    pub keyed_at: Option<Timestamp>,
}

/// A value that a pass looked at.
enum Value {
    /// The active key sealed it.
    Fresh,
    Stale {
        old: Vec<u8>,
        new: Vec<u8>,
    },
    Unreadable,
}

/// A slice of the work, done.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Slice {
    /// There may be more.
    More,
    /// This was the last; or somebody else is doing it.
    End,
}

impl Rotation {
    /// The place where it is, as table and column, with the part of the values there that is behind it: ids are random,
    /// so that the first byte of one says how far.
    pub fn at(&self) -> Option<(&str, u8)> {
        let column = self.at_column.as_deref()?;
        Some((column, (u32::from(self.at.id.as_bytes()[0]) * 100 / 256) as u8))
    }

    /// Whether nothing rests on older root keys any more.
    pub const fn is_finished(&self) -> bool {
        self.finished_at.is_some()
    }

    /// At the beginning of a pass over all values.
    #[must_use]
    pub fn at_first(mut self) -> Self {
        self.at_column = None;
        self.at = Key::FIRST;
        self.pass += 1;
        (self.values_seen, self.values_sealed, self.values_unreadable) = (0, 0, 0);
        self
    }
}

fn from_row(row: &Row) -> Result<Rotation> {
    let phase: String = row.get("phase")?;
    let id = |column| row.get::<Option<Uuid>>(column).map(Option::unwrap_or_default);
    let n: Option<i64> = row.get("at_n")?;
    Ok(Rotation {
        n: row.get("n")?,
        root_key: row.get("root_key")?,
        label: row.get("label")?,
        phase: Phase::from_word(&phase)
            .ok_or_else(|| Error::Corrupt(format!("a rotation is in the unknown phase {phase}")))?,
        step: row.get("step")?,
        started_at: row.get("started_at")?,
        keyed_at: row.get("keyed_at")?,
        finished_at: row.get("finished_at")?,
        at_column: row.get("at_column")?,
        at: Key {
            id: id("at_id")?,
            second: id("at_second")?,
            n: n.unwrap_or(-1),
            name: row.get::<Option<String>>("at_name")?.unwrap_or_default(),
        },
        pass: row.get("pass")?,
        keys_wrapped: row.get("keys_wrapped")?,
        keys_made: row.get("keys_made")?,
        values_seen: row.get("values_seen")?,
        values_sealed: row.get("values_sealed")?,
        values_unreadable: row.get("values_unreadable")?,
    })
}

impl Store {
    /// The root keys that this process has: names and fingerprints.
    ///
    /// # Errors
    /// The vault is closed.
    pub fn root_key_labels(&self) -> Result<Vec<String>> {
        Ok(self.vault.ring()?.keys().map(|key| key.label()).collect())
    }

    /// Takes a ring that was read anew, if it holds every root key that is in use, and they are the same keys: of each one
    /// data key is unwrapped. Otherwise the ring stays what it was.
    ///
    /// # Errors
    /// What is wrong with the ring, or the database's own.
    pub async fn ring_replace(&self, ring: KeyRing) -> Result<(), UnlockError> {
        let fits = ring.clone();
        self.read(async move |reader| {
            for used in reader.root_keys_in_use().await? {
                for row in reader.all(&WRAPPED_BY, &[(&used.name).into()]).await? {
                    unwrap(&fits, row.get("project_id")?, &row)?;
                }
            }
            Ok::<_, UnlockError>(())
        })
        .await?;
        self.vault.replace_ring(ring);
        Ok(())
    }

    /// Has this process ask the database which data keys seal.
    pub fn data_keys_forget(&self) {
        self.vault.forget_active();
    }
}

impl Reader<'_> {
    /// The newest rotation, whether it has ended or not.
    pub async fn rotation(&mut self, _: SystemScope) -> Result<Option<Rotation>> {
        self.first(&NEWEST, &[]).await?.as_ref().map(from_row).transpose()
    }

    /// Names of the root keys that this database ever used.
    pub async fn root_keys_ever(&mut self, _: SystemScope) -> Result<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        for row in self.all(&ROOTS_BEFORE, &[]).await? {
            let replaced: String = row.get("replaced")?;
            names.push(row.get("root_key")?);
            names.extend(replaced.split_whitespace().map(str::to_owned));
        }
        names.extend(self.root_keys_in_use().await?.into_iter().map(|used| used.name));
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// The nodes that were awake after `since`, with what they know of keys.
    pub async fn nodes_keys(&mut self, _: SystemScope, since: Timestamp) -> Result<Vec<NodeKeys>> {
        let rows = self.all(&AWAKE, &[since.into()]).await?;
        let node = |row: &Row| {
            let labels: Option<String> = row.get("labels")?;
            Ok(NodeKeys {
                node: row.get("node_id")?,
                labels: labels.map(|labels| labels.split(' ').map(str::to_owned).collect()),
                keyed_at: row.get("keyed_at")?,
            })
        };
        rows.iter().map(node).collect()
    }
}

impl Tx<'_> {
    /// Begins a rotation to a root key of the ring; gives its number.
    ///
    /// # Errors
    /// `Conflict` if another was begun in the same moment.
    pub async fn rotation_begin(
        &mut self,
        system: SystemScope,
        root_key: &str,
        now: Timestamp,
    ) -> Result<i64> {
        let ring = self.vault.ring()?;
        let root = ring
            .named(root_key)
            .ok_or_else(|| Error::Internal(format!("the ring holds no key “{root_key}”")))?;
        let n = self.rotation(system).await?.map_or(1, |newest| newest.n + 1);
        let label = root.label();
        let in_use = self.root_keys_in_use().await?;
        let replaced = in_use
            .iter()
            .map(|used| used.name.as_str())
            .collect::<Vec<_>>()
            .join(" ");
        let values = [
            n.into(),
            root_key.into(),
            (&label).into(),
            now.into(),
            (&replaced).into(),
        ];
        self.run(&BEGIN, &values).await?;
        Ok(n)
    }

    /// Writes a rotation as it now is. `false` if somebody else took it forward since it was read.
    pub async fn rotation_save(&mut self, _: SystemScope, rotation: &Rotation) -> Result<bool> {
        let in_column = rotation.at_column.is_some();
        let values = [
            rotation.n.into(),
            rotation.step.into(),
            rotation.phase.word().into(),
            rotation.keyed_at.into(),
            rotation.finished_at.into(),
            rotation.at_column.as_deref().into(),
            in_column.then_some(rotation.at.id).into(),
            in_column.then_some(rotation.at.second).into(),
            in_column.then_some(rotation.at.n).into(),
            rotation.pass.into(),
            rotation.keys_wrapped.into(),
            rotation.keys_made.into(),
            rotation.values_seen.into(),
            rotation.values_sealed.into(),
            rotation.values_unreadable.into(),
            in_column.then_some(rotation.at.name.as_str()).into(),
        ];
        Ok(self.run(&GO_ON, &values).await? == 1)
    }

    /// Wraps up to `limit` data keys with the new root key.
    pub async fn rotation_wrap(
        &mut self,
        system: SystemScope,
        rotation: &Rotation,
        limit: i64,
        dice: &mut Dice,
    ) -> Result<Slice> {
        let rows = self
            .all(&WRAPPED_BY_OTHERS, &[(&rotation.root_key).into(), limit.into()])
            .await?;
        let mut next = rotation.clone();
        next.keys_wrapped += rows.len() as i64;
        if rows.is_empty() || !self.rotation_save(system, &next).await? {
            return Ok(Slice::End);
        }
        let ring = self.vault.ring()?;
        let new = ring.named(&rotation.root_key).ok_or_else(|| {
            Error::Unavailable(format!(
                "the key ring does not hold the root key “{}”",
                rotation.root_key
            ))
        })?;
        for row in &rows {
            let old: String = row.get("root_key")?;
            let project: Option<ProjectId> = row.get("project_id")?;
            let key = unwrap(&ring, project, row).map_err(|error| match error {
                UnlockError::Store(error) => error,
                other => Error::Corrupt(other.to_string()),
            })?;
            let wrapped = key.wrap(new, dice);
            let values = [
                key.id.into(),
                (&new.name).into(),
                (&wrapped).into(),
                (&old).into(),
            ];
            self.run(&WRAP, &values).await?;
        }
        Ok(if rows.len() as i64 == limit {
            Slice::More
        } else {
            Slice::End
        })
    }

    /// Gives up to `limit` projects a new data key.
    pub async fn rotation_make_keys(
        &mut self,
        system: SystemScope,
        rotation: &Rotation,
        limit: i64,
        dice: &mut Dice,
        now: Timestamp,
    ) -> Result<Slice> {
        let rows = self.all(&MADE_BEFORE, &[rotation.n.into(), limit.into()]).await?;
        let mut next = rotation.clone();
        next.keys_made += rows.len() as i64;
        if rows.is_empty() || !self.rotation_save(system, &next).await? {
            return Ok(Slice::End);
        }
        let ring = self.vault.ring()?;
        for row in &rows {
            let (old, project): (DataKeyId, ProjectId) = (row.get("id")?, row.get("project_id")?);
            if self.run(&RETIRE, &[old.into(), now.into()]).await? == 1 {
                let key = DataKey::generate(Some(project), dice);
                self.data_key_insert(&key, &ring, dice, now).await?;
            }
        }
        Ok(if rows.len() as i64 == limit {
            Slice::More
        } else {
            Slice::End
        })
    }

    /// Whether a data key is wrapped by another root key, or seals although it was made before this rotation: by whoever
    /// had begun before it went past.
    pub async fn rotation_left_something(&mut self, _: SystemScope, rotation: &Rotation) -> Result<bool> {
        let wrapped = self
            .first(&WRAPPED_BY_OTHERS, &[(&rotation.root_key).into(), 1_i64.into()])
            .await?;
        let made = self
            .first(&MADE_BEFORE, &[rotation.n.into(), 1_i64.into()])
            .await?;
        Ok(wrapped.is_some() || made.is_some())
    }

    /// Whether the phase that a rotation is in has nothing left to do.
    pub async fn rotation_is_through(&mut self, _: SystemScope, rotation: &Rotation) -> Result<bool> {
        let left = match rotation.phase {
            Phase::Wrapping => {
                let values = [(&rotation.root_key).into(), 1_i64.into()];
                self.first(&WRAPPED_BY_OTHERS, &values).await?
            }
            Phase::Keying => {
                self.first(&MADE_BEFORE, &[rotation.n.into(), 1_i64.into()])
                    .await?
            }
            _ => None,
        };
        Ok(left.is_none())
    }

    /// Goes through up to `limit` values and seals those anew that an older data key sealed. `None` if somebody else did;
    /// `Slice::End` behind the last value of the last column.
    pub async fn rotation_seal(
        &mut self,
        system: SystemScope,
        rotation: &Rotation,
        limit: i64,
        dice: &mut Dice,
    ) -> Result<Option<Slice>> {
        let index = match &rotation.at_column {
            None => 0,
            Some(name) => SEALED
                .iter()
                .position(|column| column.name() == *name)
                .unwrap_or(0),
        };
        let column = &SEALED[index];
        let mut values = column.params(&rotation.at);
        values.push(limit.into());
        let rows = self.all(column.after, &values).await?;
        let mut next = rotation.clone();
        let mut active = HashMap::new();
        let mut stale = Vec::new();
        for row in &rows {
            next.at = column.key_of(row)?;
            let Some(sealed) = row.get::<Option<Vec<u8>>>("sealed")? else {
                continue;
            };
            next.values_seen += 1;
            let project = row.get("project_id")?;
            match self
                .sealed_anew(column, project, &next.at, sealed, &mut active, dice)
                .await?
            {
                Value::Fresh => {}
                Value::Stale { old, new } => stale.push((next.at.clone(), old, new)),
                Value::Unreadable => next.values_unreadable += 1,
            }
        }
        next.at_column = Some(column.name());
        let at_end = (rows.len() as i64) < limit;
        let end = if at_end {
            next.at = Key::FIRST;
            next.at_column = SEALED.get(index + 1).map(SealedColumn::name);
            if next.at_column.is_none() {
                Slice::End
            } else {
                Slice::More
            }
        } else {
            Slice::More
        };
        next.values_sealed += stale.len() as i64;
        if !self.rotation_save(system, &next).await? {
            return Ok(None);
        }
        for (key, old, new) in &stale {
            let mut values: Vec<Param<'_>> = column.params(key);
            values.extend([Param::from(new), Param::from(old)]);
            self.run(column.replace, &values).await?;
        }
        Ok(Some(end))
    }

    async fn sealed_anew(
        &mut self,
        column: &'static SealedColumn,
        project: Option<ProjectId>,
        key: &Key,
        old: Vec<u8>,
        active: &mut HashMap<ProjectId, Arc<DataKey>>,
        dice: &mut Dice,
    ) -> Result<Value> {
        // Whatever the row belonged to is gone, and so will it be.
        let Some(project) = project else {
            return Ok(Value::Fresh);
        };
        let seals = match active.get(&project) {
            Some(key) => Arc::clone(key),
            // Not the one at hand: this process too may be behind.
            None => match self.data_key_stored(project).await {
                Ok(key) => {
                    active.insert(project, Arc::clone(&key));
                    key
                }
                // A project without a key that opens must not hold up the others.
                Err(Error::Corrupt(_)) => return Ok(Value::Unreadable),
                Err(error) => return Err(error),
            },
        };
        if sealed_with(&old) == Some(seals.id) {
            return Ok(Value::Fresh);
        }
        let bytes = column.row_bytes(key);
        let place = column.place(&bytes, project);
        match self.open_sealed(place, &old, &column.name()).await {
            Ok(plain) => Ok(Value::Stale {
                new: seals.seal(place, &plain, dice),
                old,
            }),
            Err(Error::Corrupt(_)) => Ok(Value::Unreadable),
            Err(error) => Err(error),
        }
    }

    /// Deletes the data keys that were retired before this rotation or by it. Only when no value names them any more.
    pub async fn rotation_forget_keys(&mut self, _: SystemScope, rotation: &Rotation) -> Result<u64> {
        self.run(&FORGET_RETIRED, &[rotation.n.into()]).await
    }

    /// Notes what a node knows of keys, and forgets nodes that ended before `gone`.
    pub async fn node_keys_note(
        &mut self,
        _: SystemScope,
        node: NodeId,
        labels: &[String],
        keyed_at: Option<Timestamp>,
        now: Timestamp,
        gone: Timestamp,
    ) -> Result<()> {
        let labels = labels.join(" ");
        let keyed_at = keyed_at.unwrap_or(Timestamp::from_micros(0));
        let values = [node.into(), (&labels).into(), keyed_at.into(), now.into()];
        self.run(&NODE_NOTE, &values).await?;
        self.run(&NODES_GONE, &[gone.into()]).await.map(drop)
    }
}
