//! What belongs to the instance: facts, its data keys, start links; and the unlocking of the vault.

use std::sync::Arc;

use allswell_core::chance::Dice;
use allswell_core::id::{DataKeyId, ProjectId};
use allswell_core::scope::SystemScope;
use allswell_core::seal::{DataKey, KeyRing, Place, SealError, sealed_with};
use allswell_core::time::Timestamp;
use zeroize::Zeroizing;

use crate::db::{Reader, Stmt, Tx, statements};
use crate::vault::Learnt;
use crate::{Error, Result, Store};

statements! {
    GET = "select value from instance where name = $1";
    SET = "insert into instance (name, value) values ($1, $2)
           on conflict (name) do update set value = excluded.value";
    DATA_KEY_ANY = "select id from data_keys limit 1";
    DATA_KEY_OF_INSTANCE = "select id, root_key, wrapped from data_keys
                            where project_id is null and retired_at is null";
    DATA_KEY_OF_PROJECT = "select id, root_key, wrapped from data_keys
                           where project_id = $1 and retired_at is null";
    DATA_KEY_BY_ID = "select id, project_id, root_key, wrapped from data_keys where id = $1";
    DATA_KEY_INSERT = "insert into data_keys (id, project_id, root_key, wrapped, created_at, rotation)
                       values ($1, $2, $3, $4, $5, (select coalesce(max(n), 0) from rotations))";
    DATA_KEYS = "select id, project_id, root_key, wrapped from data_keys";
    ROOT_KEY_ACTIVE = "select root_key from data_keys where project_id is null and retired_at is null";
    ROOT_KEYS_IN_USE = "select root_key, count(*) as wraps, count(retired_at) as retired
                        from data_keys group by root_key order by root_key";
    LINK_INSERT = "insert into start_links (hash, created_at, expires_at) values ($1, $2, $3)";
    LINK_EXPIRES_AT = "select expires_at from start_links where hash = $1";
    PINGS = "select cast(sum(ping_count) as bigint) as pings from checks";
    DELIVERIES = "select count(*) as deliveries from deliveries";
    // Written as two halves with their sorted columns named, so that each finds its partial index.
    FLIPS_UNTOLD = "select count(*) as flips from
        (select distinct f.check_id, f.flip_seq from delivery_flips f join
            (select shard, id from deliveries where state = 'ready' and next_at >= 0
             union all select shard, id from deliveries where state = 'leased' and lease_until >= 0) as d
         on f.check_id = d.shard and f.delivery_id = d.id) as untold";
    LINKS_FORGET = "delete from start_links where expires_at <= $1";
}

/// How much the instance holds.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Pings received for all checks whose rows are still there.
    pub pings: i64,
    /// Deliveries that are kept, finished ones included.
    pub deliveries: i64,
    /// Flips of which somebody must still be told.
    pub flips_untold: i64,
}

/// What a root key is used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootKeyUse {
    /// Its name.
    pub name: String,
    /// Data keys that it wraps.
    pub wraps: i64,
    /// Those of them that only open what they once sealed.
    pub retired: i64,
}

/// Why the vault stays closed.
#[derive(Debug, thiserror::Error)]
pub enum UnlockError {
    /// The database's data keys were wrapped by a root key that the ring lacks.
    #[error(
        "the database was encrypted with the root key “{0}”, and the key ring does not hold it. Point keys.ring_file \
         (ALLSWELL_KEYS_RING_FILE) at the ring this database was made with"
    )]
    Missing(String),
    /// The ring has a key of that name, but it is another key.
    #[error(
        "the root key “{0}” of the key ring is not the one this database was encrypted with. Point keys.ring_file \
         (ALLSWELL_KEYS_RING_FILE) at the ring this database was made with"
    )]
    Wrong(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl Store {
    /// Whether the database holds a key record: then a ring must exist, and must not be made anew.
    pub async fn has_data_keys(&self) -> Result<bool> {
        self.read(async |reader| Ok(reader.first(&DATA_KEY_ANY, &[]).await?.is_some()))
            .await
    }

    /// Opens the vault with a key ring. On a new database this makes the instance's data key.
    pub async fn unlock(&self, ring: KeyRing, mut dice: Dice, now: Timestamp) -> Result<(), UnlockError> {
        let instance = match self.instance_key(ring.clone(), dice.fork(), now).await {
            // Another program made the key in this moment: now it is there to be read.
            Err(UnlockError::Store(Error::Conflict(_))) => self.instance_key(ring.clone(), dice, now).await?,
            other => other?,
        };
        self.vault.unlock(ring, &instance);
        Ok(())
    }

    /// The instance's data key; made if the database is new.
    async fn instance_key(
        &self,
        ring: KeyRing,
        mut dice: Dice,
        now: Timestamp,
    ) -> Result<DataKey, UnlockError> {
        self.write(async move |tx| {
            if let Some(row) = tx.first(&DATA_KEY_OF_INSTANCE, &[]).await? {
                return unwrap(&ring, None, &row);
            }
            if tx.first(&DATA_KEY_ANY, &[]).await?.is_some() {
                // Each statement sees what was committed before it: another node may have made the key between the two.
                return match tx.first(&DATA_KEY_OF_INSTANCE, &[]).await? {
                    Some(row) => unwrap(&ring, None, &row),
                    None => Err(Error::Corrupt("the instance's data key is gone".to_owned()).into()),
                };
            }
            let key = DataKey::generate(None, &mut dice);
            tx.data_key_insert(&key, &ring, &mut dice, now).await?;
            Ok(key)
        })
        .await
    }
}

/// A data key out of its row.
pub(crate) fn unwrap(ring: &KeyRing, project: Option<ProjectId>, row: &crate::db::Row) -> Result<DataKey, UnlockError> {
    let id: DataKeyId = row.get("id")?;
    let name: String = row.get("root_key")?;
    let wrapped: Vec<u8> = row.get("wrapped")?;
    let root = ring
        .named(&name)
        .ok_or_else(|| UnlockError::Missing(name.clone()))?;
    DataKey::unwrap(id, project, &wrapped, root).map_err(|_| UnlockError::Wrong(name.clone()))
}

impl Reader<'_> {
    /// A fact about the instance.
    pub async fn instance_get(&mut self, name: &str) -> Result<Option<String>> {
        self.first(&GET, &[name.into()])
            .await?
            .map(|row| row.get("value"))
            .transpose()
    }

    /// The root keys that wrap data keys.
    pub async fn root_keys_in_use(&mut self) -> Result<Vec<RootKeyUse>> {
        let rows = self.all(&ROOT_KEYS_IN_USE, &[]).await?;
        let used = |row: &crate::db::Row| {
            Ok(RootKeyUse {
                name: row.get("root_key")?,
                wraps: row.get("wraps")?,
                retired: row.get("retired")?,
            })
        };
        rows.iter().map(used).collect()
    }

    /// The root key that wraps what is new: the one that wraps the instance's data key. `None` on a new database.
    pub async fn root_key_active(&mut self) -> Result<Option<String>> {
        let row = self.first(&ROOT_KEY_ACTIVE, &[]).await?;
        row.map(|row| row.get("root_key")).transpose()
    }

    /// Unwraps every data key, and gives the names of the root keys that failed to.
    pub async fn data_keys_try(&mut self) -> Result<Vec<String>> {
        let ring = self.vault.ring()?;
        let mut failed = std::collections::BTreeSet::new();
        for row in self.all(&DATA_KEYS, &[]).await? {
            if unwrap(&ring, row.get("project_id")?, &row).is_err() {
                failed.insert(row.get("root_key")?);
            }
        }
        Ok(failed.into_iter().collect())
    }

    /// Counts of the whole instance. Looks at every check: not for a page that people open often.
    pub async fn instance_counts(&mut self, _: SystemScope) -> Result<Counts> {
        let pings: Option<i64> = self.one_number(&PINGS, "pings").await?;
        Ok(Counts {
            pings: pings.unwrap_or(0),
            deliveries: self.one_number(&DELIVERIES, "deliveries").await?.unwrap_or(0),
            flips_untold: self.one_number(&FLIPS_UNTOLD, "flips").await?.unwrap_or(0),
        })
    }

    async fn one_number(&mut self, stmt: &'static Stmt, column: &str) -> Result<Option<i64>> {
        match self.first(stmt, &[]).await? {
            Some(row) => row.get(column),
            None => Ok(None),
        }
    }

    /// The data key that seals a project's fields.
    pub(crate) async fn data_key(&mut self, project: ProjectId) -> Result<Arc<DataKey>> {
        let learnt = self.learnt.iter().find(|learnt| learnt.is_active && learnt.key.project == Some(project));
        let learnt = learnt.map(|learnt| Arc::clone(&learnt.key));
        if let Some(key) = learnt.or_else(|| self.vault.active(project)) {
            return Ok(key);
        }
        self.data_key_stored(project).await
    }

    /// The same as the database has it now, whatever is at hand.
    pub(crate) async fn data_key_stored(&mut self, project: ProjectId) -> Result<Arc<DataKey>> {
        let row = self.first(&DATA_KEY_OF_PROJECT, &[project.into()]).await?;
        let row = row.ok_or_else(|| Error::Corrupt(format!("project {project} has no data key")))?;
        self.learn(Some(project), &row, true)
    }

    fn learn(&mut self, project: Option<ProjectId>, row: &crate::db::Row, is_active: bool) -> Result<Arc<DataKey>> {
        let key = unwrap(&*self.vault.ring()?, project, row).map_err(|error| match error {
            UnlockError::Store(error) => error,
            other => Error::Corrupt(other.to_string()),
        })?;
        let key = Arc::new(key);
        self.learnt.push(Learnt {
            key: Arc::clone(&key),
            is_active,
        });
        Ok(key)
    }

    /// Opens a sealed value with the key that it names; `what` it is stands in the error.
    pub(crate) async fn open_sealed(
        &mut self,
        place: Place<'_>,
        sealed: &[u8],
        what: &(dyn std::fmt::Display + Sync),
    ) -> Result<Zeroizing<Vec<u8>>> {
        let corrupt = || Error::Corrupt(format!("{what}: {SealError}"));
        let id = sealed_with(sealed).ok_or_else(corrupt)?;
        let learnt = self.learnt.iter().find(|learnt| learnt.key.id == id);
        let at_hand = learnt.map(|learnt| Arc::clone(&learnt.key)).or_else(|| self.vault.by_id(id));
        let key = match at_hand {
            Some(key) => key,
            None => {
                let row = self.first(&DATA_KEY_BY_ID, &[id.into()]).await?.ok_or_else(corrupt)?;
                self.learn(row.get("project_id")?, &row, false)?
            }
        };
        if key.project != place.project {
            return Err(corrupt());
        }
        key.open(place, sealed).map_err(|_| corrupt())
    }

    /// Until when a start link opens, if there is one with this hash.
    pub async fn start_link_expires_at(&mut self, hash: &[u8]) -> Result<Option<Timestamp>> {
        self.first(&LINK_EXPIRES_AT, &[hash.into()])
            .await?
            .map(|row| row.get("expires_at"))
            .transpose()
    }
}

impl Tx<'_> {
    /// Sets a fact about the instance.
    pub async fn instance_set(&mut self, name: &str, value: &str) -> Result<()> {
        self.run(&SET, &[name.into(), value.into()]).await.map(drop)
    }

    pub(crate) async fn data_key_insert(
        &mut self,
        key: &DataKey,
        ring: &KeyRing,
        dice: &mut Dice,
        now: Timestamp,
    ) -> Result<()> {
        let root = match self.root_key_active().await? {
            None => ring.first(),
            Some(name) => ring.named(&name).ok_or_else(|| {
                Error::Unavailable(format!("the key ring does not hold the root key “{name}”, which is in use now"))
            })?,
        };
        let wrapped = key.wrap(root, dice);
        let values = [
            key.id.into(),
            key.project.into(),
            (&root.name).into(),
            (&wrapped).into(),
            now.into(),
        ];
        self.run(&DATA_KEY_INSERT, &values).await.map(drop)
    }

    /// Remembers a start link by the hash of its secret, and forgets those that have lapsed.
    pub async fn start_link_insert(
        &mut self,
        hash: &[u8],
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<()> {
        self.run(&LINKS_FORGET, &[now.into()]).await?;
        self.run(&LINK_INSERT, &[hash.into(), now.into(), expires_at.into()])
            .await
            .map(drop)
    }
}
