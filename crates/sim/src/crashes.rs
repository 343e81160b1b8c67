//! Every crash point of a fixed story: the k-th is where its node ends, for k = 1, 2, 3, … until the story has no more.
//!
//! A piece of work has three: before it reaches the database, before its commit, and after it, before anybody hears. The
//! node starts again, clients that were not answered try again, and in the end every check must have the flips, the
//! incidents and the deliveries that it has without a crash.

use allswell_core::check::{Rules, Status, TimingKind};
use allswell_core::signal::Action;
use allswell_core::time::Span;
use allswell_store::simulated::Fate;
use uuid::Uuid;

use crate::Failure;
use crate::model::{Channel, Deed};
use crate::node::Loop;
use crate::rules::{Held, SAME, STEPS, broken, holds};
use crate::temper::Temper;
use crate::users::{Errand, To};
use crate::world::World;

/// How often somebody tries what a crash broke off.
const TRIES_MAX: usize = 5;

/// What a story with crashes was made of.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Crashes {
    /// Points at which it was crashed, each in a telling of its own.
    pub points: u64,
    /// Flips that each telling ended with.
    pub flips: usize,
}

/// Where a crash is to come.
#[derive(Default)]
pub(crate) struct Doom {
    /// Points that were passed.
    pub(crate) passed: u64,
    /// The one at which a node ends.
    pub(crate) at: Option<u64>,
    /// It has happened, and nobody has noticed yet.
    pub(crate) happened: bool,
}

impl Doom {
    fn comes(&mut self) -> bool {
        self.passed += 1;
        let now = self.at == Some(self.passed);
        self.happened |= now;
        now
    }
}

/// What somebody wants done, and does again if a crash broke it off.
#[derive(Clone, Debug)]
enum Wish {
    Ping(To, Action, Option<Uuid>),
    Deed(&'static str, Deed),
    /// All loops look around, and time passes.
    Wait(i64),
    Prune,
}

/// Tells the story once for each of its crash points, with this many nodes.
///
/// # Errors
/// The rule that was broken, with what led to it.
pub fn every_crash_point(nodes: usize) -> Result<Crashes, Box<Failure>> {
    let (_, expected, points) = told(nodes, None)?;
    for point in 1..=points {
        let (world, ended, _) = told(nodes, Some(point))?;
        let same = holds(SAME, ended == expected, || {
            format!("with a crash at point {point}: {ended:#?}\nwithout: {expected:#?}")
        });
        same.map_err(|broken| failure(&world, point, broken))?;
    }
    let flips = expected.iter().map(|(_, flips, _)| flips.len()).sum();
    Ok(Crashes { points, flips })
}

/// For each check its name, its flips, and how many deliveries it has.
type Ended = Vec<(String, Vec<(Status, Status)>, usize)>;

fn failure(world: &World, point: u64, broken: crate::rules::Broken) -> Box<Failure> {
    Box::new(Failure {
        again: format!("cargo test -p allswell-sim a_crash (point {point})"),
        broken,
        trace: world.trace.iter().cloned().collect(),
    })
}

fn told(nodes: usize, doom: Option<u64>) -> Result<(World, Ended, u64), Box<Failure>> {
    let mut world = World::new(1, Temper::calm(nodes));
    world.doom.at = doom;
    match world.tell_wishes() {
        Ok(()) => {
            let (ended, points) = (world.ending(), world.doom.passed);
            Ok((world, ended, points))
        }
        Err(broken) => Err(failure(&world, doom.unwrap_or(0), broken)),
    }
}

impl World {
    fn tell_wishes(&mut self) -> Held {
        for name in ["a", "b", "c"] {
            let mut check = self.new_check(name);
            check.settings.timing.kind = TimingKind::Period;
            check.settings.timing.period = Span::from_secs(60);
            check.settings.grace = Span::from_secs(60);
            check.settings.filters = Default::default();
            check.settings.rules = Rules::OFF;
            // One check tells one webhook: each more makes many more points, and tells nothing new.
            let channels = self.channels.iter().copied();
            let channels =
                channels.filter(|channel| channel.hook.is_none_or(|hook| hook == 0 && name == "b"));
            self.add_check(check, channels.collect());
        }
        for place in 0..self.nodes.len() {
            self.starts(place)?;
        }
        for model in self.models.values_mut() {
            model.job_at = None;
        }
        for wish in self.wishes() {
            self.fulfil(&wish)?;
        }
        self.doom.at = None;
        let passed = self.doom.passed;
        self.left_alone()?;
        self.doom.passed = passed;
        Ok(())
    }

    fn wishes(&self) -> Vec<Wish> {
        use Action::{Fail, Log, Start, Success};
        let check = |name: &str| {
            let model = self.models.values().find(|model| model.settings.name == name);
            To::Check(model.expect("it was made").id)
        };
        let run = Some(Uuid::from_u128(9));
        let mut short = self.models.values().next().expect("one").settings.clone();
        short.name = "made-0".to_owned();
        short.slug = "made-0".to_owned();
        let made = To::Slug {
            slug: "made-0".to_owned(),
            create: true,
        };
        let some: Vec<Channel> = self.channels[..1].to_vec();
        vec![
            Wish::Wait(1),
            Wish::Ping(check("a"), Success, None),
            Wish::Ping(check("b"), Success, None),
            Wish::Ping(check("c"), Start, run),
            Wish::Ping(made.clone(), Success, None),
            Wish::Deed("made-0", Deed::Edit(Box::new(short), some)),
            Wish::Ping(check("b"), Fail, None),
            Wish::Wait(1),
            Wish::Ping(check("b"), Success, None),
            Wish::Ping(check("c"), Success, run),
            Wish::Ping(check("c"), Log, None),
            Wish::Deed("a", Deed::Pause),
            Wish::Deed("a", Deed::Resume),
            Wish::Ping(check("a"), Success, None),
            Wish::Prune,
            Wish::Wait(50),
            Wish::Wait(50),
            Wish::Wait(50),
            // Everybody is silent by now.
            Wish::Wait(2),
            Wish::Ping(check("a"), Success, None),
            Wish::Ping(made, Fail, None),
            Wish::Deed("c", Deed::Delete),
            Wish::Wait(2),
            Wish::Wait(40),
        ]
    }

    fn fulfil(&mut self, wish: &Wish) -> Held {
        for tries in 0..TRIES_MAX {
            self.say(|| format!("{wish:?}"));
            match wish {
                Wish::Ping(to, action, rid) => self.send(Errand {
                    to: to.clone(),
                    action: *action,
                    rid: *rid,
                    tries: 0,
                }),
                Wish::Deed(name, deed) => {
                    let model = self.models.values().find(|model| model.settings.name == *name);
                    let Some(id) = model.map(|model| model.id) else {
                        return broken(STEPS, format!("check {name} is not there"));
                    };
                    self.carry_out(id, deed.clone());
                }
                Wish::Wait(secs) => {
                    // Once: more of it would be an absence, and another story.
                    let secs = if tries == 0 { *secs } else { 0 };
                    self.now = self.now + Span::from_secs(secs);
                    for place in self.nodes_up() {
                        self.look_around(place)?;
                    }
                }
                Wish::Prune => {
                    for place in self.nodes_up() {
                        self.begins(place, Loop::Retain);
                    }
                }
            }
            self.quiet()?;
            if !std::mem::take(&mut self.doom.happened) {
                return Ok(());
            }
            self.now = self.now + Span::from_millis(200);
            for place in 0..self.nodes.len() {
                if self.nodes[place].up.is_none() {
                    self.starts(place)?;
                }
            }
        }
        broken(STEPS, format!("{wish:?} is never done"))
    }

    /// Runs a piece of work, or ends its node at one of its points.
    pub(crate) fn run_or_crash(&mut self, one: allswell_store::simulated::Waiting) -> Held {
        let place = self.nodes.iter().position(|node| {
            let number = node.up.as_ref().map(|up| up.number);
            number == Some(one.node)
        });
        if self.doom.comes() {
            self.db.forget(one.id);
        } else if self.doom.comes() {
            self.run_work(one, Fate::FailsAtCommit, &[])?;
        } else {
            self.run_work(one, Fate::Kept, &[])?;
            if !self.doom.comes() {
                return Ok(());
            }
        }
        let place = place.expect("who works is up");
        self.crashes_clean(place, Span::ZERO)
    }

    fn ending(&self) -> Ended {
        let mut ended: Ended = self
            .models
            .values()
            .map(|model| {
                let flips = model.flips.iter().map(|flip| (flip.from, flip.to)).collect();
                (model.settings.name.clone(), flips, model.promises.len())
            })
            .collect();
        ended.sort_by(|one, other| one.0.cmp(&other.0));
        ended
    }
}
