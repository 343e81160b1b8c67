//! Close calls: pings that arrive in time, and wait while their deadline passes; and silence that all nodes notice at once.

use allswell_core::id::CheckId;
use allswell_core::signal::Action;
use allswell_core::time::Span;

use crate::node::Loop;
use crate::rules::Held;
use crate::users::{Errand, To};
use crate::world::World;

impl World {
    /// A check reports in just before its deadline, behind others, or mostly does. Then nothing moves until that has passed,
    /// and all nodes look who is late before they look who has come.
    pub(crate) fn a_close_call(&mut self, id: CheckId) -> Held {
        let up = self.nodes_up();
        if up.is_empty() || !self.models.contains_key(&id) {
            return Ok(());
        }
        let place = up[self.roll(up.len() as u32) as usize];
        let others: Vec<CheckId> = self.models.keys().copied().collect();
        let errand = |id, action| Errand {
            to: To::Check(id),
            action,
            rid: None,
            tries: 3,
        };
        let comes = self.roll(5) > 1;
        if comes {
            for _ in 0..self.roll(6) {
                let other = others[self.roll(others.len() as u32) as usize];
                self.send_by(place, errand(other, Action::Log));
            }
            self.send_by(place, errand(id, Action::Success));
        }
        let secs = Span::from_millis(1_000 + i64::from(self.roll(20_000)));
        self.say(|| format!("nothing moves for {secs}"));
        self.now = self.now + secs;
        if comes && self.temper.nodes > 1 {
            // Not even when its node goes on.
            self.poll()?;
            let number = self.nodes[place].up.as_ref().map(|up| up.number);
            let until = self.now + Span::from_secs(1 + i64::from(self.roll(20)));
            let mut waiting = self.db.waiting();
            waiting.retain(|one| one.writes && Some(one.node) == number);
            self.held.extend(waiting.into_iter().map(|one| (one.id, until)));
        }
        for place in up {
            let up = self.nodes[place].up.as_mut().expect("it is up");
            if up.turn(Loop::Sweep).began.is_none() {
                self.begins(place, Loop::Sweep);
            }
        }
        Ok(())
    }
}
