//! Taking what was committed to a check as its history, in its order, and asking of each ping and each deed whether the
//! flip that it must give is there, and says what it must.

use std::collections::BTreeSet;

use allswell_core::check::Status;
use allswell_core::flip::{Flip, Reason};
use allswell_core::signal::Kind;
use allswell_core::time::Timestamp;
use allswell_store::simulated::{Noticed, Stored};

use crate::alerting::nominal_of;
use crate::model::{Around, Channel, Deed, Fact, Model, Note, schedule};
use crate::orders::Orders;
use crate::rules::{CHAIN, Held, ONCE, broken, holds};

/// What was committed to a check since the last look at it, each kind in its order.
#[derive(Clone)]
pub(crate) struct News {
    pub(crate) pings: Vec<Stored>,
    pub(crate) flips: Vec<Noticed>,
    pub(crate) notes: Vec<Note>,
    /// Clocks of those who may have brought back what lay ahead of them.
    pub(crate) set_back: Vec<Timestamp>,
}

impl Model {
    /// What the address of a ping means to this check now.
    fn means(&self, kind: Kind) -> Kind {
        if self.status() == Status::Paused && self.settings.filters.manual_resume {
            Kind::Ignored
        } else {
            kind
        }
    }

    /// Takes what was committed since the last look, in one of the orders that it may have had. `asked` gives what a ping's
    /// address said, `heard` notes what left no row.
    pub(crate) fn follow(
        &mut self,
        news: News,
        asked: impl Fn(&Stored) -> Option<Kind>,
        heard: impl Fn(&mut Model),
        around: &Around<'_>,
        orders: &mut Orders,
    ) -> Held {
        let (mut pings, mut flips, mut notes) = (
            news.pings.into_iter().peekable(),
            news.flips.into_iter().peekable(),
            news.notes.into_iter().peekable(),
        );
        let mut set_back = news.set_back;
        let by_time_alone = pings.peek().is_none() && notes.peek().is_none();
        // Before what is made of its silence.
        heard(self);
        loop {
            if around.several {
                self.looked_at(around);
            }
            let here = (self.pings, self.flips.len() as u64);
            let by_time = flips.peek().is_some_and(|next| self.could_be_missed(&next.flip));
            let ignored = pings.peek().is_some_and(|ping| self.is_ignored(ping, &asked));
            if notes.peek().is_none() && pings.peek().is_none() && !by_time {
                heard(self);
            }
            let ahead = set_back.iter().position(|at| self.lies_ahead(*at));
            if let Some(place) = ahead
                && orders.choose(2) == 0
            {
                self.set_back(set_back.remove(place));
            } else if let Some(note) = notes.next_if(|note| (note.pings, note.flips) == here) {
                self.done(note, &mut flips)?;
            } else if by_time && (pings.peek().is_none() || orders.choose(2) == u32::from(ignored)) {
                self.missed(flips.next().expect("just seen"), around)?;
            } else if let Some(ping) = pings.next() {
                self.pinged(&ping, asked(&ping), &mut flips)?;
            } else {
                break;
            }
        }
        if by_time_alone {
            self.looked_at(around);
        }
        if let Some(flip) = flips.next() {
            return broken(CHAIN, format!("nothing in the history gives {flip:?}"));
        }
        match notes.next() {
            Some(note) => broken(
                CHAIN,
                format!("{note:?} was done to a check that had another history"),
            ),
            None => Ok(()),
        }
    }

    fn turn(
        &mut self,
        to: Status,
        at: Timestamp,
        fits: impl Fn(&Reason) -> bool,
        flips: &mut impl Iterator<Item = Noticed>,
    ) -> Held {
        if self.status() == to {
            return Ok(());
        }
        let at = at.max(self.status_since());
        let Some(Noticed { flip, .. }) = flips.next() else {
            let from = self.status();
            return broken(
                CHAIN,
                format!("check {} has no flip from {from:?} to {to:?} at {at}", self.id),
            );
        };
        let seq = self.flips.len() as u64 + 1;
        let truth =
            (flip.seq, flip.from, flip.to, flip.at) == (seq, self.status(), to, at) && fits(&flip.reason);
        holds(CHAIN, truth, || {
            let from = self.status();
            format!("{flip:?}, and not number {seq} from {from:?} to {to:?} at {at}")
        })?;
        self.flipped(flip);
        Ok(())
    }

    pub(crate) fn flipped(&mut self, flip: Flip) {
        let news = flip.to == Status::Down || (flip.from, flip.to) == (Status::Down, Status::Up);
        if news {
            let wants = |channel: &&Channel| {
                if flip.to == Status::Down {
                    channel.down
                } else {
                    channel.up
                }
            };
            for channel in self.channels.iter().filter(wants) {
                let owed = (flip.seq, channel.id);
                if self.switched.contains(&channel.id) {
                    self.perhaps_owed.push(owed);
                } else if !self.off.contains(&channel.id) {
                    self.owed.push(owed);
                }
            }
        }
        self.flips.push(flip);
        self.excused = BTreeSet::from([None]);
    }

    fn done(&mut self, note: Note, flips: &mut impl Iterator<Item = Noticed>) -> Held {
        let at = note.at;
        match note.what {
            Deed::Pause => {
                self.turn(Status::Paused, at, |reason| *reason == Reason::Paused, flips)?;
                self.history.push(Fact::Pause);
                self.excused = BTreeSet::from([None]);
            }
            Deed::PauseUntil(until) => {
                let fits = |reason: &Reason| {
                    *reason
                        == Reason::PausedUntil {
                            until: until.as_micros(),
                        }
                };
                self.turn(Status::Paused, at, fits, flips)?;
                self.history.push(Fact::PauseUntil(until));
                self.excused = BTreeSet::from([None]);
            }
            Deed::Resume => {
                if self.status() == Status::Paused {
                    self.turn(Status::New, at, |reason| *reason == Reason::Resumed, flips)?;
                    self.history.push(Fact::Resume);
                }
            }
            Deed::Edit(settings, channels) => {
                self.schedule = schedule(&settings);
                self.history.push(Fact::Edit(settings.rules));
                self.settings = *settings;
                let told = self.channels.iter().map(|channel| channel.id);
                let gone = told.filter(|id| channels.iter().all(|channel| channel.id != *id));
                self.taken_off.extend(gone);
                self.channels = channels;
            }
            Deed::Delete => self.deleted = true,
        }
        Ok(())
    }

    fn pinged(
        &mut self,
        ping: &Stored,
        asked: Option<Kind>,
        flips: &mut impl Iterator<Item = Noticed>,
    ) -> Held {
        let kind = asked.map(|kind| self.means(kind));
        holds(ONCE, kind == Some(ping.kind), || {
            format!("{ping:?} of check {} should have said {kind:?}", self.id)
        })?;
        let outcome = self.outcome(ping);
        self.pings += 1;
        let outcome = match outcome {
            None => None,
            Some((outcome, fits)) => {
                let to = if outcome.up { Status::Up } else { Status::Down };
                self.turn(to, ping.at, fits, flips)?;
                Some(outcome)
            }
        };
        self.heard(Fact::Ping {
            at: ping.at,
            kind: ping.kind,
            rid: ping.rid,
            outcome,
        });
        Ok(())
    }

    /// Whether a ping was ignored since the check is paused: then it came before the end of that pause.
    fn is_ignored(&self, ping: &Stored, asked: impl Fn(&Stored) -> Option<Kind>) -> bool {
        let kind = asked(ping).map(|kind| self.means(kind));
        (ping.kind, kind) == (Kind::Ignored, Some(Kind::Ignored))
    }

    fn could_be_missed(&self, flip: &Flip) -> bool {
        if flip.seq != self.flips.len() as u64 + 1 {
            return false;
        }
        if let Reason::PauseOver { until } = flip.reason {
            return self.status() == Status::Paused
                && self.pause_end().is_some_and(|at| at.as_micros() == until);
        }
        nominal_of(&flip.reason).is_some()
            && self.waits().is_some_and(|waits| waits.is_missed_by(&flip.reason))
    }
}

#[cfg(test)]
mod tests {
    use allswell_core::check::{Check, Settings, State};
    use allswell_core::signal::Cause;
    use allswell_core::time::Span;
    use uuid::Uuid;

    use super::*;

    const AT: Timestamp = Timestamp::from_secs(1_000_000);

    fn after(secs: i64) -> Timestamp {
        AT + Span::from_secs(secs)
    }

    fn ping(n: u64, at: Timestamp, kind: Kind, rid: Option<Uuid>) -> Stored {
        Stored {
            n,
            at,
            kind,
            rid,
            user_agent: String::new(),
        }
    }

    fn flip(seq: u64, from: Status, to: Status, at: Timestamp, reason: Reason) -> Noticed {
        let expected_at = match reason {
            Reason::RunTimeout { started, .. } => Some(Timestamp::from_micros(started)),
            _ => None,
        };
        Noticed {
            flip: Flip {
                seq,
                from,
                to,
                at,
                expected_at,
                reason,
            },
            noticed_at: after(200),
        }
    }

    /// A check that is up, with a run that should have ended 90 seconds after it began.
    fn known() -> (Model, Around<'static>) {
        let id = Uuid::from_u128(1);
        let settings = Settings {
            grace: Span::from_secs(90),
            ..Settings::default()
        };
        let check = Check {
            id: id.into(),
            project: id.into(),
            badge: id,
            settings,
            state: State::new(AT),
            deadline: None,
            version: 1,
            created_at: AT,
        };
        let around = Around {
            absences: &[],
            absences_before: &[],
            several: true,
            last_mark: Some(after(200)),
            clocks_right: false,
            latest_clock: after(200),
        };
        let mut model = Model::new(&check, Vec::new());
        let up = Reason::Success {
            ping: 1,
            cause: Cause::Address,
        };
        let begins = News {
            pings: vec![
                ping(1, AT, Kind::Success, None),
                ping(2, after(1), Kind::Start, None),
            ],
            flips: vec![flip(1, Status::New, Status::Up, AT, up)],
            notes: Vec::new(),
            set_back: Vec::new(),
        };
        follow(&mut model, &around, begins, |_| true).expect("it begins");
        (model, around)
    }

    /// Whether some order bears it out in which `agrees` holds in the end.
    fn follow(
        model: &mut Model,
        around: &Around<'_>,
        news: News,
        agrees: impl Fn(&Model) -> bool,
    ) -> Result<(), &'static str> {
        let (known, mut orders) = (model.clone(), Orders::default());
        loop {
            *model = known.clone();
            let asked = |ping: &Stored| Some(ping.kind);
            let followed = model.follow(news.clone(), asked, |_| {}, around, &mut orders);
            if followed.is_ok() && agrees(model) {
                return Ok(());
            }
            if !orders.another() {
                return Err(followed.map_or_else(|broken| broken.rule, |()| "another state"));
            }
        }
    }

    fn overdue() -> Noticed {
        let reason = Reason::RunTimeout {
            started: after(1).as_micros(),
            last_alive: None,
            grace: 90,
            moved_from: None,
        };
        flip(2, Status::Up, Status::Down, after(91), reason)
    }

    #[test]
    fn a_ping_that_ends_no_run_may_have_come_before_the_flip_for_its_end() {
        for (rid, borne_out) in [(Some(Uuid::from_u128(7)), true), (None, false)] {
            let (mut model, around) = known();
            let news = News {
                pings: vec![ping(3, after(150), Kind::Success, rid)],
                flips: vec![overdue()],
                notes: Vec::new(),
                set_back: Vec::new(),
            };
            let followed = follow(&mut model, &around, news, |_| true);
            assert_eq!(followed.is_ok(), borne_out, "{rid:?} {followed:?}");
            if borne_out {
                assert_eq!(model.status(), Status::Down);
            }
        }
    }

    #[test]
    fn what_was_heard_by_a_clock_ahead_may_be_brought_back_in_between() {
        // The second start comes before the clock that is right brings back, or behind it.
        for (second, begun) in [(after(4_000), after(150)), (after(3_000), after(3_000))] {
            let (mut model, around) = known();
            let news = News {
                pings: vec![
                    ping(3, after(3_000), Kind::Success, None),
                    ping(4, second, Kind::Start, None),
                ],
                flips: Vec::new(),
                notes: Vec::new(),
                set_back: vec![after(150)],
            };
            let wanted = (Some((begun, None)), Some(after(150)));
            let agrees = |model: &Model| (model.open_run(), model.last_ping()) == wanted;
            follow(&mut model, &around, news, agrees).expect("there is such an order");
        }
    }
}
