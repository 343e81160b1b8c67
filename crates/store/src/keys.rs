//! API keys and ping keys. Recognised by an HMAC; only ping keys are also kept sealed, since pages show them.

use allswell_core::chance::Dice;
use allswell_core::id::{KeyId, ProjectId};
use allswell_core::key::{self, KeyKind};
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::seal::Place;
use allswell_core::secret::Secret;
use allswell_core::time::Timestamp;

use crate::db::{Reader, Tx, statements};
use crate::{Error, Result};

statements! {
    INSERT = "insert into api_keys (id, project_id, kind, name, scheme, lookup, hash, sealed, created_at)
              values ($1, $2, $3, $4, 'hmac-sha256', $5, $6, $7, $8)";
    BY_LOOKUP = "select k.id as id, k.project_id as project_id, k.kind as kind, k.hash as hash,
                        k.expires_at as expires_at
                 from api_keys k join projects p on p.id = k.project_id
                 where k.lookup = $1 and k.revoked_at is null and p.deleted_at is null";
    PING_KEY_SEALED = "select id, sealed from api_keys
                       where project_id = $1 and kind = 'ping' and revoked_at is null and sealed is not null
                       order by created_at desc, id limit 1";
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

fn place(id: &KeyId, project: ProjectId) -> Place<'_> {
    Place {
        table: "api_keys",
        column: "sealed",
        row: id.as_uuid_bytes(),
        project: Some(project),
    }
}

impl Reader<'_> {
    /// Recognises a key, unless it was revoked or has expired.
    pub async fn key_recognise(&mut self, text: &str, now: Timestamp) -> Result<Option<Known>> {
        let rows = self.all(&BY_LOOKUP, &[key::lookup(text).as_str().into()]).await?;
        for row in rows {
            let hash: Vec<u8> = row.get("hash")?;
            let expires_at: Option<Timestamp> = row.get("expires_at")?;
            let kind: String = row.get("kind")?;
            let kind = KeyKind::from_word(&kind);
            let kind = kind.ok_or_else(|| Error::Corrupt("a key has an unknown kind".to_owned()))?;
            if self.vault.pepper()?.recognises(text, &hash) && expires_at.is_none_or(|at| now < at) {
                return Ok(Some(Known {
                    id: row.get("id")?,
                    project: row.get("project_id")?,
                    kind,
                }));
            }
        }
        Ok(None)
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
        let data_key = self.data_key(scope.project()).await?;
        let plain = data_key
            .open(place(&id, scope.project()), &sealed)
            .map_err(|error| Error::Corrupt(format!("ping key {id}: {error}")))?;
        let text = String::from_utf8(plain.to_vec())
            .map_err(|_| Error::Corrupt(format!("ping key {id} is not text")))?;
        Ok(Some(Secret::new(text)))
    }
}

impl Tx<'_> {
    /// Makes a key. What is returned is shown once; of an API key nothing but its hash is kept.
    pub async fn key_create(
        &mut self,
        scope: ProjectScope,
        kind: KeyKind,
        name: &str,
        dice: &mut Dice,
        now: Timestamp,
    ) -> Result<(KeyId, Secret<String>)> {
        let id: KeyId = dice.id();
        let text = key::new_key(kind, dice);
        let hash = self.vault.pepper()?.hash(text.reveal());
        let project = scope.project();
        let sealed = match kind {
            KeyKind::Ping => Some(self.data_key(project).await?.seal(
                place(&id, project),
                text.reveal().as_bytes(),
                dice,
            )),
            KeyKind::ReadWrite | KeyKind::ReadOnly => None,
        };
        let lookup = key::lookup(text.reveal());
        let values = [
            id.into(),
            project.into(),
            kind.word().into(),
            name.into(),
            (&lookup).into(),
            hash.as_slice().into(),
            sealed.as_ref().into(),
            now.into(),
        ];
        self.run(&INSERT, &values).await?;
        Ok((id, text))
    }
}
