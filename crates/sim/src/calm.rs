//! Calm at the end of each story, while receivers are as bad as ever: what nobody's fault may delay. Bob's receiver
//! is healthy, alice's hang or refuse; alerts of both are promised at once, twice, so that breakers are open by then.

use allswell_core::check::Status;
use allswell_core::id::CheckId;
use allswell_core::signal::Action;
use allswell_core::time::{Span, Timestamp};

use crate::model::Channel;
use crate::outside::Mood;
use crate::rules::{FAST, Held, PROMPT, holds};
use crate::users::{Errand, To};
use crate::world::World;

/// What may pass from an alert's promise to its first byte at a healthy receiver.
const PROMPTLY: Span = Span::from_secs(2);
/// Attempts that an origin may have in flight, however long they hang.
const HANGING_MAX: u32 = 16;
/// How late a try of the fast phase may be: one look, and those that its origin takes before it.
const TRIED_WITHIN: Span = Span::from_secs(5);

impl World {
    pub(crate) fn calm(&mut self) -> Held {
        self.say(|| "it is calm".to_owned());
        for place in 0..self.nodes.len() {
            if self.nodes[place].up.is_none() {
                self.starts(place)?;
            }
        }
        // All hang, and may hold all permits. Or those of one origin refuse: one that hangs would take the other's turns,
        // and where there are few permits also those of its project's other origins.
        let moods = if self.roll(2) == 0 {
            [Mood::Silent; 3]
        } else if self.temper.permits.0 > HANGING_MAX {
            [Mood::Refusing, Mood::Refusing, Mood::Silent]
        } else {
            [Mood::Refusing; 3]
        };
        for (receiver, mood) in moods.into_iter().enumerate() {
            self.outside.set_mood(receiver, mood);
        }
        // Leases of those who crashed lapse, and what was under way ends.
        self.calm_until(self.now + Span::from_secs(130))?;
        self.calm_since = Some(self.now);
        for _ in 0..2 {
            let begun = self.now;
            self.all_change()?;
            self.calm_until(begun + PROMPTLY)?;
            self.bob_has_heard(begun)?;
            self.calm_until(begun + Span::from_secs(100))?;
        }
        self.calm_since = None;
        if self.roll(3) == 0 {
            self.everybody_leaves_for_a_day()?;
        }
        Ok(())
    }

    /// Long enough for what is owed now to expire: whoever comes back must end it.
    fn everybody_leaves_for_a_day(&mut self) -> Held {
        let away = Span::from_secs(25 * 3_600);
        for place in 0..self.nodes.len() {
            self.crashes(place, away)?;
        }
        self.agenda.clear();
        self.now = self.now + away;
        for place in 0..self.nodes.len() {
            self.starts(place)?;
        }
        self.calm_until(self.now + Span::from_secs(100))
    }

    /// Lives on until then, without any trouble.
    pub(crate) fn calm_until(&mut self, until: Timestamp) -> Held {
        self.quiet()?;
        while self.next_due().is_some_and(|(at, _)| at <= until) {
            self.happening += 1;
            self.time_passes()?;
            self.quiet()?;
            self.fast_phases_go_on()?;
        }
        self.now = self.now.max(until);
        self.quiet()
    }

    /// All checks go down, or come up again.
    fn all_change(&mut self) -> Held {
        let ids: Vec<(CheckId, Status)> = self
            .models
            .values()
            .filter(|model| !model.deleted)
            .map(|model| (model.id, model.status()))
            .collect();
        for (id, status) in ids {
            let action = if status == Status::Down {
                Action::Success
            } else {
                Action::Fail
            };
            self.send(Errand {
                to: To::Check(id),
                action,
                rid: None,
                tries: 0,
            });
        }
        self.quiet()
    }

    /// What bob is owed since `begun` has reached his receiver.
    fn bob_has_heard(&self, begun: Timestamp) -> Held {
        let model = &self.models[&self.bobs_check];
        let new: Vec<_> = model
            .promises
            .values()
            .filter(|promise| promise.created_at >= begun)
            .collect();
        holds(PROMPT, !new.is_empty(), || {
            format!("bob was promised nothing since {begun}: {:?}", model.status())
        })?;
        for promise in new {
            let first = self.tries.of(promise.id).first();
            let heard = first.is_some_and(|one| one.began <= promise.created_at + PROMPTLY);
            holds(PROMPT, heard, || {
                format!("{promise:?} is not tried at {}: {first:?}", self.now)
            })?;
        }
        Ok(())
    }

    /// Nothing holds back what is due in its fast phase, stands at the head of its lane, and goes to a receiver that
    /// refuses at once.
    fn fast_phases_go_on(&self) -> Held {
        let Some(calm_since) = self.calm_since else {
            return Ok(());
        };
        let refuses = |channel: &&Channel| {
            let mood = channel.hook.map(|receiver| self.outside.mood(receiver));
            mood == Some(Mood::Refusing)
        };
        for channel in self.channels.iter().filter(refuses) {
            for model in self.models.values() {
                let lane = || model.promises.values().filter(|of| of.channel == channel.id);
                let open = lane().filter(|promise| promise.finished_at.is_none());
                let Some(head) = open.min_by_key(|promise| promise.seq) else {
                    continue;
                };
                let before = lane().filter(|promise| promise.seq < head.seq);
                let freed = before.filter_map(|promise| promise.finished_at).max();
                // Before the calm it may have been asked for an hour of patience.
                let due = head.next_at.max(calm_since);
                let waits_since = due.max(freed.unwrap_or(calm_since));
                let tried = head.attempts >= 3 || self.now - waits_since < TRIED_WITHIN;
                holds(FAST, tried, || format!("{head:?} at {}", self.now))?;
            }
        }
        Ok(())
    }
}
