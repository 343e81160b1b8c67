//! Answers that are given again: a POST that named an `Idempotency-Key` is carried out once, however often it comes.
//!
//! The row is written first in the transaction that carries the request out, so of two at once the second waits for the
//! first one's commit and then finds its answer; what fails leaves no row. Key and body are known by keyed hashes, and
//! the answer is sealed: it may hold a secret that is shown once.

use allswell_core::chance::Dice;
use allswell_core::key::Pepper;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::seal::Place;
use allswell_core::time::Timestamp;
use uuid::Uuid;

use crate::db::{Tx, statements};
use crate::{Error, Result};

statements! {
    BEGIN = "insert into idempotency (project_id, id, body_hash, status, created_at) values ($1, $2, $3, 0, $4)
             on conflict (id) do nothing";
    FIND = "select body_hash, status, sealed from idempotency where project_id = $1 and id = $2";
    FORGET = "delete from idempotency where project_id = $1 and id = $2 and created_at < $3";
    END = "update idempotency set status = $3, sealed = $4 where project_id = $1 and id = $2";
    OLD = "with old as materialized (select id from idempotency where created_at < $1 order by created_at limit $2",
           skipping locked, then ") delete from idempotency where id in (select id from old)";
}

/// What a request that may have come before is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    /// Made of a hash of its project, its key, its method and its path. It is kept as a keyed hash.
    pub id: Uuid,
    /// Of its body.
    pub body_hash: [u8; 32],
    /// Answers from before this instant count no more.
    pub since: Timestamp,
}

/// What is known of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Before {
    /// It is new, and is to be carried out.
    Never,
    /// It was answered with this status and this body.
    Answered(u16, Vec<u8>),
    /// Its key was used with another body.
    OtherBody,
}

impl Once {
    /// As what it is written down: who has a copy of the database alone cannot tell whether a guess at the key is right.
    fn written(&self, pepper: &Pepper) -> Uuid {
        let mut id = [0; 16];
        id.copy_from_slice(&pepper.mark_request(self.id.as_bytes())[..16]);
        Uuid::from_bytes(id)
    }
}

fn place(id: &Uuid, scope: ProjectScope) -> Place<'_> {
    Place {
        table: "idempotency",
        column: "sealed",
        row: id.as_bytes(),
        project: Some(scope.project()),
    }
}

impl Tx<'_> {
    /// Whether a request came before. If not, its place is taken until this transaction ends.
    ///
    /// What is written down of its body is keyed: a copy of the database alone tells nobody whether a guess at the body
    /// is right.
    pub async fn once_begin(&mut self, scope: ProjectScope, once: &Once, now: Timestamp) -> Result<Before> {
        let pepper = self.vault.pepper()?;
        let (body_hash, written) = (
            pepper.mark_body(once.id.as_bytes(), &once.body_hash),
            once.written(pepper),
        );
        let (project, id) = (scope.project().into(), written.into());
        self.run(&FORGET, &[project, id, once.since.into()]).await?;
        let values = [project, id, body_hash.as_slice().into(), now.into()];
        if self.run(&BEGIN, &values).await? > 0 {
            return Ok(Before::Never);
        }
        let row = self.first(&FIND, &[project, id]).await?;
        let row = row.ok_or_else(|| Error::Conflict("the same request is being carried out".to_owned()))?;
        if row.get::<Vec<u8>>("body_hash")? != body_hash {
            return Ok(Before::OtherBody);
        }
        let sealed: Option<Vec<u8>> = row.get("sealed")?;
        let sealed =
            sealed.ok_or_else(|| Error::Corrupt("an answer kept for repeats is empty".to_owned()))?;
        let body = self
            .open_sealed(place(&written, scope), &sealed, &"an answer kept for repeats")
            .await?;
        let status: i64 = row.get("status")?;
        Ok(Before::Answered(
            u16::try_from(status).unwrap_or(500),
            body.to_vec(),
        ))
    }

    /// Keeps the answer of a request whose place was taken.
    pub async fn once_end(
        &mut self,
        scope: ProjectScope,
        once: &Once,
        status: u16,
        body: &[u8],
        dice: &mut Dice,
    ) -> Result<()> {
        let id = once.written(self.vault.pepper()?);
        let key = self.data_key(scope.project()).await?;
        let sealed = key.seal(place(&id, scope), body, dice);
        let values = [
            scope.project().into(),
            id.into(),
            i64::from(status).into(),
            (&sealed).into(),
        ];
        self.run(&END, &values).await.map(drop)
    }

    /// Forgets up to `limit` answers from before `since`.
    pub async fn once_prune(&mut self, _: SystemScope, since: Timestamp, limit: i64) -> Result<u64> {
        self.run(&OLD, &[since.into(), limit.into()]).await
    }
}
