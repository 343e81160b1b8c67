//! Flips that time alone gives: a deadline that passed, the end of a pause, and what our absences gave before.

use std::collections::BTreeSet;

use allswell_core::absence::{ABSENCE_MIN, Absence};
use allswell_core::check::{Status, TimingKind};
use allswell_core::flip::Reason;
use allswell_core::signal::Kind;
use allswell_core::time::{Span, Timestamp};
use allswell_store::simulated::Noticed;

use crate::alerting::{Waits, nominal_of};
use crate::model::{Around, Fact, Model};
use crate::rules::{ABSENCE, CHAIN, EARLY, Held, broken, holds};

impl Model {
    pub(crate) fn missed(&mut self, noticed: Noticed, around: &Around<'_>) -> Held {
        let Noticed { flip, noticed_at } = noticed;
        let tell = || format!("check {}: {flip:?}, noticed at {noticed_at}", self.id);
        if let Reason::PauseOver { until } = flip.reason {
            let until = Timestamp::from_micros(until);
            let chains = (flip.from, flip.to) == (Status::Paused, Status::New)
                && flip.at == until.max(self.status_since());
            holds(CHAIN, chains, tell)?;
            holds(
                EARLY,
                noticed_at >= until && noticed_at <= around.latest_clock,
                tell,
            )?;
            self.flipped(flip);
            self.history.push(Fact::PauseOver(until));
            return Ok(());
        }
        let Some(waits) = self.waits() else {
            return broken(EARLY, format!("{}, and nothing was awaited", tell()));
        };
        let Some(moved_from) = nominal_of(&flip.reason) else {
            return broken(CHAIN, tell());
        };
        let nominal = waits.until;
        let chains = flip.from == self.status()
            && flip.to == Status::Down
            && flip.expected_at == Some(waits.expected)
            && waits.is_missed_by(&flip.reason);
        holds(CHAIN, chains, tell)?;
        holds(
            EARLY,
            noticed_at >= nominal && noticed_at <= around.latest_clock,
            || {
                format!(
                    "{}, clocks at {}, deadline {nominal}",
                    tell(),
                    around.latest_clock
                )
            },
        )?;
        match moved_from {
            None => {
                holds(EARLY, flip.at == nominal.max(self.status_since()), || {
                    format!("{}, deadline {nominal}", tell())
                })?;
                let unseen = around
                    .last_mark
                    .is_some_and(|last| last < nominal && noticed_at - last > ABSENCE_MIN);
                holds(ABSENCE, !unseen || !around.clocks_right, || {
                    format!("{}, and nobody was awake since {:?}", tell(), around.last_mark)
                })?;
                let swallowed = around
                    .absences
                    .iter()
                    .find(|a| a.from < nominal && nominal <= a.to);
                holds(ABSENCE, swallowed.is_none() || !around.clocks_right, || {
                    format!("{}, deadline {nominal} in {swallowed:?}", tell())
                })?;
            }
            Some(from) => {
                // Behind a clock that was set back, a flip is no older than the one before it.
                let passed = noticed_at >= flip.at || flip.at == self.status_since();
                let truth = from == nominal.as_micros() && flip.at > nominal && passed;
                holds(ABSENCE, truth, || format!("{}, deadline {nominal}", tell()))?;
            }
        }
        if around.clocks_right {
            let deadlines = self.deadlines(&waits, around);
            let fits = |at: &Timestamp| {
                (*at > nominal) == moved_from.is_some() && (*at).max(self.status_since()) == flip.at
            };
            holds(ABSENCE, deadlines.iter().any(fits), || {
                format!(
                    "{}, deadline {nominal}, by the absences {deadlines:?} of {:?} and {:?}",
                    tell(),
                    self.excused,
                    around.absences
                )
            })?;
        }
        self.flipped(flip);
        self.history.push(Fact::Missed);
        Ok(())
    }

    /// Until when it may go on being silent, each sweep that may have come taken for one: what is excused now, and that
    /// after the absences that were written down by then.
    fn deadlines(&self, waits: &Waits, around: &Around<'_>) -> BTreeSet<Timestamp> {
        let known = self
            .excused
            .iter()
            .map(|until| until.map_or(waits.until, |until| until.max(waits.until)));
        let known: BTreeSet<Timestamp> = known.collect();
        let lists = [around.absences, around.absences_before];
        let each = |known: &Timestamp| lists.map(|absences| self.excused_until(waits, *known, absences));
        known.iter().flat_map(each).collect()
    }

    /// A sweep may have looked at it: what it would have written down is possible from here on.
    pub(crate) fn looked_at(&mut self, around: &Around<'_>) {
        let Some(waits) = self.waits() else { return };
        let moved: Vec<_> = self
            .deadlines(&waits, around)
            .into_iter()
            .filter(|at| *at > waits.until)
            .collect();
        self.excused.extend(moved.into_iter().map(Some));
    }

    /// Takes a ping as a fact. What an absence gave ends with a success or a failure, and with whatever puts something else
    /// in the place of what was awaited then, unless that would be overdue at once.
    pub(crate) fn heard(&mut self, ping: Fact) {
        let before = self.waits().map(|waits| waits.expected);
        let Fact::Ping { at, kind, .. } = ping else {
            return self.history.push(ping);
        };
        self.history.push(ping);
        let now = self.waits();
        let another = now.as_ref().map(|waits| waits.expected) != before;
        let ends = matches!(kind, Kind::Success | Kind::Fail)
            || (another && now.is_none_or(|waits| waits.until > at));
        if ends {
            self.excused = BTreeSet::from([None]);
        }
    }

    /// The deadline after these absences. The first that swallows it gives an allowance; of that only the time counts that we
    /// were awake, and the fifteen seconds after each last sign of life that we cannot know about: a later one gives back
    /// the rest.
    fn excused_until(&self, waits: &Waits, known: Timestamp, absences: &[Absence]) -> Timestamp {
        let instant = Span::from_micros(1);
        let (mut until, mut given) = (known, known != waits.until);
        for absence in absences {
            if until <= absence.from || absence.to < until {
                continue;
            }
            let left = match given {
                false => self.allowance(waits),
                // It was used up when we left.
                true if until <= absence.from + instant => continue,
                // An instant, or this absence would swallow what it has given.
                true => (until - (absence.from + Span::from_secs(15))).max(instant),
            };
            (until, given) = (absence.to + left, true);
        }
        until
    }

    /// What our return gives: the limit of what is awaited, at least a minute, at most a period, or the distance to the time
    /// after the one that was missed.
    fn allowance(&self, waits: &Waits) -> Span {
        let period = match self.settings.timing.kind {
            TimingKind::Period => self.settings.timing.period,
            _ => match self.schedule.next_after(waits.expected) {
                Some(next) => next - waits.expected,
                None => waits.limit,
            },
        };
        waits.limit.min(period).max(Span::from_secs(60))
    }
}
