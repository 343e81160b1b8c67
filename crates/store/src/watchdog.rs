//! The server's own check: one round of each node, a ping that came in and the sweep that saw it.
//!
//! They are facts of the instance and of no project, so that nobody sees, counts or deletes them.

use allswell_core::id::NodeId;
use allswell_core::scope::SystemScope;
use allswell_core::time::{Span, Timestamp};

use crate::db::{Reader, Tx, statements};
use crate::{Error, Result};

statements! {
    SET = "insert into instance (name, value) values ($1, $2)
           on conflict (name) do update set value = excluded.value";
    // Only what was pinged and not yet swept is to be written; the instant of the sweep is the ping's. PostgreSQL locks a
    // row that conflicts even where it is not changed, so nothing may conflict then.
    SWEEP = "insert into instance (name, value) select $2, p.value
             from instance as p left join instance as s on s.name = $2
             where p.name = $1 and (s.value is null or s.value <> p.value)
             on conflict (name) do update set value = excluded.value";
    DUE = "select p.value from instance as p left join instance as s on s.name = $2
           where p.name = $1 and (s.value is null or s.value <> p.value)";
    SWEPT = "select value from instance where name = $1";
    ROUNDS = "select name, value from instance where name like 'watchdog.%' order by name";
    FORGET = "delete from instance where name like 'watchdog.%'
              and case when name like 'watchdog.%' then cast(value as bigint) end < $1";
}

/// Rounds of nodes that have ended are forgotten after this long.
const FORGOTTEN_AFTER: Span = Span::from_secs(600);

fn pinged(node: NodeId) -> String {
    format!("watchdog.pinged.{node}")
}

fn swept(node: NodeId) -> String {
    format!("watchdog.swept.{node}")
}

fn instant(value: &str) -> Result<Timestamp> {
    let micros = value.parse().map(Timestamp::from_micros);
    micros.map_err(|_| Error::Corrupt("an instant of the watchdog is no number".to_owned()))
}

/// The last round of a node.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// Whose.
    pub node: NodeId,
    /// When the newest ping came in that was stored.
    pub pinged: Timestamp,
    /// When the newest ping came in that the sweep has seen.
    pub swept: Option<Timestamp>,
}

impl Reader<'_> {
    /// Whether a ping of this node's own check waits for the sweep.
    pub async fn watchdog_is_due(&mut self, _: SystemScope, node: NodeId) -> Result<bool> {
        let (pinged, swept) = (pinged(node), swept(node));
        let row = self.first(&DUE, &[(&pinged).into(), (&swept).into()]).await?;
        Ok(row.is_some())
    }

    /// The instant of the newest ping of this node's own check that the sweep has seen.
    pub async fn watchdog_swept(&mut self, _: SystemScope, node: NodeId) -> Result<Option<Timestamp>> {
        let row = self.first(&SWEPT, &[(&swept(node)).into()]).await?;
        row.map(|row| instant(&row.get::<String>("value")?)).transpose()
    }

    /// The last rounds of all nodes that made one lately.
    pub async fn watchdog_rounds(&mut self, _: SystemScope) -> Result<Vec<Round>> {
        let mut facts = std::collections::BTreeMap::new();
        for row in self.all(&ROUNDS, &[]).await? {
            let (name, value): (String, String) = (row.get("name")?, row.get("value")?);
            facts.insert(name, instant(&value)?);
        }
        let nodes = facts.iter().filter_map(|(name, at)| {
            let node: NodeId = name.strip_prefix("watchdog.pinged.")?.parse().ok()?;
            Some((node, *at))
        });
        let round = |(node, pinged)| Round {
            node,
            pinged,
            swept: facts.get(&swept(node)).copied(),
        };
        Ok(nodes.map(round).collect())
    }
}

impl Tx<'_> {
    /// Notes a ping of this node's own check.
    pub async fn watchdog_ping(&mut self, _: SystemScope, node: NodeId, at: Timestamp) -> Result<()> {
        self.run(&FORGET, &[(at - FORGOTTEN_AFTER).into()]).await?;
        let value = at.as_micros().to_string();
        self.run(&SET, &[(&pinged(node)).into(), (&value).into()])
            .await
            .map(drop)
    }

    /// Notes that the sweep has seen it.
    pub async fn watchdog_sweep(&mut self, _: SystemScope, node: NodeId) -> Result<()> {
        self.run(&SWEEP, &[(&pinged(node)).into(), (&swept(node)).into()])
            .await
            .map(drop)
    }
}
