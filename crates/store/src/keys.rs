//! API keys and ping keys. Recognised by an HMAC; only ping keys are also kept sealed, since pages show them.
//!
//! A key that was revoked or has expired keeps its row: people ask when it was last used, and from where.

use allswell_core::chance::Dice;
use allswell_core::cidr::Cidr;
use allswell_core::id::{KeyId, ProjectId};
use allswell_core::key::{KeyKind, lookup, new_key, succession};
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::seal::Place;
use allswell_core::secret::Secret;
use allswell_core::time::{Span, Timestamp};

use crate::db::{Reader, Row, Tx, statements};
use crate::{Error, Result};

statements! {
    INSERT = "insert into api_keys (id, project_id, kind, name, scheme, lookup, hash, sealed, created_at, expires_at,
                                    networks)
              values ($1, $2, $3, $4, 'hmac-sha256', $5, $6, $7, $8, $9, $10)";
    BY_LOOKUP = "select k.id as id, k.project_id as project_id, k.kind as kind, k.hash as hash,
                        k.expires_at as expires_at, k.networks as networks, k.last_used_at as last_used_at,
                        p.require_hmac as require_hmac
                 from api_keys k join projects p on p.id = k.project_id
                 where k.lookup = $1 and k.revoked_at is null and p.deleted_at is null";
    BY_ID = "select k.expires_at as expires_at, p.require_hmac as require_hmac
             from api_keys k join projects p on p.id = k.project_id
             where k.id = $1 and k.revoked_at is null and p.deleted_at is null";
    PING_KEY_SEALED = "select id, sealed from api_keys
                       where project_id = $1 and kind = 'ping' and revoked_at is null and sealed is not null
                       order by created_at desc, id limit 1";
    OF_PROJECT = "select id, kind, name, lookup, created_at, expires_at, last_used_at, last_used_from, revoked_at,
                         replaced_by, networks
                  from api_keys where project_id = $1 order by created_at, id";
    REVOKE = "update api_keys set revoked_at = $3 where id = $1 and project_id = $2 and revoked_at is null";
    SUCCEED = "update api_keys set expires_at = $3, replaced_by = $4
               where id = $1 and project_id = $2 and revoked_at is null";
    NOTE_USE = "update api_keys set last_used_at = $2, last_used_from = $3
                where id = $1 and (last_used_at is null or last_used_at < $2)";
}

/// A key that was recognised.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its row.
    pub id: KeyId,
    /// The project it opens.
    pub project: ProjectId,
    /// What it allows.
    pub kind: KeyKind,
}

/// A key that was recognised, with what must still be asked of its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What it opens.
    pub known: Known,
    /// Where it may be used from; empty: anywhere.
    pub networks: Vec<Cidr>,
    /// Its use was last noted then.
    pub last_used_at: Option<Timestamp>,
    /// Its project takes only requests that are signed.
    pub signed_only: bool,
}

/// A key as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its row.
    pub id: KeyId,
    /// What it allows.
    pub kind: KeyKind,
    /// What it is for.
    pub name: String,
    /// The eight characters behind its prefix, to tell it from others.
    pub lookup: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// From then on it opens nothing.
    pub expires_at: Option<Timestamp>,
    /// Its use was last noted then.
    pub last_used_at: Option<Timestamp>,
    /// The network it was then used from.
    pub last_used_from: Option<String>,
    /// It was revoked then.
    pub revoked_at: Option<Timestamp>,
    /// The key that took its place.
    pub replaced_by: Option<KeyId>,
    /// Where it may be used from; empty: anywhere.
    pub networks: Vec<Cidr>,
}

impl Key {
    /// Whether it still opens something.
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|at| now < at)
    }
}

/// A key to be made.
#[derive(Clone, Debug)]
pub struct NewKey<'a> {
    /// What it allows.
    pub kind: KeyKind,
    /// What it is for.
    pub name: &'a str,
    /// From then on it opens nothing; `None`: it does not expire.
    pub expires_at: Option<Timestamp>,
    /// Where it may be used from; empty: anywhere. Ping keys can be used from anywhere.
    pub networks: &'a [Cidr],
}

fn kind_of(row: &Row) -> Result<KeyKind> {
    let word: String = row.get("kind")?;
    KeyKind::from_word(&word).ok_or_else(|| Error::Corrupt("a key has an unknown kind".to_owned()))
}

/// An unreadable network must not open the key to everybody.
fn networks_of(row: &Row) -> Result<Vec<Cidr>> {
    let text: Option<String> = row.get("networks")?;
    let networks = text.as_deref().unwrap_or_default().split_whitespace();
    networks
        .map(|network| Cidr::parse(network).map_err(|why| Error::Corrupt(format!("a key's network: {why}"))))
        .collect()
}

fn key_of(row: &Row) -> Result<Key> {
    Ok(Key {
        id: row.get("id")?,
        kind: kind_of(row)?,
        name: row.get("name")?,
        lookup: row.get("lookup")?,
        created_at: row.get("created_at")?,
        expires_at: row.get("expires_at")?,
        last_used_at: row.get("last_used_at")?,
        last_used_from: row.get("last_used_from")?,
        revoked_at: row.get("revoked_at")?,
        replaced_by: row.get("replaced_by")?,
        networks: networks_of(row)?,
    })
}

fn place(id: &KeyId, project: ProjectId) -> Place<'_> {
    Place {
        table: "api_keys",
        column: "sealed",
        row: id.as_uuid_bytes(),
        project: Some(project),
    }
}

impl Reader<'_> {
    /// Recognises a key, unless it was revoked or has expired. Where it is used from is not asked here: see
    /// [`Reader::key_open`].
    pub async fn key_recognise(&mut self, text: &str, now: Timestamp) -> Result<Option<Known>> {
        Ok(self.key_open(text, now).await?.map(|opened| opened.known))
    }

    /// Recognises a key, unless it was revoked or has expired, and tells from where it may be used.
    pub async fn key_open(&mut self, text: &str, now: Timestamp) -> Result<Option<Opened>> {
        let rows = self.all(&BY_LOOKUP, &[lookup(text).as_str().into()]).await?;
        for row in rows {
            let hash: Vec<u8> = row.get("hash")?;
            let expires_at: Option<Timestamp> = row.get("expires_at")?;
            if self.vault.pepper()?.recognises(text, &hash) && expires_at.is_none_or(|at| now < at) {
                let known = Known {
                    id: row.get("id")?,
                    project: row.get("project_id")?,
                    kind: kind_of(&row)?,
                };
                return Ok(Some(Opened {
                    known,
                    networks: networks_of(&row)?,
                    last_used_at: row.get("last_used_at")?,
                    signed_only: row.get("require_hmac")?,
                }));
            }
        }
        Ok(None)
    }

    /// Whether a key that was recognised before still opens its project when it is sent.
    pub async fn key_opens(&mut self, _: SystemScope, id: KeyId, now: Timestamp) -> Result<bool> {
        let Some(row) = self.first(&BY_ID, &[id.into()]).await? else {
            return Ok(false);
        };
        let expires_at: Option<Timestamp> = row.get("expires_at")?;
        Ok(expires_at.is_none_or(|at| now < at) && !row.get::<bool>("require_hmac")?)
    }

    /// The keys of a project in the order of their making, those that open nothing any more included.
    pub async fn keys(&mut self, scope: ProjectScope) -> Result<Vec<Key>> {
        let rows = self.all(&OF_PROJECT, &[scope.project().into()]).await?;
        rows.iter().map(key_of).collect()
    }

    /// The project that a ping key opens.
    pub async fn project_by_ping_key(
        &mut self,
        _: SystemScope,
        text: &str,
        now: Timestamp,
    ) -> Result<Option<ProjectId>> {
        let known = self.key_recognise(text, now).await?;
        Ok(known
            .filter(|known| known.kind == KeyKind::Ping)
            .map(|known| known.project))
    }

    /// The newest ping key of a project, to be shown to those who may.
    pub async fn ping_key(&mut self, scope: ProjectScope) -> Result<Option<Secret<String>>> {
        let Some(row) = self.first(&PING_KEY_SEALED, &[scope.project().into()]).await? else {
            return Ok(None);
        };
        let (id, sealed): (KeyId, Vec<u8>) = (row.get("id")?, row.get("sealed")?);
        let what = format!("ping key {id}");
        let plain = self
            .open_sealed(place(&id, scope.project()), &sealed, &what)
            .await?;
        let text = String::from_utf8(plain.to_vec())
            .map_err(|_| Error::Corrupt(format!("ping key {id} is not text")))?;
        Ok(Some(Secret::new(text)))
    }
}

impl Tx<'_> {
    /// Makes a key that does not expire. What is returned is shown once; of an API key nothing but its hash is kept.
    pub async fn key_create(
        &mut self,
        scope: ProjectScope,
        kind: KeyKind,
        name: &str,
        dice: &mut Dice,
        now: Timestamp,
    ) -> Result<(KeyId, Secret<String>)> {
        let key = NewKey {
            kind,
            name,
            expires_at: None,
            networks: &[],
        };
        self.key_insert(scope, &key, dice, now).await
    }

    /// Makes a key. What is returned is shown once; of an API key nothing but its hash is kept.
    pub async fn key_insert(
        &mut self,
        scope: ProjectScope,
        key: &NewKey<'_>,
        dice: &mut Dice,
        now: Timestamp,
    ) -> Result<(KeyId, Secret<String>)> {
        let kind = key.kind;
        let id: KeyId = dice.id();
        let text = new_key(kind, dice);
        let hash = self.vault.pepper()?.hash(text.reveal());
        let project = scope.project();
        let sealed = match kind {
            KeyKind::Ping => Some(self.data_key(project).await?.seal(
                place(&id, project),
                text.reveal().as_bytes(),
                dice,
            )),
            KeyKind::ReadWrite | KeyKind::ReadOnly | KeyKind::Metrics => None,
        };
        let lookup = lookup(text.reveal());
        let networks = (!key.networks.is_empty()).then(|| {
            let texts: Vec<String> = key.networks.iter().map(Cidr::to_string).collect();
            texts.join(" ")
        });
        let values = [
            id.into(),
            project.into(),
            kind.word().into(),
            key.name.into(),
            (&lookup).into(),
            hash.as_slice().into(),
            sealed.as_ref().into(),
            now.into(),
            key.expires_at.into(),
            networks.as_deref().into(),
        ];
        self.run(&INSERT, &values).await?;
        Ok((id, text))
    }

    /// Ends a key at once. `false` if the project has no such key, or it was revoked before.
    pub async fn key_revoke(&mut self, scope: ProjectScope, id: KeyId, now: Timestamp) -> Result<bool> {
        let values = [id.into(), scope.project().into(), now.into()];
        Ok(self.run(&REVOKE, &values).await? > 0)
    }

    /// Makes a key that takes another's place: of the same kind, name and networks. The old one stays good for
    /// `overlap`. `None` if the project has no such key, or it opens nothing any more.
    pub async fn key_regenerate(
        &mut self,
        scope: ProjectScope,
        id: KeyId,
        overlap: Span,
        dice: &mut Dice,
        now: Timestamp,
    ) -> Result<Option<(KeyId, Secret<String>)>> {
        let keys = self.keys(scope).await?;
        let Some(old) = keys.iter().find(|key| key.id == id && key.is_good(now)) else {
            return Ok(None);
        };
        let succession = succession(old.created_at, old.expires_at, overlap, now);
        let key = NewKey {
            kind: old.kind,
            name: &old.name,
            expires_at: succession.new_expires_at,
            networks: &old.networks,
        };
        let made = self.key_insert(scope, &key, dice, now).await?;
        let values = [
            id.into(),
            scope.project().into(),
            succession.old_ends_at.into(),
            made.0.into(),
        ];
        self.run(&SUCCEED, &values).await?;
        Ok(Some(made))
    }

    /// Notes that a key was used, and from which network.
    pub async fn key_note_use(
        &mut self,
        _: SystemScope,
        id: KeyId,
        now: Timestamp,
        from: Option<&str>,
    ) -> Result<()> {
        self.run(&NOTE_USE, &[id.into(), now.into(), from.into()])
            .await
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_second_migration_keeps_the_keys_of_the_first() {
        let conn = rusqlite::Connection::open_in_memory().expect("SQLite opens");
        conn.execute_batch("pragma foreign_keys = on").expect("a pragma");
        conn.execute_batch(include_str!("migrations/sqlite/0001_start.sql"))
            .expect("the first migration");
        conn.execute_batch(
            "insert into users values (x'01', 'a@example.org', 'a@example.org', 'x', 0, 5, 1, null);
             insert into projects values (x'02', x'01', 'Home', 2, null, null);
             insert into api_keys values (x'03', x'02', 'ping', 'p', 'hmac-sha256', 'abcdefgh', x'aa', x'bb', 3, 4, 5, 6, 'i'),
                                         (x'04', x'02', 'read-only', '', 'hmac-sha256', 'stuvwxyz', x'cc', null, 7, null, null, null, null)",
        )
        .expect("rows of the first schema");
        conn.execute_batch(include_str!("migrations/sqlite/0002_keys.sql"))
            .expect("the second migration");
        let kept: Vec<String> = conn
            .prepare(
                "select concat_ws('|', hex(id), hex(project_id), kind, name, lookup, hex(hash), hex(sealed), created_at,
                                  expires_at, last_used_at, revoked_at, import_id, networks)
                 from api_keys order by id",
            )
            .and_then(|mut all| all.query_map([], |row| row.get(0))?.collect())
            .expect("the keys");
        assert_eq!(
            kept,
            [
                "03|02|ping|p|abcdefgh|AA|BB|3|4|5|6|i",
                "04|02|read-only||stuvwxyz|CC||7"
            ]
        );
        let indexes: i64 = conn
            .query_row(
                "select count(*) from sqlite_schema where type = 'index' and tbl_name = 'api_keys' and sql is not null",
                [],
                |row| row.get(0),
            )
            .expect("the indexes");
        assert_eq!(indexes, 2);
    }
}
