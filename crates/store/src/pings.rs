//! Pings and their bodies. Appended in the transaction that moves their check; bodies are sealed and kept apart, so
//! that a page of the log does not read them.

use std::sync::Arc;

use allswell_core::chance::Dice;
use allswell_core::id::{CheckId, ProjectId};
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::seal::{DataKey, Place, sealed_bytes};
use allswell_core::signal::Kind;
use allswell_core::time::Timestamp;
use uuid::Uuid;

use crate::batch::Logged;
use crate::db::{Param, Reader, Row, Tx, in_scope, statements};
use crate::packed::{Packer, packed_bytes, unpack};
use crate::{Error, Result};

statements! {
    INSERT = "insert into pings (check_id, n, at, kind, source, exit_status, rid, scheme, method, remote_addr,
                                 user_agent, body_bytes, body_id)
              values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    // With its number taken beforehand: SQLite makes a table of its own for each answer of `returning`.
    BODY_INSERT = "insert into ping_bodies (id, check_id, n, sealed) values ($1, $2, $3, $4)";
    LAST_BODY = "select max(id) as last from ping_bodies";
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
    pub(crate) fn values(&self, check: CheckId, body: Option<i64>) -> [Param<'_>; 13] {
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
            body.into(),
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

/// Sealed bodies of a batch, one behind the other: memory for each of them alone is what allocators are slow at, when what
/// is taken is more than a kilobyte.
#[derive(Default)]
pub(crate) struct SealedBodies {
    packer: Packer,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    expected: usize,
}

impl SealedBodies {
    /// With room for the bodies of these pings.
    pub(crate) fn with_room<'l>(pings: impl Iterator<Item = &'l Logged<'l>>) -> Self {
        let mut bodies = 0;
        let bytes = pings.filter(|logged| !logged.body.is_empty()).map(|logged| {
            bodies += 1;
            sealed_bytes(packed_bytes(logged.body.len()))
        });
        SealedBodies {
            packer: Packer::default(),
            bytes: Vec::with_capacity(bytes.sum()),
            ends: Vec::with_capacity(bodies),
            expected: bodies,
        }
    }

    pub(crate) fn seal(
        &mut self,
        key: &DataKey,
        project: ProjectId,
        check: CheckId,
        logged: &Logged<'_>,
        dice: &mut Dice,
    ) {
        let row = body_row(check, logged.ping.n);
        let packed = self.packer.pack(logged.body);
        key.seal_onto(&mut self.bytes, body_place(&row, project), packed, dice);
        self.ends.push(self.bytes.len());
    }

    /// For how many there is room.
    pub(crate) fn expected(&self) -> usize {
        self.expected
    }

    /// Each of them, in the order in which they were sealed.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut begin = 0;
        self.ends.iter().map(move |end| {
            let sealed = &self.bytes[begin..*end];
            begin = *end;
            sealed
        })
    }
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
        let body = unpack(&plain).ok_or_else(|| Error::Corrupt(format!("{what} cannot be unpacked")))?;
        Ok(Some(body))
    }
}

impl Tx<'_> {
    /// So many numbers for bodies, in their order. On SQLite nobody else can take them until this transaction ends.
    pub(crate) async fn body_ids(&mut self, wanted: usize) -> Result<Vec<i64>> {
        if wanted == 0 || self.is_postgres() {
            return self.body_ids_taken(wanted).await;
        }
        let last: Option<i64> = match self.first(&LAST_BODY, &[]).await? {
            Some(row) => row.get("last")?,
            None => None,
        };
        Ok((last.unwrap_or(0) + 1..).take(wanted).collect())
    }

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
            let row = body_row(check, ping.n);
            let sealed = key.seal(body_place(&row, project), Packer::default().pack(body), dice);
            stored = self.body_ids(1).await?.pop();
            let row = [stored.into(), check.into(), ping.n.into(), (&sealed).into()];
            let written = self.run(&BODY_INSERT, &row).await;
            self.body_ids_used(written)?;
        }
        self.run(&INSERT, &ping.values(check, stored)).await.map(drop)
    }

    /// Appends pings whose check and project are given with each, and those bodies that are not empty.
    pub(crate) async fn pings_insert(
        &mut self,
        logged: &[(ProjectId, CheckId, &Logged<'_>)],
        dice: &mut Dice,
    ) -> Result<()> {
        let with_body = || logged.iter().filter(|(_, _, logged)| !logged.body.is_empty());
        let mut sealed = SealedBodies::with_room(logged.iter().map(|(_, _, logged)| *logged));
        for (project, check, logged) in with_body() {
            let key = self.data_key(*project).await?;
            sealed.seal(&key, *project, *check, logged, dice);
        }
        let ids = self.body_ids(sealed.expected()).await?;
        let rows: Vec<[Param<'_>; 4]> = with_body()
            .zip(sealed.iter())
            .zip(&ids)
            .map(|(((_, check, logged), sealed), id)| {
                [(*id).into(), (*check).into(), logged.ping.n.into(), sealed.into()]
            })
            .collect();
        self.run_each(&BODY_INSERT, &rows).await?;
        let mut stored = ids.into_iter();
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
