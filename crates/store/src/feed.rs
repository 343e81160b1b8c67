//! The feed: what changed in a project since a number of its change sequence. Live pages and listeners read it.

use allswell_core::check::Check;
use allswell_core::scope::ProjectScope;

use crate::Result;
use crate::checks::{columns, from_row};
use crate::db::{Reader, Tx, statements};
use crate::pages::{ProjectFlip, project_flip};

/// What other nodes hear when something changed in a project.
pub const NUDGE: &str = "changed";

statements! {
    NEWEST = "select seq from project_changes where project_id = $1";
    FLIPS = "select f.check_id as check_id, f.change_seq as change_seq, f.seq as seq, f.at as at,
            f.from_status as from_status, f.to_status as to_status, f.expected_at as expected_at,
            f.reason_code as reason_code, f.reason_data as reason_data,
            (select c.name from checks c where c.id = f.check_id) as name,
            (select c.slug from checks c where c.id = f.check_id) as slug
        from flips f where f.project_id = $1 and f.change_seq > $2 and f.change_seq <= $3
        order by f.change_seq limit $4";
    // Deleted ones too: that they are gone is a change.
    CHECKS = concat!("select ", columns!(), ", change_seq, deleted_at from checks
        where project_id = $1 and change_seq > $2 and change_seq <= $3 order by change_seq limit $4");
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A check changed its status.
    Flip(ToldFlip),
    /// A check was made or edited; this is how it is now.
    Check(Box<Check>),
    /// A check was deleted.
    Gone(Box<Check>),
}

/// A flip, and what its check is called now.
#[derive(Clone, Debug, PartialEq)]
pub struct ToldFlip {
    /// The flip.
    pub flip: ProjectFlip,
    /// The name of the check.
    pub name: String,
    /// Its name in addresses; empty if it has none.
    pub slug: String,
}

/// A change and its place in the project's sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Its number; later changes have higher ones. Numbers may be missing: a check that was edited again is told of once,
    /// at its last edit. Each flip is told.
    pub seq: i64,
    /// What changed.
    pub what: What,
}

impl Reader<'_> {
    /// The number of the project's last change; 0 if nothing has changed yet.
    pub async fn change_newest(&mut self, scope: ProjectScope) -> Result<i64> {
        let row = self.first(&NEWEST, &[scope.project().into()]).await?;
        row.map_or(Ok(0), |row| row.get("seq"))
    }

    /// Up to `limit` changes behind the number `seen`, in their order, and the number up to which they are complete.
    pub async fn changes(
        &mut self,
        scope: ProjectScope,
        seen: i64,
        limit: i64,
    ) -> Result<(Vec<Change>, i64)> {
        let newest = self.change_newest(scope).await?;
        if newest <= seen {
            return Ok((Vec::new(), seen));
        }
        let values = [scope.project().into(), seen.into(), newest.into(), limit.into()];
        let flips = self.all(&FLIPS, &values).await?;
        let checks = self.all(&CHECKS, &values).await?;
        // Where one of the two lists was cut, what lies behind its end may be missing from it.
        let cut = |rows: &[crate::db::Row]| -> Result<i64> {
            match rows.last().filter(|_| rows.len() as i64 == limit) {
                Some(row) => row.get("change_seq"),
                None => Ok(newest),
            }
        };
        let complete = cut(&flips)?.min(cut(&checks)?);
        let mut changes = Vec::with_capacity(flips.len() + checks.len());
        for row in &flips {
            let flip = project_flip(row)?;
            changes.push(Change {
                seq: flip.change,
                what: What::Flip(ToldFlip {
                    flip,
                    name: row.get::<Option<String>>("name")?.unwrap_or_default(),
                    slug: row.get::<Option<String>>("slug")?.unwrap_or_default(),
                }),
            });
        }
        for row in &checks {
            let seq = row.get("change_seq")?;
            let check = Box::new(from_row(row)?);
            let gone = row.get::<Option<i64>>("deleted_at")?.is_some();
            changes.push(Change {
                seq,
                what: if gone {
                    What::Gone(check)
                } else {
                    What::Check(check)
                },
            });
        }
        changes.retain(|change| change.seq <= complete);
        changes.sort_by_key(|change| change.seq);
        Ok((changes, complete))
    }
}

impl Tx<'_> {
    /// Has listeners told, on every node, once this transaction has committed.
    pub(crate) fn mark_changed(&mut self) {
        self.changed = true;
        self.nudge(NUDGE);
    }
}
