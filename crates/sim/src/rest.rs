//! The end of a story: everything heals, nobody sends anything any more, and the world comes to rest.

use allswell_core::time::{Span, Timestamp};

use crate::node::Loop;
use crate::rules::{GOES_DOWN, Held, REST, broken, holds};
use crate::world::{Report, World};

/// Steps of a settling node; more means that it turns in circles.
const STEPS_MAX: u32 = 20_000;
/// Between two looks of the only node that is left: seldom, and no absence.
const STRIDE: Span = Span::from_secs(50);

impl World {
    /// Everything heals; one node stays, and whoever is silent goes down.
    pub(crate) fn left_alone(&mut self) -> Held {
        self.say(|| "the world is left alone".to_owned());
        self.temper.losing = 0;
        for place in 0..self.nodes.len() {
            self.heal(place);
        }
        self.quiet()?;
        for place in 1..self.nodes.len() {
            self.crashes(place, Span::from_days(1_000))?;
        }
        if self.nodes[0].up.is_none() {
            self.starts(0)?;
        }
        self.all_go_down()?;
        self.all_is_told()
    }

    /// Runs all work and all tasks until nothing moves; time stands still.
    pub(crate) fn quiet(&mut self) -> Held {
        for _ in 0..STEPS_MAX {
            self.happening += 1;
            self.poll()?;
            let Some(one) = self.db.waiting().first().copied() else {
                return Ok(());
            };
            self.run_or_crash(one)?;
            if self.doom.happened {
                return Ok(());
            }
        }
        broken(
            REST,
            format!("there is work without an end: {:?}", self.db.waiting()),
        )
    }

    /// One look of a node at everything that is due.
    pub(crate) fn look_around(&mut self, place: usize) -> Held {
        for which in [Loop::Sweep, Loop::Deliver] {
            for _ in 0..STEPS_MAX {
                self.begins(place, which);
                self.quiet()?;
                let now = self.now;
                let Some(up) = &mut self.nodes[place].up else {
                    // It crashed meanwhile.
                    return Ok(());
                };
                if up.turn(which).due.is_none_or(|due| due > now) {
                    break;
                }
            }
        }
        Ok(())
    }

    fn last_wake_up(&self) -> Option<Timestamp> {
        let checks = self.db.checks().expect("readable");
        checks.iter().filter_map(|seen| seen.check.deadline).max()
    }

    fn all_go_down(&mut self) -> Held {
        self.look_around(0)?;
        for _ in 0..STEPS_MAX {
            if self.last_wake_up().is_none() {
                break;
            }
            self.now = self.now + STRIDE;
            self.look_around(0)?;
        }
        for model in self.models.values().filter(|model| !model.deleted) {
            let waits = model.nominal();
            holds(GOES_DOWN, waits.is_none(), || {
                format!(
                    "check {} is {:?} and waits until {waits:?}",
                    model.id,
                    model.status()
                )
            })?;
        }
        Ok(())
    }

    fn all_is_told(&mut self) -> Held {
        for _ in 0..5 {
            // What was promised or leased by a clock that was ahead waits until that instant.
            let open = self.models.values().flat_map(|model| model.promises.values());
            let open = open.filter(|promise| promise.finished_at.is_none());
            let ahead = open
                .map(|promise| promise.lease.map_or(promise.created_at, |(_, until)| until))
                .max();
            let later = self.now + Span::from_secs(30);
            self.now = ahead.map_or(later, |ahead| ahead.max(later));
            self.look_around(0)?;
        }
        for promise in self.models.values().flat_map(|model| model.promises.values()) {
            holds(REST, promise.finished_at.is_some(), || {
                format!("{promise:?} never ends")
            })?;
        }
        let shown = self
            .models
            .values()
            .map(|model| model.promises.len() as u64)
            .sum::<u64>();
        let counted = self.db.promise_count().expect("readable");
        holds(REST, shown <= counted, || {
            format!("{shown} promises were seen, and {counted} are there")
        })
    }

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
