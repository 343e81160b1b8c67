//! What a story was made of.

use std::fmt;

use allswell_core::time::Span;

use crate::world::World;

/// What a story that broke no rule was made of.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Happenings.
    pub happenings: u64,
    /// Transactions that were committed.
    pub commits: u64,
    /// Pings that were sent.
    pub pings: u64,
    /// Flips.
    pub flips: u64,
    /// Deliveries promised.
    pub promises: u64,
    /// Absences written down.
    pub absences: u64,
    /// From its first happening to its last, in its own time.
    pub lasted: Span,
    /// A number that changes with anything that is stored: the same seed gives the same.
    pub digest: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} happenings in {}, {} commits, {} pings, {} flips, {} deliveries, {} absences, digest {:016x}",
            self.happenings,
            self.lasted,
            self.commits,
            self.pings,
            self.flips,
            self.promises,
            self.absences,
            self.digest
        )
    }
}

impl World {
    /// What the story was made of.
    pub(crate) fn report(&self) -> Report {
        Report {
            happenings: self.happening,
            commits: self.sights.commits,
            pings: self.next_ticket - 1,
            flips: self.sights.flips,
            promises: self.sights.lanes.len() as u64,
            absences: self.sights.absences.len() as u64,
            lasted: self.lasted(),
            digest: self.digest(),
        }
    }

    /// FNV-1a over what is stored.
    fn digest(&self) -> u64 {
        let mut text = format!("{:?}", self.db.checks().expect("readable"));
        for id in self.models.keys() {
            let flips = self.db.flips(*id, 0).expect("readable");
            let promises = self.db.promises(*id).expect("readable");
            let pings = self.db.pings(*id, 0).expect("readable");
            text.push_str(&format!("{flips:?}{promises:?}{pings:?}"));
        }
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
            (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}
