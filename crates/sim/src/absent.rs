//! Our own absence is not their silence: the two stories of DECISIONS 11, told with real nodes.

use allswell_core::check::{Check, Rules, Status, TimingKind};
use allswell_core::flip::Reason;
use allswell_core::id::CheckId;
use allswell_core::signal::Action;
use allswell_core::time::{Span, Timestamp};

use crate::Failure;
use crate::rules::{ABSENCE, GOES_DOWN, Held, holds};
use crate::temper::Temper;
use crate::users::{Errand, To};
use crate::world::World;

const MINUTE: i64 = 60;
const HOUR: i64 = 3_600;
/// Between two looks of a node that is awake.
const STRIDE: Span = Span::from_secs(29);

fn told(mut world: World, story: impl FnOnce(&mut World) -> Held) -> Result<(), Box<Failure>> {
    story(&mut world).map_err(|broken| {
        Box::new(Failure {
            again: "cargo test -p allswell-sim".to_owned(),
            broken,
            trace: world.trace.into(),
        })
    })
}

/// Everybody is away for two hours, into which the deadlines of all these checks fall. All but one ping again within what
/// their return gives them.
///
/// # Errors
/// The rule that was broken: one of the healthy went down, the silent one did not, or not once and with that reason, or
/// there was not one absence.
pub fn two_hours_away(checks: usize) -> Result<(), Box<Failure>> {
    let mut world = World::new(11, Temper::calm(1));
    // Ten thousand are too many to look at all after each commit; they are looked at in the end.
    world.blind = true;
    told(world, |world| world.two_hours_away(checks))
}

/// A day in which the server lives for so many seconds at a time, and is away for so many in between. Whoever pings stays
/// up, and whoever is silent goes down, once.
///
/// # Errors
/// The rule that was broken.
pub fn restarting_for_a_day(lives_secs: i64, away_secs: i64) -> Result<(), Box<Failure>> {
    let world = World::new(12, Temper::calm(1));
    told(world, |world| world.restarting_for_a_day(lives_secs, away_secs))
}

impl World {
    fn timed(&mut self, name: &str, period: i64, grace: i64) -> Check {
        let mut check = self.new_check(name);
        check.settings.timing.kind = TimingKind::Period;
        check.settings.timing.period = Span::from_secs(period);
        check.settings.grace = Span::from_secs(grace);
        check.settings.filters = Default::default();
        check.settings.rules = Rules::OFF;
        check
    }

    fn all_ping(&mut self, ids: &[CheckId]) -> Held {
        for id in ids {
            self.send(Errand {
                to: To::Check(*id),
                action: Action::Success,
                rid: None,
                tries: 0,
            });
        }
        self.quiet()?;
        // Nobody asks about them again.
        self.tickets.clear();
        Ok(())
    }

    /// The node sweeps as long as it is awake.
    fn awake_until(&mut self, until: Timestamp) -> Held {
        while self.now < until {
            self.look_around(0)?;
            self.now = (self.now + STRIDE).min(until);
        }
        self.look_around(0)
    }

    fn two_hours_away(&mut self, checks: usize) -> Held {
        self.starts(0)?;
        let mut ids = Vec::new();
        for n in 0..checks {
            let check = self.timed(&format!("healthy-{n}"), 3 * HOUR, HOUR);
            ids.push(self.add_check(check, Vec::new()));
        }
        let silent = self.timed("silent", 3 * HOUR, HOUR);
        let silent = self.add_check(silent, self.channels.clone());
        let begin = self.now;
        self.look_around(0)?;
        for some in ids.chunks(1_000) {
            self.all_ping(some)?;
            self.awake_until(self.now + Span::from_secs(10))?;
        }
        self.all_ping(&[silent])?;
        let last = self.now;
        self.awake_until(begin + Span::from_secs(3 * HOUR))?;
        self.crashes(0, Span::from_secs(2 * HOUR))?;
        self.now = self.now + Span::from_secs(2 * HOUR);
        let back = self.now;
        self.starts(0)?;
        self.awake_until(back + Span::from_secs(59 * MINUTE))?;
        for some in ids.chunks(1_000) {
            self.all_ping(some)?;
        }
        self.awake_until(back + Span::from_secs(2 * HOUR))?;

        let absences = self.db.absences().expect("readable");
        let one = absences.len() == 1 && absences[0].to == back;
        holds(ABSENCE, one, || {
            format!("{absences:?}, and not one that ends {back}")
        })?;
        for id in ids {
            let flips = self.db.flips(id, 0).expect("readable");
            let up = flips.len() == 1 && flips[0].flip.to == Status::Up;
            holds(ABSENCE, up, || format!("check {id} was healthy: {flips:?}"))?;
        }
        let flips = self.db.flips(silent, 0).expect("readable");
        let moved = (last + Span::from_secs(4 * HOUR)).as_micros();
        let down = flips.len() == 2
            && flips[1].flip.to == Status::Down
            && flips[1].flip.at == back + Span::from_secs(HOUR)
            && matches!(flips[1].flip.reason, Reason::Timeout { moved_from: Some(from), .. }
                if (from - moved).abs() < 1_000_000);
        holds(GOES_DOWN, down, || {
            format!("the silent one: {flips:?}, back {back}")
        })
    }

    fn restarting_for_a_day(&mut self, lives: i64, away: i64) -> Held {
        let mut healthy = Vec::new();
        for n in 0..20 {
            let check = self.timed(&format!("healthy-{n}"), HOUR, 10 * MINUTE);
            healthy.push(self.add_check(check, Vec::new()));
        }
        let check = self.timed("silent", HOUR, 10 * MINUTE);
        let silent = self.add_check(check, self.channels.clone());
        let begin = self.now;
        self.starts(0)?;
        self.all_ping(&healthy)?;
        self.all_ping(&[silent])?;
        let mut pinged = self.now;
        while self.now < begin + Span::from_days(1) {
            if self.nodes[0].up.is_none() {
                self.starts(0)?;
            }
            if self.now - pinged > Span::from_secs(40 * MINUTE) {
                self.all_ping(&healthy)?;
                pinged = self.now;
            }
            self.awake_until(self.now + Span::from_secs(lives))?;
            self.crashes(0, Span::ZERO)?;
            self.now = self.now + Span::from_secs(away);
        }
        for id in healthy {
            let down = self.models[&id].flips.iter().find(|flip| flip.to == Status::Down);
            holds(ABSENCE, down.is_none(), || {
                format!("check {id} was healthy: {down:?}")
            })?;
        }
        let downs: Vec<_> = self.models[&silent]
            .flips
            .iter()
            .filter(|flip| flip.to == Status::Down)
            .collect();
        // Its hour and ten minutes, and its ten minutes again in lives of `lives` seconds.
        let share = (lives + away).max(1) * 10 * MINUTE / lives.max(1);
        let latest = begin + Span::from_secs(HOUR + 10 * MINUTE + share + lives + 2 * away + MINUTE);
        holds(GOES_DOWN, downs.len() == 1 && downs[0].at <= latest, || {
            format!("the silent one should be down by {latest}: {downs:?}")
        })
    }
}
