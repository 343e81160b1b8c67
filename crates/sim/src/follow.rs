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
use crate::rules::{CHAIN, Held, ONCE, broken, holds};

impl Model {
    /// What the address of a ping means to this check now.
    fn means(&self, kind: Kind) -> Kind {
        if self.status() == Status::Paused && self.settings.filters.manual_resume {
            Kind::Ignored
        } else {
            kind
        }
    }

    /// Takes what was committed since the last look, in its order. `asked` gives what a ping's address said.
    pub(crate) fn follow(
        &mut self,
        pings: Vec<Stored>,
        flips: Vec<Noticed>,
        notes: Vec<Note>,
        asked: impl Fn(&Stored) -> Option<Kind>,
        around: &Around<'_>,
    ) -> Held {
        let (mut pings, mut flips, mut notes) = (
            pings.into_iter().peekable(),
            flips.into_iter().peekable(),
            notes.into_iter().peekable(),
        );
        let by_time_alone = pings.peek().is_none() && notes.peek().is_none();
        loop {
            if around.several {
                self.looked_at(around);
            }
            let here = (self.pings, self.flips.len() as u64);
            if let Some(note) = notes.next_if(|note| (note.pings, note.flips) == here) {
                self.done(note, &mut flips)?;
            } else if !pings.peek().is_some_and(|ping| self.is_ignored(ping, &asked))
                && flips.peek().is_some_and(|next| self.could_be_missed(&next.flip))
            {
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
