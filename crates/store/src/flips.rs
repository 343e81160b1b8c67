//! Flips and the incidents they open and close.

use allswell_core::check::{Check, Status};
use allswell_core::flip::{Flip, Reason};
use allswell_core::id::CheckId;
use allswell_core::incident::{self, Effect};
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_core::time::Timestamp;

use crate::db::{Reader, Row, Tx, in_scope, statements};
use crate::{Error, Result};

statements! {
    INSERT = "insert into flips (check_id, seq, project_id, change_seq, at, noticed_at, from_status, to_status,
                                 expected_at, reason_code, reason_data)
              values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    NEWEST = concat!("select seq, at, from_status, to_status, expected_at, reason_code, reason_data from flips
              where check_id = $1 and ", in_scope!(), " order by seq desc limit $3");
    WINDOW = concat!("select seq, at, from_status, to_status, expected_at, reason_code, reason_data from flips
              where check_id = $1 and at >= $3 and at < $4 and ", in_scope!(), " order by seq desc");
    INCIDENT_OPEN = "insert into incidents (check_id, opened_seq, project_id, opened_at) values ($1, $2, $3, $4)";
    INCIDENT_CLOSE = "update incidents set closed_seq = $2, closed_at = $3
                      where check_id = $1 and closed_seq is null";
    INCIDENTS = concat!("select opened_seq, opened_at, closed_seq, closed_at from incidents
                 where check_id = $1 and ", in_scope!(), " order by opened_seq desc limit $3");
}

/// The time a check was down.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// The flip that began it.
    pub opened_seq: u64,
    /// When it began.
    pub opened_at: Timestamp,
    /// The flip that ended it; `None` while it lasts.
    pub closed_seq: Option<u64>,
    /// When it ended.
    pub closed_at: Option<Timestamp>,
}

pub(crate) fn from_row(row: &Row) -> Result<Flip> {
    let seq = row.get("seq")?;
    let unknown = |what: &str| Error::Corrupt(format!("flip {seq} has an unknown {what}"));
    let at = row.get("at")?;
    let from = Status::from_number(row.get("from_status")?).ok_or_else(|| unknown("status"))?;
    let to = Status::from_number(row.get("to_status")?).ok_or_else(|| unknown("status"))?;
    let expected_at = row.get("expected_at")?;
    let (code, data): (String, String) = (row.get("reason_code")?, row.get("reason_data")?);
    let reason = Reason::from_parts(&code, &data).ok_or_else(|| unknown("reason"))?;
    Ok(Flip {
        seq,
        from,
        to,
        at,
        expected_at,
        reason,
    })
}

impl Reader<'_> {
    /// The newest flips of a check, newest first.
    pub async fn flips(&mut self, scope: ProjectScope, check: CheckId, limit: i64) -> Result<Vec<Flip>> {
        let values = [check.into(), scope.project().into(), limit.into()];
        self.all(&NEWEST, &values).await?.iter().map(from_row).collect()
    }

    /// The flips of a check with `start <= at < end`, newest first.
    pub async fn flips_between(
        &mut self,
        scope: ProjectScope,
        check: CheckId,
        start: Timestamp,
        end: Timestamp,
    ) -> Result<Vec<Flip>> {
        let values = [check.into(), scope.project().into(), start.into(), end.into()];
        self.all(&WINDOW, &values).await?.iter().map(from_row).collect()
    }

    /// The newest incidents of a check, newest first.
    pub async fn incidents(
        &mut self,
        scope: ProjectScope,
        check: CheckId,
        limit: i64,
    ) -> Result<Vec<Incident>> {
        let values = [check.into(), scope.project().into(), limit.into()];
        let rows = self.all(&INCIDENTS, &values).await?;
        let incident = |row: &Row| {
            Ok(Incident {
                opened_seq: row.get("opened_seq")?,
                opened_at: row.get("opened_at")?,
                closed_seq: row.get("closed_seq")?,
                closed_at: row.get("closed_at")?,
            })
        };
        rows.iter().map(incident).collect()
    }
}

impl Tx<'_> {
    /// Writes a flip of a check, opens or closes its incident, and notes the change for live pages.
    pub async fn flip_insert(
        &mut self,
        system: SystemScope,
        check: &Check,
        flip: &Flip,
        noticed_at: Timestamp,
    ) -> Result<()> {
        self.ping_log_mark(system, check.id).await?;
        match incident::effect(flip) {
            Some(Effect::Opens) => {
                let values = [
                    check.id.into(),
                    flip.seq.into(),
                    check.project.into(),
                    flip.at.into(),
                ];
                self.run(&INCIDENT_OPEN, &values).await?;
            }
            Some(Effect::Closes) => {
                let values = [check.id.into(), flip.seq.into(), flip.at.into()];
                self.run(&INCIDENT_CLOSE, &values).await?;
            }
            None => {}
        }
        // Last, as for many at once: whoever has it keeps all others of the project waiting, and must not wait for a mark
        // whose holder waits for them.
        let change = self.change_next(ProjectScope::granted(check.project)).await?;
        let (code, data) = flip.reason.to_parts();
        let values = [
            check.id.into(),
            flip.seq.into(),
            check.project.into(),
            change.into(),
            flip.at.into(),
            noticed_at.into(),
            flip.from.number().into(),
            flip.to.number().into(),
            flip.expected_at.into(),
            (&code).into(),
            (&data).into(),
        ];
        self.run(&INSERT, &values).await.map(drop)
    }
}
