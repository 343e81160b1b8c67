//! Troubles: processes that start and end, everybody who leaves, clocks that are set.

use allswell_core::time::Span;
use allswell_store::simulated::Fate;

use crate::house::ALICES;
use crate::node::Up;
use crate::outside::Mood;
use crate::rules::Held;
use crate::users::Errand;
use crate::world::{SYSTEM, World};

impl World {
    /// A process starts.
    pub(crate) fn starts(&mut self, place: usize) -> Held {
        let clock = self.clock_of(place);
        let (number, store) = self.db.store();
        let unlock = store.unlock(self.ring.clone(), self.dice.fork(), clock);
        self.db.settle(number, unlock).expect("the vault opens");
        let told = self.told.clone();
        let door = self.outside.door(number);
        let (temper, now) = (self.temper.clone(), self.now);
        let mut up = Up::new(number, store, &mut self.dice, &told, door, &temper, now);
        self.say(|| format!("node {number} starts at {clock}"));
        self.names.insert(number, up.id);
        if self.temper.nodes == 1 {
            let store = up.store.clone();
            let release = store.write(async |tx| tx.deliveries_release_all(SYSTEM).await);
            self.db.settle(number, release).expect("the database is there");
            self.starting = true;
        } else {
            up = self.db.settle(number, up.beside_others(clock));
        }
        let ended = allswell_store::simulated::Ended {
            id: 0,
            node: number,
            committed: true,
        };
        self.look(&[ended])?;
        self.starting = false;
        self.nodes[place].up = Some(up);
        Ok(())
    }

    /// A process ends in the middle of whatever it does. What was on its way to the database may still arrive.
    pub(crate) fn crashes(&mut self, place: usize, away: Span) -> Held {
        let Some(up) = self.nodes[place].up.take() else {
            return Ok(());
        };
        let number = up.number;
        self.say(|| format!("node {number} crashes, away for {away}"));
        let node = &mut self.nodes[place];
        node.returns_at = self.now + away;
        node.delivers_ahead = node.ahead;
        drop(up);
        // Its attempts break off.
        self.runtime.catch_up(self.now);
        self.tries.lose(number);
        for ticket in self.tickets.values_mut().filter(|ticket| ticket.node == number) {
            // Its client sees a broken connection, and nothing else.
            ticket.answered.get_or_insert(self.happening);
        }
        for left in self.db.crash(number) {
            if self.roll(2) == 0 {
                self.db.forget(left.id);
            } else {
                let fate = [Fate::Kept, Fate::FailsAtCommit][self.roll(2) as usize];
                self.run_work(left, fate, &[])?;
            }
        }
        self.replans.remove(&number);
        self.sweeps.remove(&number);
        Ok(())
    }

    /// Like [`World::crashes`]; nothing that was on its way arrives.
    pub(crate) fn crashes_clean(&mut self, place: usize, away: Span) -> Held {
        if let Some(up) = &self.nodes[place].up {
            let number = up.number;
            // Its futures must not hear of it.
            self.nodes[place].up.as_mut().expect("just seen").tasks.clear();
            for left in self.db.crash(number) {
                self.db.forget(left.id);
            }
        }
        self.crashes(place, away)
    }

    /// A process ends in order: it does no more, and takes its leave.
    pub(crate) fn ends(&mut self, place: usize, away: Span) -> Held {
        if let Some(up) = &mut self.nodes[place].up {
            let (number, id, store) = (up.number, up.id, up.store.clone());
            up.tasks.clear();
            for left in self.db.waiting() {
                if left.node == number {
                    self.db.forget(left.id);
                }
            }
            let leave = store.write(async move |tx| tx.awake_end(SYSTEM, id).await);
            self.db.settle(number, leave).expect("the database is there");
            self.sights.marks.remove(&id);
            let ended = allswell_store::simulated::Ended {
                id: 0,
                node: number,
                committed: true,
            };
            self.look(&[ended])?;
        }
        self.crashes(place, away)
    }

    pub(crate) fn somebody_crashes(&mut self) -> Held {
        let up = self.nodes_up();
        if up.is_empty() {
            return Ok(());
        }
        let place = up[self.roll(up.len() as u32) as usize];
        let away = Span::from_millis(200 + i64::from(self.roll(90_000)));
        let unanswered: Vec<Errand> = self.unanswered_at(place);
        self.crashes(place, away)?;
        for errand in unanswered {
            self.try_again(errand);
        }
        Ok(())
    }

    pub(crate) fn unanswered_at(&self, place: usize) -> Vec<Errand> {
        let number = self.nodes[place].up.as_ref().map(|up| up.number);
        let open = self.tickets.values().filter(|ticket| ticket.answered.is_none());
        open.filter(|ticket| Some(ticket.node) == number)
            .map(|ticket| ticket.errand.clone())
            .collect()
    }

    pub(crate) fn everybody_leaves(&mut self) -> Held {
        let secs = i64::from(61 + self.roll(20_000));
        self.say(|| format!("everybody leaves for {secs} s"));
        for place in 0..self.nodes.len() {
            let own = Span::from_secs(secs + i64::from(self.roll(50)));
            self.crashes(place, own)?;
            self.nodes[place].returns_at = self.now + own;
        }
        // Their clients give up, and run next when somebody is there again.
        self.agenda.clear();
        let back = self.now + Span::from_secs(secs);
        for model in self.models.values_mut() {
            model.job_at = model.job_at.map(|_| model.next_run(back));
        }
        // Sometimes nobody stays for long.
        let stay = i64::from(self.roll(400));
        self.leaving_at = (self.roll(2) == 0).then(|| back + Span::from_secs(stay));
        Ok(())
    }

    pub(crate) fn a_clock_is_set(&mut self) -> Held {
        let place = self.roll(self.nodes.len() as u32) as usize;
        let choice = [-7_000, -300, -30, -1, 0, 1, 30, 300, 7_000];
        let ahead = Span::from_secs(choice[self.roll(choice.len() as u32) as usize]);
        self.say(|| format!("the clock at {place} is set: {ahead} ahead"));
        self.set_clock(place, ahead);
        Ok(())
    }

    fn set_clock(&mut self, place: usize, ahead: Span) {
        self.clocks_set |= ahead != self.nodes[place].ahead;
        self.nodes[place].ahead = ahead;
        // Loops look at the clock every second.
        let soon = self.now + Span::from_millis(i64::from(self.roll(1_000)));
        if let Some(up) = &mut self.nodes[place].up {
            for turn in &mut up.turns {
                turn.due = turn.due.map(|due| due.min(soon));
            }
        }
    }

    /// One of alice's receivers is not as it was.
    pub(crate) fn a_mood_changes(&mut self) {
        let receiver = self.roll(ALICES as u32) as usize;
        let mood = match self.roll(3) {
            0 => Mood::Healthy,
            _ => Mood::ALL[self.roll(Mood::ALL.len() as u32) as usize],
        };
        self.say(|| format!("receiver {receiver} is {mood:?} from now on"));
        self.outside.set_mood(receiver, mood);
    }

    /// Its clock is right, and whoever was away is back.
    pub(crate) fn heal(&mut self, place: usize) {
        if self.nodes[place].ahead != Span::ZERO {
            self.set_clock(place, Span::ZERO);
        }
        self.temper.failing = 0;
        self.held.clear();
        self.agenda.clear();
        self.close_call = None;
    }
}
