//! The story of a lane: its check goes down and comes up again and again while its receiver hangs, then the receiver is
//! back. It must hear of each flip once, the newest last.

use allswell_core::check::TimingKind;
use allswell_core::signal::Action;
use allswell_core::time::Span;

use crate::Failure;
use crate::outside::Mood;
use crate::rules::{Held, TELLS, holds};
use crate::temper::Temper;
use crate::tries::Try;
use crate::users::{Errand, To};
use crate::world::World;

/// Changes of the check, so many seconds apart, the first of them the first alert.
const CHANGES: u64 = 7;
const APART: Span = Span::from_secs(40);

/// What the receiver has got in the end.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Messages that arrived.
    pub messages: usize,
    /// Flips that were told beside the one that a message is about.
    pub missed: usize,
}

/// Tells the story with this many nodes. `coalesce`: a newer alert overtakes one that is over its fast phase.
///
/// # Errors
/// The rule that was broken, with what led to it.
pub fn lanes_of_a_receiver_that_comes_back(nodes: usize, coalesce: bool) -> Result<Lane, Box<Failure>> {
    let mut temper = Temper::calm(nodes);
    temper.coalesce = coalesce;
    let mut world = World::new(21, temper);
    world.receiver_comes_back().map_err(|broken| {
        Box::new(Failure {
            again: "cargo test -p allswell-sim lane".to_owned(),
            broken,
            trace: world.trace.iter().cloned().collect(),
        })
    })
}

impl World {
    fn receiver_comes_back(&mut self) -> Held<Lane> {
        let mut check = self.new_check("flapping");
        check.settings.timing.kind = TimingKind::Period;
        check.settings.timing.period = Span::from_days(30);
        check.settings.filters = Default::default();
        check.settings.rules = Default::default();
        let channels: Vec<_> = self
            .channels
            .iter()
            .filter(|channel| channel.hook == Some(0))
            .copied()
            .collect();
        let id = self.add_check(check, channels.clone());
        for model in self.models.values_mut() {
            model.job_at = None;
        }
        for place in 0..self.nodes.len() {
            self.starts(place)?;
        }
        self.outside.set_mood(0, Mood::Silent);
        for n in 0..CHANGES {
            let action = if n % 2 == 0 { Action::Fail } else { Action::Success };
            self.send(Errand {
                to: To::Check(id),
                action,
                rid: None,
                tries: 0,
            });
            self.calm_until(self.now + APART)?;
        }
        self.outside.set_mood(0, Mood::Healthy);
        // The longest wait of what has failed some times, and of a breaker.
        self.calm_until(self.now + Span::from_secs(2 * 3_600))?;
        self.all_attempts_are_stored()?;
        self.each_flip_was_told_once(id)
    }

    fn each_flip_was_told_once(&self, check: allswell_core::id::CheckId) -> Held<Lane> {
        let promises = self.models[&check].promises.keys();
        let mut arrived: Vec<&Try> = promises
            .flat_map(|id| self.tries.of(*id))
            .filter(|one| one.has_arrived())
            .collect();
        arrived.sort_by_key(|one| one.began);
        let seqs = |one: &&Try| {
            let own = [one.call.seq];
            one.call.missed.iter().copied().chain(own).collect::<Vec<_>>()
        };
        let told: Vec<u64> = arrived.iter().flat_map(seqs).collect();
        let owed: Vec<u64> = (1..=CHANGES).collect();
        holds(TELLS, told == owed, || {
            format!("of flips {owed:?} it was told {told:?}")
        })?;
        Ok(Lane {
            messages: arrived.len(),
            missed: arrived.iter().map(|one| one.call.missed.len()).sum(),
        })
    }
}
