//! Who is next: round robin over the projects that have something due, inside a project over its origins, inside an
//! origin over its channels, one delivery at a time; each within what the desk leaves it (`delivery.md` section 5).
//!
//! Every delivery costs one permit, so the deficit of a deficit round robin is always zero or a whole turn: what a project
//! could not use now it gets no credit for.

use std::collections::HashMap;

use allswell_core::breaker::Gate;
use allswell_core::delivery::Class;
use allswell_core::id::{ChannelId, ProjectId};
use allswell_core::retry::FAST_TRIES;
use allswell_core::time::Timestamp;
use allswell_store::outbox::{Ready, Wanted};

use super::desk::{Dealt, Desk, Origin};

/// Deliveries that one step begins. Bounds its transaction and what it reads.
pub(super) const STEP_MAX: u32 = 256;

/// A channel with something due.
struct Channel {
    id: ChannelId,
    ready: u32,
    wanted: u32,
}

/// An origin, or a channel whose origin nobody knows yet.
struct Lanes {
    channels: Vec<Channel>,
    room: u32,
    gate: Gate,
    next: usize,
}

struct Tenant {
    id: ProjectId,
    origins: Vec<Lanes>,
    next: usize,
}

/// What to claim, given what is due. `after` is the project that had the last turn of the step before.
pub(super) fn plan(ready: &[Ready], desk: &Desk, after: Option<ProjectId>, now: Timestamp) -> Vec<Wanted> {
    let mut projects: Vec<ProjectId> = ready.iter().map(|ready| ready.project).collect();
    projects.sort_unstable();
    projects.dedup();
    let others_wait = projects.len() > 1;
    let mut wanted = Vec::new();
    let mut dealt = Dealt::default();
    for class in Class::ALL {
        let mut tenants = tenants(ready, class, desk, now);
        tenants.sort_unstable_by_key(|tenant| tenant.id);
        let first = tenants.partition_point(|tenant| after.is_some_and(|after| tenant.id <= after));
        tenants.rotate_left(first);
        let free = desk
            .free(class)
            .saturating_sub(dealt.all)
            .min(STEP_MAX - dealt.all);
        deal(&mut tenants, desk, others_wait, free, &mut dealt);
        collect(&tenants, class, &mut wanted);
    }
    wanted
}

fn tenants(ready: &[Ready], class: Class, desk: &Desk, now: Timestamp) -> Vec<Tenant> {
    let mut tenants: HashMap<ProjectId, HashMap<Origin, Lanes>> = HashMap::new();
    for ready in ready.iter().filter(|ready| ready.class == class) {
        let known = desk.origin(ready.channel);
        let origin = known
            .clone()
            .unwrap_or_else(|| Origin::from(ready.channel.to_string()));
        let lanes = tenants.entry(ready.project).or_default();
        let lanes = lanes.entry(Origin::clone(&origin)).or_insert_with(|| {
            let room = desk.room(ready.project, &origin, now);
            Lanes {
                channels: Vec::new(),
                // One shows the origin; the others wait until it is known.
                room: if known.is_some() {
                    room.attempts
                } else {
                    room.attempts.min(1)
                },
                gate: room.gate,
                next: 0,
            }
        });
        lanes.channels.push(Channel {
            id: ready.channel,
            ready: u32::try_from(ready.ready).unwrap_or(u32::MAX),
            wanted: 0,
        });
    }
    let tenant = |(id, origins): (ProjectId, HashMap<Origin, Lanes>)| {
        let mut origins: Vec<Lanes> = origins.into_values().collect();
        for lanes in &mut origins {
            lanes.channels.sort_unstable_by_key(|channel| channel.id);
        }
        // A map has no order that could be told twice.
        origins.sort_unstable_by_key(|lanes| lanes.channels[0].id);
        // The first is asked for the one that decides, and it may have none that is beyond its fast phase. So each comes
        // first in its second.
        for lanes in origins.iter_mut().filter(|lanes| lanes.gate == Gate::HalfOpen) {
            let turn = now.as_micros().unsigned_abs() / 1_000_000 % lanes.channels.len() as u64;
            lanes.channels.rotate_left(turn as usize);
        }
        Tenant { id, origins, next: 0 }
    };
    tenants.into_iter().map(tenant).collect()
}

/// Deals turns until nobody can take one more, `free` at most.
fn deal(tenants: &mut [Tenant], desk: &Desk, others_wait: bool, free: u32, dealt: &mut Dealt) {
    let most = dealt.all + free;
    loop {
        let before = dealt.all;
        for tenant in &mut *tenants {
            let may = dealt.all < most && desk.project_room(tenant.id, others_wait, dealt) > 0;
            if may && tenant.take() {
                desk.deal(dealt, tenant.id);
            }
        }
        if dealt.all == before {
            return;
        }
    }
}

impl Tenant {
    fn take(&mut self) -> bool {
        for _ in 0..self.origins.len() {
            let index = self.next % self.origins.len();
            self.next = index + 1;
            if self.origins[index].take() {
                return true;
            }
        }
        false
    }
}

impl Lanes {
    fn take(&mut self) -> bool {
        if self.room == 0 {
            return false;
        }
        for _ in 0..self.channels.len() {
            let index = self.next % self.channels.len();
            self.next = index + 1;
            let channel = &mut self.channels[index];
            if channel.wanted < channel.ready {
                channel.wanted += 1;
                self.room -= 1;
                return true;
            }
        }
        false
    }
}

fn collect(tenants: &[Tenant], class: Class, wanted: &mut Vec<Wanted>) {
    for tenant in tenants {
        for lanes in &tenant.origins {
            let mut decides = lanes.gate == Gate::HalfOpen;
            for channel in lanes.channels.iter().filter(|channel| channel.wanted > 0) {
                let want = |limit: u32, attempts_below: u64| Wanted {
                    class,
                    project: tenant.id,
                    channel: channel.id,
                    limit: u64::from(limit),
                    attempts_below,
                };
                if lanes.gate == Gate::Closed {
                    wanted.push(want(channel.wanted, u64::MAX));
                    continue;
                }
                // The breaker holds back what is over its fast phase, but for the one that decides.
                wanted.push(want(channel.wanted, FAST_TRIES));
                if std::mem::take(&mut decides) {
                    wanted.push(want(1, u64::MAX));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::desk::{Permit, Permits};
    use allswell_core::chance::Dice;
    use allswell_core::exchange::{End, Outcome, Phases};
    use allswell_core::time::Span;

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    struct World {
        desk: Desk,
        dice: Dice,
        held: Vec<Permit>,
    }

    impl World {
        fn new(max: u32) -> Self {
            World {
                desk: Desk::new(Permits {
                    max,
                    per_project: 256,
                }),
                dice: Dice::from_number(9),
                held: Vec::new(),
            }
        }

        fn project(&mut self) -> ProjectId {
            self.dice.id()
        }

        /// A channel with this many due, whose origin is known.
        fn due(&mut self, project: ProjectId, origin: &str, ready: u64) -> Ready {
            let channel = self.dice.id();
            let begun = self
                .desk
                .begin((project, channel, Class::Alert), origin.into(), false, NOW);
            drop(begun);
            Ready {
                class: Class::Alert,
                project,
                channel,
                ready,
            }
        }

        fn hold(&mut self, project: ProjectId, origin: &str, count: u32) {
            for _ in 0..count {
                let channel = self.dice.id();
                let permit = self
                    .desk
                    .begin((project, channel, Class::Alert), origin.into(), false, NOW);
                self.held.push(permit.expect("room"));
            }
        }

        fn planned(&self, ready: &[Ready], project: ProjectId) -> u64 {
            let plan = plan(ready, &self.desk, None, NOW);
            plan.iter()
                .filter(|wanted| wanted.project == project)
                .map(|wanted| wanted.limit)
                .sum()
        }
    }

    #[test]
    fn a_busy_project_does_not_take_the_turn_of_a_quiet_one() {
        let mut world = World::new(1_024);
        let [a, b] = [world.project(), world.project()];
        let mut ready: Vec<Ready> = (0..100)
            .map(|n| world.due(a, &format!("http://{n}"), 100))
            .collect();
        ready.push(world.due(b, "http://b", 1));
        assert_eq!(world.planned(&ready, b), 1);
        assert_eq!(world.planned(&ready, a), u64::from(STEP_MAX) - 1);
        (0..16).for_each(|n| world.hold(a, &format!("http://{n}"), 16));
        assert_eq!(
            world.planned(&ready, a),
            0,
            "a quarter is its share while b waits"
        );
        assert_eq!(world.planned(&ready, b), 1);
        ready.pop();
        assert!(world.planned(&ready, a) > 0, "nobody else waits");
    }

    #[test]
    fn the_reserve_serves_who_has_nothing_in_flight() {
        let mut world = World::new(100);
        let mut ready = Vec::new();
        for n in 0..9 {
            let project = world.project();
            world.hold(project, &format!("http://{n}"), 10);
            ready.push(world.due(project, &format!("http://{n}"), 50));
        }
        assert!(plan(&ready, &world.desk, None, NOW).is_empty());
        let late = world.project();
        ready.push(world.due(late, "http://late", 50));
        assert_eq!(world.planned(&ready, late), 1);
    }

    #[test]
    fn first_attempts_that_hang_leave_the_second_ones_to_all() {
        let mut world = World::new(1_024);
        let projects: Vec<ProjectId> = (0..512).map(|_| world.project()).collect();
        for project in &projects {
            world.hold(*project, "http://of-all", 1);
        }
        let ready = [
            world.due(projects[7], "http://its-own", 3),
            world.due(projects[9], "http://its-own", 3),
        ];
        assert_eq!(world.planned(&ready, projects[7]), 3);
        let late = world.project();
        let ready = [
            world.due(late, "http://late", 3),
            Ready {
                class: Class::Job,
                ..world.due(late, "http://late", 3)
            },
        ];
        assert_eq!(world.planned(&ready, late), 6);
    }

    #[test]
    fn a_slow_origin_leaves_the_healthy_one_of_its_project_alone() {
        let mut world = World::new(1_024);
        let project = world.project();
        let ready = [
            world.due(project, "http://slow", 9_000),
            world.due(project, "http://fine", 3),
        ];
        world.hold(project, "http://slow", 16);
        let plan = plan(&ready, &world.desk, None, NOW);
        assert_eq!(plan.len(), 1);
        assert_eq!((plan[0].channel, plan[0].limit), (ready[1].channel, 3));
    }

    #[test]
    fn channels_of_one_origin_take_turns() {
        let mut world = World::new(1_024);
        let project = world.project();
        let ready: Vec<Ready> = (0..4).map(|_| world.due(project, "http://x", 99)).collect();
        let limits: Vec<u64> = plan(&ready, &world.desk, None, NOW)
            .iter()
            .map(|wanted| wanted.limit)
            .collect();
        assert_eq!(limits, [4; 4]);
    }

    #[test]
    fn a_channel_that_was_never_tried_shows_its_origin_with_one() {
        let mut world = World::new(1_024);
        let project = world.project();
        let ready = Ready {
            class: Class::Alert,
            project,
            channel: world.dice.id(),
            ready: 50,
        };
        assert_eq!(world.planned(&[ready], project), 1);
    }

    #[test]
    fn each_channel_of_a_half_open_origin_is_asked_for_the_one_that_decides() {
        let mut world = World::new(1_024);
        let project = world.project();
        let ready: Vec<Ready> = (0..3).map(|_| world.due(project, "http://x", 99)).collect();
        let failed = Outcome {
            end: End::NoConnection,
            phases: Phases::default(),
            peer: None,
            detail: String::new(),
        };
        for _ in 0..5 {
            let channel = ready[0].channel;
            let permit = world
                .desk
                .begin((project, channel, Class::Alert), "http://x".into(), false, NOW);
            permit.expect("room").note(&failed, NOW);
        }
        let deciding = |secs: i64| {
            let plan = plan(&ready, &world.desk, None, NOW + Span::from_secs(secs));
            let mut any = plan.iter().filter(|wanted| wanted.attempts_below == u64::MAX);
            let channel = any.next().expect("one decides").channel;
            assert!(any.next().is_none(), "one decides");
            channel
        };
        let mut asked: Vec<ChannelId> = (60..63).map(deciding).collect();
        asked.sort_unstable();
        let mut all: Vec<ChannelId> = ready.iter().map(|ready| ready.channel).collect();
        all.sort_unstable();
        assert_eq!(asked, all);
    }

    #[test]
    fn the_next_step_goes_on_where_the_last_one_ended() {
        let mut world = World::new(8);
        let mut ready = Vec::new();
        for n in 0..20 {
            let project = world.project();
            ready.push(world.due(project, &format!("http://{n}"), 1));
        }
        let mut after = None;
        let mut served = Vec::new();
        for _ in 0..4 {
            let plan = plan(&ready, &world.desk, after, NOW);
            after = plan.last().map(|wanted| wanted.project);
            served.extend(plan.iter().map(|wanted| wanted.project));
        }
        served.sort_unstable();
        served.dedup();
        assert_eq!(served.len(), 20);
    }
}
