//! Keys with which callers sign their requests, and the nonces they have used (`auth.md`, "HMAC-authenticated calls").
//!
//! To make the same signature we need the key itself, so it is sealed and not hashed, and it is another key than the one
//! that is sent as it is.

use allswell_core::chance::Dice;
use allswell_core::id::{KeyId, ProjectId};
use allswell_core::key::KeyKind;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::seal::Place;
use allswell_core::secret::Secret;
use allswell_core::time::Timestamp;

use crate::db::{Reader, Row, Tx, statements};
use crate::{Error, Result};

statements! {
    INSERT = "insert into signing_keys (id, project_id, kind, name, sealed, created_at, expires_at)
              values ($1, $2, $3, $4, $5, $6, $7)";
    OF_PROJECT = "select id, kind, name, created_at, expires_at, last_used_at, revoked_at from signing_keys
                  where project_id = $1 order by created_at, id";
    BY_ID = "select k.id as id, k.project_id as project_id, k.kind as kind, k.sealed as sealed
             from signing_keys k join projects p on p.id = k.project_id
             where k.id = $1 and k.revoked_at is null and (k.expires_at is null or k.expires_at > $2)
               and p.deleted_at is null";
    REVOKE = "update signing_keys set revoked_at = $3 where id = $1 and project_id = $2 and revoked_at is null";
    NONCE = "insert into nonces (key_id, nonce, at) values ($1, $2, $3) on conflict (key_id, nonce) do nothing";
    NONCES = "select count(*) as nonces from (select 1 from nonces where key_id = $1 limit $2) as seen";
    USED = "update signing_keys set last_used_at = $2 where id = $1 and (last_used_at is null or last_used_at < $3)";
    OLD = "with old as materialized (select key_id, nonce from nonces where at < $1 order by at limit $2",
           skipping locked, then ") delete from nonces where (key_id, nonce) in (select key_id, nonce from old)";
    REQUIRE = "update projects set require_hmac = $2 where id = $1 and deleted_at is null";
    REQUIRED = "select require_hmac from projects where id = $1";
}

/// A signing key without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    /// What the caller names it by.
    pub id: KeyId,
    /// What it allows.
    pub kind: KeyKind,
    /// What it is for.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// From then on it opens nothing.
    pub expires_at: Option<Timestamp>,
    /// Its use was last noted then.
    pub last_used_at: Option<Timestamp>,
    /// It was revoked then.
    pub revoked_at: Option<Timestamp>,
}

impl SigningKey {
    /// Whether it still opens something.
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|at| now < at)
    }

    /// Whether it still signs changes.
    pub fn may_write(&self, now: Timestamp) -> bool {
        self.kind == KeyKind::ReadWrite && self.is_good(now)
    }
}

/// A signing key to be made.
#[derive(Clone, Debug)]
pub struct NewSigningKey<'a> {
    /// What it allows.
    pub kind: KeyKind,
    /// What it is for.
    pub name: &'a str,
    /// What it signs with.
    pub secret: &'a [u8],
    /// From then on it opens nothing; `None`: it does not expire.
    pub expires_at: Option<Timestamp>,
}

/// A signing key that a caller named, with its secret.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its id.
    pub id: KeyId,
    /// The project it opens.
    pub project: ProjectId,
    /// What it allows.
    pub kind: KeyKind,
    /// What it signs with.
    pub secret: Secret<Vec<u8>>,
}

fn kind_of(row: &Row) -> Result<KeyKind> {
    let word: String = row.get("kind")?;
    KeyKind::from_word(&word).ok_or_else(|| Error::Corrupt("a signing key has an unknown kind".to_owned()))
}

fn place(id: &KeyId, project: ProjectId) -> Place<'_> {
    Place {
        table: "signing_keys",
        column: "sealed",
        row: id.as_uuid_bytes(),
        project: Some(project),
    }
}

impl Reader<'_> {
    /// The signing keys of a project in the order of their making, those that open nothing any more included.
    pub async fn signing_keys(&mut self, scope: ProjectScope) -> Result<Vec<SigningKey>> {
        let rows = self.all(&OF_PROJECT, &[scope.project().into()]).await?;
        let key = |row: &Row| {
            Ok(SigningKey {
                id: row.get("id")?,
                kind: kind_of(row)?,
                name: row.get("name")?,
                created_at: row.get("created_at")?,
                expires_at: row.get("expires_at")?,
                last_used_at: row.get("last_used_at")?,
                revoked_at: row.get("revoked_at")?,
            })
        };
        rows.iter().map(key).collect()
    }

    /// The signing key with this id, if it is still good. The caller has proved nothing yet.
    pub async fn signing_key(&mut self, _: SystemScope, id: KeyId, now: Timestamp) -> Result<Option<Named>> {
        let Some(row) = self.first(&BY_ID, &[id.into(), now.into()]).await? else {
            return Ok(None);
        };
        let project: ProjectId = row.get("project_id")?;
        let sealed: Vec<u8> = row.get("sealed")?;
        let what = format!("signing key {id}");
        let secret = self.open_sealed(place(&id, project), &sealed, &what).await?;
        Ok(Some(Named {
            id,
            project,
            kind: kind_of(&row)?,
            secret: Secret::new(secret.to_vec()),
        }))
    }

    /// How many nonces of a key are remembered, counted up to `limit`.
    pub async fn nonce_count(&mut self, _: SystemScope, key: KeyId, limit: i64) -> Result<i64> {
        let row = self.first(&NONCES, &[key.into(), limit.into()]).await?;
        row.map_or(Ok(0), |row| row.get("nonces"))
    }

    /// Whether the project takes only requests that are signed.
    pub async fn requires_hmac(&mut self, scope: ProjectScope) -> Result<bool> {
        let row = self.first(&REQUIRED, &[scope.project().into()]).await?;
        row.map_or(Ok(false), |row| row.get("require_hmac"))
    }
}

impl Tx<'_> {
    /// Writes a new signing key; gives its id.
    pub async fn signing_key_insert(
        &mut self,
        scope: ProjectScope,
        key: &NewSigningKey<'_>,
        dice: &mut Dice,
        now: Timestamp,
    ) -> Result<KeyId> {
        let id: KeyId = dice.id();
        let project = scope.project();
        let sealed = self
            .data_key(project)
            .await?
            .seal(place(&id, project), key.secret, dice);
        let values = [
            id.into(),
            project.into(),
            key.kind.word().into(),
            key.name.into(),
            (&sealed).into(),
            now.into(),
            key.expires_at.into(),
        ];
        self.run(&INSERT, &values).await?;
        Ok(id)
    }

    /// Ends a signing key at once. `false` if the project has no such key, or it was revoked before.
    pub async fn signing_key_revoke(
        &mut self,
        scope: ProjectScope,
        id: KeyId,
        now: Timestamp,
    ) -> Result<bool> {
        let values = [id.into(), scope.project().into(), now.into()];
        Ok(self.run(&REVOKE, &values).await? > 0)
    }

    /// Takes a nonce of a key. `false`: it was taken before.
    pub async fn nonce_take(
        &mut self,
        _: SystemScope,
        key: KeyId,
        nonce: &str,
        now: Timestamp,
    ) -> Result<bool> {
        let fresh = self.run(&NONCE, &[key.into(), nonce.into(), now.into()]).await? > 0;
        if fresh {
            let noted = now - allswell_core::time::Span::from_secs(allswell_core::limits::KEY_USE_NOTED_SECS);
            self.run(&USED, &[key.into(), now.into(), noted.into()]).await?;
        }
        Ok(fresh)
    }

    /// Forgets up to `limit` nonces from before `since`.
    pub async fn nonces_prune(&mut self, _: SystemScope, since: Timestamp, limit: i64) -> Result<u64> {
        self.run(&OLD, &[since.into(), limit.into()]).await
    }

    /// Says whether the project takes only signed requests from now on.
    pub async fn project_require_hmac(&mut self, scope: ProjectScope, required: bool) -> Result<()> {
        self.run(&REQUIRE, &[scope.project().into(), required.into()])
            .await
            .map(drop)
    }
}
