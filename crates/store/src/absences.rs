//! Signs of life of the nodes, and the times without any.

use allswell_core::absence::{Absence, CLOCKS_DIFFER};
use allswell_core::id::NodeId;
use allswell_core::scope::SystemScope;
use allswell_core::time::{Span, Timestamp};

use crate::Result;
use crate::db::{Reader, Row, Tx, statements};

statements! {
    // Marks further ahead than clocks differ are of a clock that was wrong, and may be of a node that has ended.
    LAST_SEEN = "select seen_at from awake where seen_at <= $1 order by seen_at desc limit 1";
    OTHER = "select seen_at from awake where node_id <> $1 and seen_at > $2 and not ended limit 1";
    SEEN = "insert into awake (node_id, seen_at, ended) values ($1, $2, false)
            on conflict (node_id) do update set seen_at = excluded.seen_at, ended = false";
    ENDED = "update awake set ended = true where node_id = $1";
    FORGET = "delete from awake where seen_at < $1 and node_id <> $2";
    INSERT = "insert into absences (from_at, to_at) values ($1, $2) on conflict (from_at) do nothing";
    TAKE_BACK = "delete from absences where to_at > $1";
    // Not deleted: the node may be awake, and others wait for all that are (rotation.rs).
    SEEN_AHEAD = "update awake set seen_at = $2 where seen_at > $1";
    SINCE = "select from_at, to_at from absences where to_at >= $1 order by from_at";
    NEWEST = "select from_at, to_at from absences order by from_at desc limit $1";
}

/// Nodes that were not seen for so long are ended ones.
const NODE_FORGOTTEN: Span = Span::from_days(1);

/// What a sign of life found out.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Marked {
    /// The time before it in which no node was awake, if it was long enough to count.
    pub absence: Option<Absence>,
    /// Something was noted for time to come: the clock was set back since, here or at another node.
    pub was_set_back: bool,
}

fn from_row(row: &Row) -> Result<Absence> {
    Ok(Absence {
        from: row.get("from_at")?,
        to: row.get("to_at")?,
    })
}

impl Reader<'_> {
    /// The absences that ended at `since` or later, oldest first.
    pub async fn absences_since(&mut self, _: SystemScope, since: Timestamp) -> Result<Vec<Absence>> {
        self.all(&SINCE, &[since.into()])
            .await?
            .iter()
            .map(from_row)
            .collect()
    }

    /// The absences that ended at `since` or later, oldest first, and the one from which we return just now, if nobody has
    /// noted it yet.
    pub async fn away_since(
        &mut self,
        system: SystemScope,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<Absence>> {
        let mut absences = self.absences_since(system, since).await?;
        let last = self.last_seen(system, now).await?;
        absences.extend(last.and_then(|last| Absence::between(last, now)));
        Ok(absences)
    }

    /// The newest sign of life of any node until now; `None` before the first.
    pub async fn last_seen(&mut self, _: SystemScope, now: Timestamp) -> Result<Option<Timestamp>> {
        self.first(&LAST_SEEN, &[(now + CLOCKS_DIFFER).into()])
            .await?
            .map(|row| row.get("seen_at"))
            .transpose()
    }

    /// Whether another node than this one said after `since` that it is awake, and took no leave since.
    pub async fn others_awake(&mut self, _: SystemScope, node: NodeId, since: Timestamp) -> Result<bool> {
        Ok(self.first(&OTHER, &[node.into(), since.into()]).await?.is_some())
    }

    /// The newest absences, newest first.
    pub async fn absences(&mut self, _: SystemScope, limit: i64) -> Result<Vec<Absence>> {
        self.all(&NEWEST, &[limit.into()])
            .await?
            .iter()
            .map(from_row)
            .collect()
    }
}

impl Tx<'_> {
    /// Notes that this node is awake. If no node was for longer than counts for nothing, that time is written down as
    /// an absence and returned.
    ///
    /// An absence that ends in time to come was made by a clock that has been set back since. It is taken back, or it
    /// would excuse everybody whose deadline falls into it. Signs of life from then are of now.
    pub async fn awake_mark(&mut self, system: SystemScope, node: NodeId, now: Timestamp) -> Result<Marked> {
        let ahead = (now + CLOCKS_DIFFER).into();
        let last = self.last_seen(system, now).await?;
        let mut wrong = self.run(&TAKE_BACK, &[ahead]).await?;
        wrong += self.run(&SEEN_AHEAD, &[ahead, now.into()]).await?;
        let absence = last.and_then(|last| Absence::between(last, now));
        if let Some(absence) = absence {
            self.run(&INSERT, &[absence.from.into(), absence.to.into()])
                .await?;
        }
        self.run(&SEEN, &[node.into(), now.into()]).await?;
        self.run(&FORGET, &[(now - NODE_FORGOTTEN).into(), node.into()])
            .await?;
        Ok(Marked {
            absence,
            was_set_back: wrong > 0,
        })
    }

    /// Notes that this node takes no pings any more. Its last sign of life stays: until then somebody was awake.
    pub async fn awake_end(&mut self, _: SystemScope, node: NodeId) -> Result<()> {
        self.run(&ENDED, &[node.into()]).await?;
        Ok(())
    }
}
