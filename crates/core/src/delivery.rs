//! Who is told what: from a flip and the channels of its check to the deliveries it owes.

use crate::absence::{Absence, lengthened};
use crate::check::Status;
use crate::flip::Flip;
use crate::id::ChannelId;
use crate::limits;
use crate::time::{Span, Timestamp};

/// What a delivery is for. Classes have their own share of the sending (`delivery.md` section 5).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A check changed its status.
    Alert,
    /// Somebody tries a channel and waits for the result.
    Test,
    /// A scheduled call.
    Job,
    /// What nobody waits for: a note about a channel that fails.
    Report,
}

impl Class {
    /// All of them, the most urgent first.
    pub const ALL: [Class; 4] = [Class::Alert, Class::Test, Class::Job, Class::Report];

    /// The word stored.
    pub const fn word(self) -> &'static str {
        match self {
            Class::Alert => "alert",
            Class::Test => "test",
            Class::Job => "job",
            Class::Report => "report",
        }
    }

    /// The class of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.word() == word)
    }

    /// Tries at most, beside what time allows.
    pub const fn tries_max(self) -> u64 {
        match self {
            Class::Test => 1,
            Class::Alert | Class::Job | Class::Report => u64::MAX,
        }
    }
}

/// What routing needs to know of a channel.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The channel.
    pub channel: ChannelId,
    /// It sends when a check goes down.
    pub tells_down: bool,
    /// It sends when a check comes back up.
    pub tells_up: bool,
    /// It was switched off, by hand or after failing for long.
    pub disabled: bool,
}

/// A delivery to be written with its flip.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// The channel that gets it.
    pub channel: ChannelId,
    /// What it is for.
    pub class: Class,
    /// After this instant it is no longer tried, and shown as expired: but for what an absence of ours adds ([`Term`]).
    pub expires_at: Timestamp,
}

/// How long a delivery is tried. What counts is time in which somebody of us was awake: while we were away nobody could
/// get anything, so that is neither the receiver's fault nor a reason to tell him nothing.
#[derive(Copy, Clone, Debug)]
pub struct Term<'a> {
    /// What it is for.
    pub class: Class,
    /// When it was promised.
    pub promised_at: Timestamp,
    /// When its time is over, as it was promised, or as somebody asked for it again.
    pub expires_at: Timestamp,
    /// Our absences since it was promised, the oldest first.
    pub absences: &'a [Absence],
}

impl Term<'_> {
    /// When its time is over. Of a test by the clock alone: whoever watches it does not wait for our return.
    pub fn ends_at(&self) -> Timestamp {
        if self.class == Class::Test {
            return self.expires_at;
        }
        lengthened(self.begins_at(), self.expires_at, self.absences)
    }

    /// Whether it is to be tried even if its time is over, since it was not after our last absence: what we would have told
    /// meanwhile may be all that its receiver is waiting for. `last_try` is when its last attempt began.
    pub fn is_owed_a_try(&self, last_try: Option<Timestamp>) -> bool {
        let since = self.begins_at();
        let back = self.absences.iter().map(|absence| absence.to).max();
        let back = back.filter(|at| self.class != Class::Test && *at > since);
        back.is_some_and(|back| last_try.is_none_or(|at| at < back))
    }

    /// What is asked for again has its time from then on.
    fn begins_at(&self) -> Timestamp {
        self.promised_at.max(asked_at(self.expires_at))
    }
}

/// When somebody asked for a delivery again whose time ends at `expires_at`: it has its day from then on.
pub fn asked_at(expires_at: Timestamp) -> Timestamp {
    expires_at - Span::from_secs(limits::ALERT_HOURS_MAX * 3_600)
}

/// Whether anybody is told of this flip: going down always, coming up only from down
/// (`healthchecks.md` section 2.1: a first ping and a resumed check are no news).
pub const fn is_news(flip: &Flip) -> bool {
    matches!(
        (flip.from, flip.to),
        (_, Status::Down) | (Status::Down, Status::Up)
    )
}

/// The deliveries that this flip owes to these channels; `now` is when it was noticed.
pub fn owed(flip: &Flip, routes: &[Route], now: Timestamp) -> Vec<Owed> {
    if !is_news(flip) {
        return Vec::new();
    }
    let wanted = |route: &&Route| {
        !route.disabled
            && if flip.to == Status::Down {
                route.tells_down
            } else {
                route.tells_up
            }
    };
    // From the notice and not from the flip: after a long absence of ours an old flip is still news.
    let expires_at = now + Span::from_secs(limits::ALERT_HOURS_MAX * 3_600);
    routes
        .iter()
        .filter(wanted)
        .map(|route| Owed {
            channel: route.channel,
            class: Class::Alert,
            expires_at,
        })
        .collect()
}

/// How an alert that waits stands to what is now.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its check tells its channel.
    pub assigned: bool,
    /// The channel is told when a check goes down and when it comes back: whoever gets the one waits for the other.
    pub tells_both: bool,
    /// Something newer waits in its lane, and is told after it.
    pub newer_waits: bool,
}

/// Why an alert is not told any more after its fast phase.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Outdated {
    /// It says down, and nothing would say later that the check is not.
    NotDown,
    /// It says that the check came back, and nothing would say later that it is down.
    DownAgain,
    /// The check was taken off its channel.
    Unassigned,
}

impl Outdated {
    /// The sentence that is shown.
    pub const fn sentence(self) -> &'static str {
        match self {
            Outdated::NotDown => "the check is not down any more",
            Outdated::DownAgain => "the check is down again",
            Outdated::Unassigned => "the check does not tell this channel any more",
        }
    }
}

/// Whether an alert that tells this status would leave its receiver with what does not hold: of what came since, nothing
/// is promised to it, as when a check was paused or taken off the channel. A channel that is told of one status alone gets
/// events, which stay true.
pub fn outdated(tells: Status, is: Status, standing: Standing) -> Option<Outdated> {
    let (says_down, is_down) = (tells == Status::Down, is == Status::Down);
    match standing {
        Standing {
            newer_waits: true, ..
        } => None,
        Standing { assigned: false, .. } => Some(Outdated::Unassigned),
        Standing {
            tells_both: false, ..
        } => None,
        _ if says_down == is_down => None,
        _ if says_down => Some(Outdated::NotDown),
        _ => Some(Outdated::DownAgain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Dice;
    use crate::flip::Reason;

    fn flip(from: Status, to: Status) -> Flip {
        Flip {
            seq: 1,
            from,
            to,
            at: Timestamp::from_secs(100),
            expected_at: None,
            reason: Reason::Paused,
        }
    }

    #[test]
    fn what_we_were_away_lengthens_the_time_of_a_delivery_and_gives_it_one_more_try() {
        const HOUR: i64 = 3_600;
        let at = |hours: i64| Timestamp::from_secs(hours * HOUR);
        let away = |from: i64, to: i64| Absence {
            from: at(from),
            to: at(to),
        };
        let expires = |hours: i64| (0, hours);
        let again = |hours: i64| (hours - 24, hours);
        type Row<'a> = (&'a str, Class, (i64, i64), &'a [Absence], i64, Option<i64>, bool);
        let table: [Row<'_>; 10] = [
            ("awake", Class::Alert, expires(24), &[], 24, None, false),
            (
                "away before",
                Class::Alert,
                again(54),
                &[away(1, 30)],
                54,
                None,
                false,
            ),
            (
                "away and untried",
                Class::Alert,
                expires(24),
                &[away(1, 30)],
                53,
                None,
                true,
            ),
            (
                "tried before",
                Class::Alert,
                expires(24),
                &[away(1, 30)],
                53,
                Some(1),
                true,
            ),
            (
                "tried since",
                Class::Alert,
                expires(24),
                &[away(1, 30)],
                53,
                Some(30),
                false,
            ),
            (
                "away at its end",
                Class::Alert,
                expires(24),
                &[away(24, 90)],
                24,
                Some(23),
                true,
            ),
            (
                "away twice",
                Class::Alert,
                expires(24),
                &[away(1, 2), away(24, 90)],
                91,
                Some(3),
                true,
            ),
            (
                "a note of ours",
                Class::Report,
                expires(24),
                &[away(1, 30)],
                53,
                None,
                true,
            ),
            (
                "asked for again",
                Class::Alert,
                again(54),
                &[away(1, 29), away(40, 50)],
                64,
                None,
                true,
            ),
            ("a test", Class::Test, expires(1), &[away(0, 30)], 1, None, false),
        ];
        for (when, class, (promised, expires), absences, ends, tried, owed) in table {
            let term = Term {
                class,
                promised_at: at(if when == "asked for again" { 0 } else { promised }),
                expires_at: at(expires),
                absences,
            };
            assert_eq!(term.ends_at(), at(ends), "{when}");
            assert_eq!(term.is_owed_a_try(tried.map(at)), owed, "{when}");
        }
    }

    #[test]
    fn only_going_down_and_coming_back_is_news() {
        use Status::{Down, New, Paused, Up};
        for (from, to, news) in [
            (New, Up, false),
            (New, Down, true),
            (Up, Down, true),
            (Down, Up, true),
            (Paused, Up, false),
            (Paused, Down, true),
            (Up, Paused, false),
            (Down, Paused, false),
            (Paused, New, false),
        ] {
            assert_eq!(is_news(&flip(from, to)), news, "{from:?} to {to:?}");
        }
    }

    #[test]
    fn an_alert_that_waited_is_told_unless_it_would_be_the_last_word_and_wrong() {
        use Outdated::{DownAgain, NotDown, Unassigned};
        use Status::{Down, New, Paused, Up};
        let both = Standing {
            assigned: true,
            tells_both: true,
            newer_waits: false,
        };
        let one = Standing {
            tells_both: false,
            ..both
        };
        let off = Standing {
            assigned: false,
            ..both
        };
        let waits = |standing| Standing {
            newer_waits: true,
            ..standing
        };
        for (tells, is, standing, why) in [
            (Down, Down, both, None),
            (Down, Up, both, Some(NotDown)),
            (Down, Paused, both, Some(NotDown)),
            (Down, New, both, Some(NotDown)),
            (Up, Up, both, None),
            (Up, Down, both, Some(DownAgain)),
            // Whoever heard that it is down hears that it is not, whatever it is.
            (Up, Paused, both, None),
            (Up, New, both, None),
            (Down, Up, one, None),
            (Up, Down, one, None),
            (Down, Down, off, Some(Unassigned)),
            (Down, Up, waits(both), None),
            (Down, Up, waits(off), None),
        ] {
            let found = outdated(tells, is, standing);
            assert_eq!(found, why, "{tells:?} of a check that is {is:?}, {standing:?}");
        }
    }

    #[test]
    fn each_channel_that_wants_the_state_is_owed_one() {
        let mut dice = Dice::from_number(1);
        let mut route = |tells_down, tells_up, disabled| Route {
            channel: dice.id(),
            tells_down,
            tells_up,
            disabled,
        };
        let routes = [
            route(true, true, false),
            route(true, false, false),
            route(false, false, false),
            route(true, true, true),
        ];
        let channels = |from, to| -> Vec<ChannelId> {
            owed(&flip(from, to), &routes, Timestamp::from_secs(200))
                .iter()
                .map(|o| o.channel)
                .collect()
        };
        assert_eq!(
            channels(Status::Up, Status::Down),
            [routes[0].channel, routes[1].channel]
        );
        assert_eq!(channels(Status::Down, Status::Up), [routes[0].channel]);
        assert_eq!(channels(Status::New, Status::Up), []);
    }
}
