//! What becomes of transactions in a simulated world: which of them fail, where, and who comes in between.
//!
//! The world's seed decides, and says so here before it runs a piece of work. A real database never has a script.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use super::sqlite::Job;
use super::stmt::Stmt;
use crate::simulated::Fate;
use crate::{Error, Result};

/// The script of the transaction that runs now.
#[derive(Default)]
pub(crate) struct Script(Mutex<Scene>);

#[derive(Default)]
struct Scene {
    fate: Fate,
    /// Statements so far.
    statements: u32,
    /// Rows were locked or changed.
    took_rows: bool,
    committed: bool,
    /// Work of other nodes that is committed in between.
    others: Vec<(u64, Job)>,
    /// Which of the others' work was committed.
    others_ended: Vec<(u64, bool)>,
}

/// What became of a piece of work and of those that came in between.
pub(crate) struct Played {
    pub(crate) committed: bool,
    pub(crate) others: Vec<(u64, bool)>,
}

fn unavailable(when: &str) -> Error {
    Error::Unavailable(format!("the simulated database fails {when}"))
}

impl Script {
    fn scene(&self) -> MutexGuard<'_, Scene> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a piece of work. What `others` hold is run in between: after its reads and before it first takes rows, or
    /// after it, if it never does.
    pub(crate) fn play(
        &self,
        conn: &mut Connection,
        fate: Fate,
        job: Job,
        others: Vec<(u64, Job)>,
    ) -> Played {
        let scene = Scene {
            fate,
            others,
            ..Scene::default()
        };
        let outer = std::mem::replace(&mut *self.scene(), scene);
        job(conn);
        let mut scene = std::mem::replace(&mut *self.scene(), outer);
        for (id, other) in std::mem::take(&mut scene.others) {
            let played = self.play(conn, Fate::Kept, other, Vec::new());
            scene.others_ended.push((id, played.committed));
        }
        Played {
            committed: scene.committed,
            others: scene.others_ended,
        }
    }

    /// Before a transaction begins.
    pub(crate) fn begin(&self) -> Result<()> {
        match self.scene().fate {
            Fate::FailsAtBegin => Err(unavailable("at the begin")),
            _ => Ok(()),
        }
    }

    /// Before a statement. Just before the first that takes rows, others may come in between: what they commit is what
    /// READ COMMITTED lets a transaction of PostgreSQL see that has only read so far.
    pub(crate) fn before(&self, conn: &mut Connection, stmt: &Stmt) -> Result<()> {
        let mut scene = self.scene();
        scene.statements += 1;
        if scene.fate == Fate::FailsAt(scene.statements) {
            return Err(unavailable("at a statement"));
        }
        if scene.took_rows || !stmt.takes_rows() {
            return Ok(());
        }
        scene.took_rows = true;
        let others = std::mem::take(&mut scene.others);
        drop(scene);
        if others.is_empty() {
            return Ok(());
        }
        // So far it has only read: nothing is lost by ending it.
        conn.execute_batch("commit")?;
        let mut ended = Vec::new();
        for (id, other) in others {
            ended.push((id, self.play(conn, Fate::Kept, other, Vec::new()).committed));
        }
        conn.execute_batch("begin immediate")?;
        self.scene().others_ended = ended;
        Ok(())
    }

    /// At the end of a transaction that went well.
    pub(crate) fn commit(&self, conn: &Connection) -> Result<()> {
        let mut scene = self.scene();
        if scene.fate == Fate::FailsAtCommit {
            return Err(unavailable("at the commit"));
        }
        conn.execute_batch("commit")?;
        scene.committed = true;
        if scene.fate == Fate::CommitsUnheard {
            return Err(unavailable("after the commit"));
        }
        Ok(())
    }
}
