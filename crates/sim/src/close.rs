//! Close calls: pings that arrive in time, and wait while their deadline passes; silence that all nodes notice at once; and
//! pings that meet an edit of their check.

use allswell_core::check::Status;
use allswell_core::id::CheckId;
use allswell_core::signal::Action;
use allswell_core::time::{Span, Timestamp};
use allswell_store::simulated::Fate;

use crate::model::Deed;
use crate::node::Loop;
use crate::rules::Held;
use crate::users::{Errand, To};
use crate::world::World;

impl World {
    /// A check reports in just before its deadline, behind others, or too late, or not at all. Nothing moves until the
    /// deadline has passed. Then the node that it came to in time looks who is late before it looks who has come; where it
    /// did not come, all nodes look at once, and its ping meets them. Where there are several, they may look too soon.
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
        let away = up.len() < self.nodes.len();
        let (comes, late) = match self.roll(6) {
            _ if away => (false, false),
            0 => (false, false),
            1..=2 => (false, true),
            _ => (true, false),
        };
        if comes {
            for _ in 0..self.roll(8) {
                let other = others[self.roll(others.len() as u32) as usize];
                self.send_by(place, errand(other, Action::Log));
            }
            // They are on their way when it comes, so that it waits for the next batch.
            self.poll()?;
            self.send_by(place, errand(id, Action::Success));
        }
        // Too soon for anybody to judge who is not alone: all look then, and what waits elsewhere is given its time. So it is
        // where somebody was away and is just back.
        let hasty = self.temper.nodes > 1 && (away || self.roll(2) == 0);
        let soon = self.now + Span::from_secs(1);
        let deadline = self.models[&id].nominal().filter(|at| hasty && *at <= soon);
        let until = match deadline {
            Some(deadline) => deadline.max(self.now) + Span::from_millis(i64::from(self.roll(1_000))),
            None => self.now + Span::from_millis(1_000 + i64::from(self.roll(20_000))),
        };
        self.say(|| format!("nothing moves until {until}"));
        self.now = until;
        if comes && self.temper.nodes > 1 {
            // Not even when its node goes on.
            self.poll()?;
            let number = self.nodes[place].up.as_ref().map(|up| up.number);
            let until = self.now + Span::from_secs(1 + i64::from(self.roll(20)));
            let mut waiting = self.db.waiting();
            waiting.retain(|one| one.writes && Some(one.node) == number);
            self.held.extend(waiting.into_iter().map(|one| (one.id, until)));
        }
        for back in 0..self.nodes.len() {
            if deadline.is_some() && self.nodes[back].up.is_none() {
                self.starts(back)?;
            }
        }
        // Where it comes, no other node is to judge before its own: those know nothing of it.
        for node in up
            .into_iter()
            .filter(|other| !comes || deadline.is_some() || *other == place)
        {
            let up = self.nodes[node].up.as_mut().expect("it is up");
            if up.turn(Loop::Sweep).began.is_none() {
                self.begins(node, Loop::Sweep);
            }
        }
        if late {
            // They have seen that something is due, and have yet to write.
            self.poll()?;
            for one in self.db.waiting().into_iter().filter(|one| !one.writes) {
                self.run_work(one, Fate::Kept, &[])?;
            }
            self.poll()?;
            self.send_by(place, errand(id, Action::Success));
        }
        Ok(())
    }

    /// All but one take their leave, and come back behind this deadline, or within the second in which a close call has it
    /// looked at too soon.
    pub(crate) fn one_stays_alone(&mut self, deadline: Timestamp) -> Held {
        if self.temper.crashing == 0 || self.roll(2) > 0 {
            return Ok(());
        }
        let away = deadline - self.now;
        for place in self.nodes_up().into_iter().skip(1) {
            self.ends(place, away)?;
            self.nodes[place].returns_at = deadline + Span::from_secs(1 + i64::from(self.roll(60)));
        }
        Ok(())
    }

    /// A check reports in at one node while somebody pauses it at another, or ends its pause: whoever writes later has read
    /// what is no longer true. Two pings would not show it: they want the same number.
    pub(crate) fn two_at_once(&mut self, id: CheckId) {
        let up = self.nodes_up();
        let [one, other] = match up.len() {
            0 => return,
            1 => [up[0]; 2],
            nodes => {
                let first = self.roll(nodes as u32) as usize;
                [up[first], up[(first + 1) % nodes]]
            }
        };
        let what = if self.models[&id].status() == Status::Paused {
            Deed::Resume
        } else {
            Deed::Pause
        };
        let action = [Action::Success, Action::Log][self.roll(2) as usize];
        let errand = Errand {
            to: To::Check(id),
            action,
            rid: None,
            tries: 3,
        };
        self.send_by(one, errand);
        self.carry_out_by(other, id, what);
    }
}
