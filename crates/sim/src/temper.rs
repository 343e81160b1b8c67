//! What kind of world it is: how many nodes and checks, and how much trouble.

use allswell_core::chance::Dice;

/// What kind of world it is.
#[derive(Clone, Debug)]
pub struct Temper {
    /// One has SQLite's manners (first come, first served), several have PostgreSQL's.
    pub nodes: usize,
    /// Checks at the start.
    pub checks: usize,
    /// Pings that one transaction takes.
    pub batch_max: usize,
    /// Happenings, before it is left alone.
    pub happenings: u64,
    /// Of a thousand transactions, how many fail.
    pub failing: u32,
    /// Of ten thousand happenings, how many are a crash.
    pub crashing: u32,
    /// Of ten thousand happenings, how many send everybody away for hours.
    pub leaving: u32,
    /// Of ten thousand happenings, how many set a clock.
    pub setting_clocks: u32,
    /// Of ten thousand happenings, how many let half a minute or more pass while work waits.
    pub stalling: u32,
    /// Of a hundred lines of the log, how many are lost.
    pub losing: u32,
    /// Of a hundred happenings while work waits, how many run some of it: the fewer, the more meets at the database.
    pub prompt: u32,
    /// Of ten thousand happenings, how many change the mood of a receiver.
    pub moody: u32,
    /// Attempts that a node may have in flight, and of them one project.
    pub permits: (u32, u32),
    /// A newer alert overtakes one that is over its fast phase.
    pub coalesce: bool,
}

impl Temper {
    /// A world as this seed has it.
    pub fn of(dice: &mut Dice, happenings: u64) -> Self {
        let mut of = |odds: &[u32]| odds[dice.below(odds.len() as u32) as usize];
        Temper {
            nodes: of(&[1, 1, 2, 3]) as usize,
            checks: of(&[1, 2, 4, 6]) as usize,
            batch_max: of(&[1, 4, 200]) as usize,
            happenings,
            failing: of(&[0, 0, 20, 80]),
            crashing: of(&[0, 20, 60]),
            leaving: of(&[0, 0, 15]),
            setting_clocks: of(&[0, 0, 0, 30]),
            stalling: of(&[0, 20]),
            losing: of(&[0, 0, 20]),
            prompt: of(&[85, 60, 30]),
            moody: of(&[0, 100, 400]),
            permits: [(1_024, 256), (1_024, 256), (10, 4)][of(&[0, 1, 2]) as usize],
            coalesce: of(&[1, 1, 1, 0]) == 1,
        }
    }
}

impl Temper {
    /// A world without any trouble, and without checks.
    pub(crate) const fn calm(nodes: usize) -> Self {
        Temper {
            nodes,
            checks: 0,
            batch_max: 1_000,
            happenings: 0,
            failing: 0,
            crashing: 0,
            leaving: 0,
            setting_clocks: 0,
            stalling: 0,
            losing: 0,
            prompt: 100,
            moody: 0,
            permits: (1_024, 256),
            coalesce: true,
        }
    }
}
