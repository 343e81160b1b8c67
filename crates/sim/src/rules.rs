//! What must hold, each rule as a sentence, and how a broken one is told.

use std::fmt;

/// A rule that did not hold, and what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The rule.
    pub rule: &'static str,
    /// What was seen instead.
    pub seen: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken: {}\n    {}", self.rule, self.seen)
    }
}

/// What a look at the world gives.
pub(crate) type Held<T = ()> = Result<T, Broken>;

/// Asks whether a rule holds; `seen` tells what was seen if it does not.
pub(crate) fn holds(rule: &'static str, truth: bool, seen: impl FnOnce() -> String) -> Held {
    if truth {
        Ok(())
    } else {
        Err(Broken { rule, seen: seen() })
    }
}

/// Says that a rule is broken.
pub(crate) fn broken<T>(rule: &'static str, seen: String) -> Held<T> {
    Err(Broken { rule, seen })
}

pub(crate) const ANSWERED: &str = "an answered ping is stored, and one for a check that is there is answered";
pub(crate) const ONCE: &str = "a ping is stored once, with what it said";
pub(crate) const COUNTED: &str =
    "the pings of a check are numbered without gaps, and its row counts each once";
pub(crate) const CHAIN: &str =
    "flips chain without gaps, and the history of their check bears out each reason";
pub(crate) const STATE: &str = "the stored state agrees with the history";
pub(crate) const REMEMBERED: &str = "what a check remembers for its rules are its last outcomes and runs, and nothing where no rule wants them";
pub(crate) const WAKE_UP: &str =
    "the stored wake-up is there when something is awaited, and never later than the true deadline";
pub(crate) const EARLY: &str = "no check goes down before its deadline, and its flip bears the deadline";
pub(crate) const WAITING: &str = "a ping that arrived in time and waits for its commit is no silence, for a second also where it waits at another node";
pub(crate) const ABSENCE: &str =
    "a deadline that fell into our absence moves by its allowance, counted in time that we were awake";
pub(crate) const NOTED: &str = "a minute without a sign of life is an absence, and nothing else is";
pub(crate) const INCIDENTS: &str = "each time down is one incident, with the flips at its ends";
pub(crate) const OWED: &str =
    "each flip has one delivery for each channel that wants it, with the flip's own commit";
pub(crate) const DELETED: &str = "a deleted check takes no pings, makes no flips and promises nothing";
pub(crate) const LEASED: &str =
    "a delivery is ended once, by the node that holds its lease, and its attempts are counted";
pub(crate) const TOLD: &str = "what is told was promised before, and what counts as delivered was told";
pub(crate) const ORDER: &str = "a channel never hears an older state of a check after a newer one";
pub(crate) const HEAD: &str = "of each lane the oldest delivery that is open is leased, and no other";
pub(crate) const OVERTAKEN: &str = "a delivery is overtaken by a newer one of its lane, after its fast phase or that of one before it, and its flips are told by that one";
pub(crate) const ENDED: &str = "what is given up has expired, has nobody whom it could tell anything, or would be the last word and wrong";
pub(crate) const IDS: &str = "what a receiver gets bears the id of a stored delivery to it, and of no other";
pub(crate) const NUMBERED: &str = "the attempts of a delivery are numbered without gaps";
pub(crate) const RECORDED: &str =
    "each attempt has its row, and is made again only if its process crashed or lost its lease";
pub(crate) const KEPT: &str = "no process gives up a lease before it has stored what came of its attempt";
pub(crate) const COVERED: &str = "no attempt begins, and no line is written, that its lease does not outlast";
pub(crate) const ALONE: &str = "of each lane one attempt is under way at a time";
pub(crate) const TELLS: &str = "a message tells its flip, and those that its delivery overtook";
pub(crate) const EARLY_TRY: &str = "no attempt begins before it is due";
pub(crate) const PATIENCE: &str =
    "a retry waits as long as the schedule says, or its receiver asks for, and no longer";
pub(crate) const CUT_OFF: &str = "no attempt lasts longer than its budget";
pub(crate) const PROMPT: &str = "receivers that hang delay nobody else's alert by more than two seconds";
pub(crate) const FAST: &str =
    "whatever a receiver did before, no breaker holds an alert back that is in its fast phase";
pub(crate) const MADE: &str =
    "a ping that asks for a check gets the one of its name, made as it wished if there was none";
pub(crate) const GONE: &str =
    "a channel whose receiver is gone for good is off at once, and on again only when somebody says so";
pub(crate) const TESTED: &str = "a channel that is there is tested once for each who asks, as often as is allowed, and a test is tried once";
pub(crate) const AGAIN: &str = "what is sent again has ended, keeps its id, and tells nothing that is older than what its channel has heard, unless somebody insists";
pub(crate) const STEPS: &str = "a step fails only when the database does";
pub(crate) const GOES_DOWN: &str = "whoever stays silent goes down in the end";
pub(crate) const REST: &str = "a world that is left alone comes to rest";
pub(crate) const SAME: &str = "a story ends the same with and without a crash";
pub(crate) const PANIC: &str = "nothing panics";
