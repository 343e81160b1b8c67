//! Pings and their bodies. Appended in the transaction that moves their check; bodies are sealed and kept apart, so
//! that a page of the log does not read them.

use std::sync::Arc;

use allswell_core::chance::Dice;
use allswell_core::id::{CheckId, ProjectId};
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::seal::{DataKey, Place};
use allswell_core::signal::Kind;
use allswell_core::time::Timestamp;
use uuid::Uuid;

use crate::batch::Logged;
use crate::db::{Columns, FromColumns, Param, Reader, Row, Tx, in_scope, statements};
use crate::{Error, Result};

statements! {
    INSERT = "insert into pings (check_id, n, at, kind, source, exit_status, rid, scheme, method, remote_addr,
                                 user_agent, body_bytes, body_id)
              values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    BODY_INSERT = "insert into ping_bodies (check_id, n, sealed) values ($1, $2, $3) returning id";
    BODY = concat!("select b.sealed as sealed
              from pings p join ping_bodies b on b.id = p.body_id and b.check_id = p.check_id and b.n = p.n
              where p.check_id = $1 and p.n = $3 and ", in_scope!());
    NEWEST = concat!("select n, at, kind, source, exit_status, rid, scheme, method, remote_addr, user_agent, body_bytes
              from pings where check_id = $1 and ", in_scope!(), " order by n desc limit $3");
    RUN_EVENT_BEFORE = concat!("select at, kind from pings
              where check_id = $1 and ", in_scope!(), " and n < $3 and kind in (0, 1, 2)
                and rid is not distinct from $4
              order by n desc limit 1");
    MARK_FOR_PRUNING = "insert into prune_due (check_id) values ($1) on conflict (check_id) do nothing";
}

/// How a ping came in.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Over HTTP.
    Http,
}

impl Source {
    pub(crate) const fn number(self) -> i64 {
        match self {
            Source::Http => 0,
        }
    }

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Source::Http => "http",
        }
    }

    const fn from_number(number: i64) -> Option<Self> {
        match number {
            0 => Some(Source::Http),
            _ => None,
        }
    }
}

/// One message that arrived; its texts are its own, or borrowed from where it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping<T = String> {
    /// Number within the check, from 1, never reused.
    pub n: u64,
    /// When it arrived.
    pub at: Timestamp,
    /// What it said.
    pub kind: Kind,
    /// How it came.
    pub source: Source,
    /// The exit status in its address.
    pub exit_status: Option<u8>,
    /// Its run id.
    pub rid: Option<Uuid>,
    /// `http` or `https`, as the client saw it.
    pub scheme: T,
    /// The request method.
    pub method: T,
    /// Where it came from.
    pub remote_addr: Option<T>,
    /// The client's name for itself.
    pub user_agent: T,
    /// Bytes of its body that are kept.
    pub body_bytes: u64,
}

impl<T: AsRef<str>> Ping<T> {
    /// The values of its row; `body` is that of its body.
    pub(crate) fn values(&self, check: CheckId, body: Option<BodyId>) -> [Param<'_>; 13] {
        [
            check.into(),
            self.n.into(),
            self.at.into(),
            self.kind.number().into(),
            self.source.number().into(),
            self.exit_status.map(i64::from).into(),
            self.rid.into(),
            self.scheme.as_ref().into(),
            self.method.as_ref().into(),
            self.remote_addr.as_ref().map(AsRef::as_ref).into(),
            self.user_agent.as_ref().into(),
            self.body_bytes.into(),
            body.map(|BodyId(id)| id).into(),
        ]
    }
}

pub(crate) fn from_row(row: &Row) -> Result<Ping> {
    let n = row.get("n")?;
    let at = row.get("at")?;
    let kind = Kind::from_number(row.get("kind")?);
    let source = Source::from_number(row.get("source")?);
    Ok(Ping {
        n,
        at,
        kind: kind.ok_or_else(|| Error::Corrupt(format!("ping {n} has an unknown kind")))?,
        source: source.ok_or_else(|| Error::Corrupt(format!("ping {n} has an unknown source")))?,
        exit_status: row.get("exit_status")?,
        rid: row.get("rid")?,
        scheme: row.get("scheme")?,
        method: row.get("method")?,
        remote_addr: row.get("remote_addr")?,
        user_agent: row.get("user_agent")?,
        body_bytes: row.get("body_bytes")?,
    })
}

/// Where a body is stored.
#[derive(Copy, Clone)]
pub(crate) struct BodyId(i64);

impl FromColumns for BodyId {
    fn from_columns(row: &impl Columns) -> Result<Self> {
        row.get("id").map(BodyId)
    }
}

/// The row of a body, as associated data: check and number.
fn body_row(check: CheckId, n: u64) -> [u8; 24] {
    let mut row = [0; 24];
    row[..16].copy_from_slice(check.as_uuid_bytes());
    row[16..].copy_from_slice(&n.to_be_bytes());
    row
}

fn body_place(row: &[u8; 24], project: ProjectId) -> Place<'_> {
    Place {
        table: "ping_bodies",
        column: "sealed",
        row,
        project: Some(project),
    }
}

pub(crate) fn seal_body(
    key: &DataKey,
    project: ProjectId,
    check: CheckId,
    n: u64,
    body: &[u8],
    dice: &mut Dice,
) -> Vec<u8> {
    key.seal(body_place(&body_row(check, n), project), body, dice)
}

impl Reader<'_> {
    /// The newest pings of a check, newest first.
    pub async fn pings(&mut self, scope: ProjectScope, check: CheckId, limit: i64) -> Result<Vec<Ping>> {
        let values = [check.into(), scope.project().into(), limit.into()];
        self.all(&NEWEST, &values).await?.iter().map(from_row).collect()
    }

    /// When the run of this id started that was open before ping `n`; `None` if it had ended, or is not in the log.
    pub async fn run_start_before(
        &mut self,
        scope: ProjectScope,
        check: CheckId,
        n: u64,
        rid: Option<Uuid>,
    ) -> Result<Option<Timestamp>> {
        let values = [check.into(), scope.project().into(), n.into(), rid.into()];
        let Some(row) = self.first(&RUN_EVENT_BEFORE, &values).await? else {
            return Ok(None);
        };
        let at = row.get("at")?;
        Ok(Some(at).filter(|_| {
            row.get("kind")
                .is_ok_and(|kind: i64| kind == Kind::Start.number())
        }))
    }

    /// The body of a ping, if it had one and it is still kept.
    pub async fn ping_body(
        &mut self,
        scope: ProjectScope,
        check: CheckId,
        n: u64,
    ) -> Result<Option<Vec<u8>>> {
        let values = [check.into(), scope.project().into(), n.into()];
        let Some(row) = self.first(&BODY, &values).await? else {
            return Ok(None);
        };
        let sealed: Vec<u8> = row.get("sealed")?;
        let (row, what) = (body_row(check, n), format!("body of ping {n} of check {check}"));
        let plain = self
            .open_sealed(body_place(&row, scope.project()), &sealed, &what)
            .await?;
        Ok(Some(plain.to_vec()))
    }
}

impl Tx<'_> {
    /// Appends a ping and its body, if it has one.
    pub async fn ping_insert(
        &mut self,
        _: SystemScope,
        project: ProjectId,
        check: CheckId,
        ping: &Ping,
        body: &[u8],
        dice: &mut Dice,
    ) -> Result<()> {
        let mut stored = None;
        if !body.is_empty() {
            let key: Arc<_> = self.data_key(project).await?;
            let sealed = seal_body(&key, project, check, ping.n, body, dice);
            let row = [check.into(), ping.n.into(), (&sealed).into()];
            stored = self.decoded(&BODY_INSERT, &[row]).await?.pop();
        }
        self.run(&INSERT, &ping.values(check, stored)).await.map(drop)
    }

    /// Appends pings whose check and project are given with each, and those bodies that are not empty.
    pub(crate) async fn pings_insert(
        &mut self,
        logged: &[(ProjectId, CheckId, &Logged<'_>)],
        dice: &mut Dice,
    ) -> Result<()> {
        let mut bodies = Vec::new();
        for (project, check, Logged { ping, body }) in logged {
            if !body.is_empty() {
                let key = self.data_key(*project).await?;
                let sealed = seal_body(&key, *project, *check, ping.n, body, dice);
                bodies.push((check, ping.n, sealed));
            }
        }
        let rows: Vec<[Param<'_>; 3]> = bodies
            .iter()
            .map(|(check, n, sealed)| [(**check).into(), (*n).into(), sealed.into()])
            .collect();
        let mut stored = self.decoded::<BodyId, 3>(&BODY_INSERT, &rows).await?.into_iter();
        let rows: Vec<_> = logged
            .iter()
            .map(|(_, check, Logged { ping, body })| {
                let body = if body.is_empty() { None } else { stored.next() };
                ping.values(*check, body)
            })
            .collect();
        self.run_each(&INSERT, &rows).await.map(drop)
    }

    /// Leaves word that retention should look at a check's log: it has grown by a page, or the check has flipped.
    pub async fn ping_log_mark(&mut self, _: SystemScope, check: CheckId) -> Result<()> {
        self.run(&MARK_FOR_PRUNING, &[check.into()]).await.map(drop)
    }
}
