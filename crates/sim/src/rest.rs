//! The end of a story: everything heals, nobody sends anything any more, and the world comes to rest.

use allswell_core::time::{Span, Timestamp};
use allswell_store::simulated::Promise;

use crate::house::RECEIVERS;
use crate::node::Loop;
use crate::outside::Mood;
use crate::rules::{GOES_DOWN, Held, REST, broken, holds};
use crate::world::World;

/// Steps of a settling node; more means that it turns in circles.
const STEPS_MAX: u32 = 20_000;
/// A silence that is lived through.
const LONG: Span = Span::from_secs(3_000);
/// Looks at deliveries that wait for a retry, or for a breaker that is half open.
const LOOKS_MAX: usize = 200;
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
        if self.clocks_right() && self.temper.happenings > 0 {
            self.calm()?;
        }
        (0..RECEIVERS).for_each(|receiver| self.outside.set_mood(receiver, Mood::Prompt));
        self.agenda.clear();
        for place in 1..self.nodes.len() {
            self.crashes(place, Span::from_days(1_000))?;
        }
        if self.nodes[0].up.is_none() {
            self.starts(0)?;
        }
        self.all_is_told()?;
        self.nobody_is_there()?;
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
        self.look_by(place, Loop::Sweep)?;
        self.look_by(place, Loop::Deliver)
    }

    fn look_by(&mut self, place: usize, which: Loop) -> Held {
        // Unless it crashed meanwhile.
        for _ in 0..STEPS_MAX {
            if self.nodes[place].up.is_none() {
                break;
            }
            self.begins(place, which);
            self.quiet()?;
            let now = self.now;
            let turn = self.nodes[place].up.as_mut().map(|up| *up.turn(which));
            if turn.and_then(|turn| turn.due).is_none_or(|due| due > now) {
                break;
            }
        }
        Ok(())
    }

    fn last_wake_up(&self) -> Option<Timestamp> {
        let checks = self.db.checks().expect("readable");
        checks.iter().filter_map(|seen| seen.check.deadline).max()
    }

    /// Passes over most of a long silence: a day of looks at nothing tells nothing.
    fn nobody_is_there(&mut self) -> Held {
        let Some(last) = self.last_wake_up().filter(|at| *at - self.now > LONG) else {
            return Ok(());
        };
        self.crashes(0, Span::ZERO)?;
        self.now = last - LONG;
        self.starts(0)
    }

    fn all_go_down(&mut self) -> Held {
        self.look_around(0)?;
        for _ in 0..STEPS_MAX {
            if self.last_wake_up().is_none() {
                break;
            }
            self.now = self.now + STRIDE;
            self.look_by(0, Loop::Sweep)?;
            let deliver = self.nodes[0].up.as_mut().map(|up| *up.turn(Loop::Deliver));
            let due = deliver.and_then(|turn| turn.due);
            if due.is_some_and(|at| at <= self.now) {
                self.look_by(0, Loop::Deliver)?;
            }
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

    fn all_promises(&self) -> impl Iterator<Item = &Promise> {
        let of_checks = self.models.values().flat_map(|model| model.promises.values());
        of_checks.chain(self.alone.values())
    }

    fn all_is_told(&mut self) -> Held {
        for n in 0..LOOKS_MAX {
            // What was promised or leased by a clock that was ahead waits until that instant, and a retry for its turn.
            let open = self.all_promises();
            let open = open.filter(|promise| promise.finished_at.is_none());
            let due = |promise: &Promise| {
                let leased = promise.lease.map(|(_, until)| until);
                leased.unwrap_or(promise.next_at).max(promise.created_at)
            };
            let Some(next) = open.map(due).min() else { break };
            // A breaker that opened by a clock ahead is open until then.
            let secs = if n < 20 { 30 } else { 300 };
            self.now = next.max(self.now + Span::from_secs(secs));
            self.look_around(0)?;
        }
        self.all_attempts_are_stored()?;
        for promise in self.all_promises() {
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
}
