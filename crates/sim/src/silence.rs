//! Flips that time alone gives: a deadline that passed, the end of a pause, and what our absences gave before.

use allswell_core::absence::{ABSENCE_MIN, Absence};
use allswell_core::check::{Settings, Status, TimingKind};
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
                if self.plain && around.clocks_right {
                    self.excused_rightly(&waits, flip.at, around.absences)?;
                }
            }
        }
        self.flipped(flip);
        self.history.push(Fact::Missed);
        Ok(())
    }

    /// What our return gave is an allowance, of which only the time counts that we were awake, and the fifteen seconds
    /// after each last sign of life that we cannot know about.
    fn excused_rightly(&self, waits: &Waits, at: Timestamp, absences: &[Absence]) -> Held {
        let nominal = waits.until;
        // Signals give it an allowance of its own. One that came after it had passed left what was in force before.
        if self.heard_last().is_some_and(|heard| heard >= nominal) {
            return Ok(());
        }
        // Another limit of what is awaited may have been given time before that, which still holds.
        let before =
            |a: &&Absence| a.to > waits.expected && self.heard_last().is_some_and(|heard| heard >= a.to);
        if !self.settings.rules.are_off() && absences.iter().any(|a| before(&a)) {
            return Ok(());
        }
        let mut swallowing = absences
            .iter()
            .skip_while(|a| !(a.from < nominal && nominal <= a.to));
        let Some(first) = swallowing.next() else {
            return broken(
                ABSENCE,
                format!(
                    "check {}: deadline {nominal} moved to {at}, and fell into none of {absences:?}",
                    self.id
                ),
            );
        };
        let allowances = self.allowances(waits);
        if allowances.is_empty() {
            return Ok(());
        }
        let later: Vec<&Absence> = swallowing.collect();
        let ends: Vec<Timestamp> = allowances
            .iter()
            .map(|allowance| excused_until(*allowance, first, &later).max(self.status_since()))
            .collect();
        holds(ABSENCE, ends.contains(&at), || {
            format!(
                "check {}: deadline {nominal} moved to {at} and not to {ends:?}, allowances {allowances:?}, {absences:?}",
                self.id
            )
        })
    }

    /// When it last said something that may have moved its deadline.
    fn heard_last(&self) -> Option<Timestamp> {
        self.history.iter().rev().find_map(|fact| match fact {
            Fact::Ping { at, kind, .. } if !matches!(kind, Kind::Log | Kind::Ignored) => Some(*at),
            _ => None,
        })
    }

    /// The most that an absence may have given: the limit of what is awaited, or of what was while we were away, at least a
    /// minute, at most a period.
    fn allowances(&self, waits: &Waits) -> Vec<Span> {
        let Settings { grace, rules, .. } = &self.settings;
        let of_rules = [rules.max_run_secs, rules.start_grace_secs].into_iter().flatten();
        let mut limits = vec![waits.limit];
        if !rules.are_off() {
            limits.push(*grace);
            limits.extend(of_rules.map(|secs| Span::from_secs(i64::from(secs))));
        }
        if self.settings.timing.kind != TimingKind::Period {
            return Vec::new();
        }
        let period = self.settings.timing.period;
        let allowed = limits
            .into_iter()
            .map(|limit| limit.min(period).max(Span::from_secs(60)));
        allowed.collect()
    }
}

/// Until when an allowance lasts that the first absence gave, and of which later ones gave back the rest.
fn excused_until(allowance: Span, first: &Absence, later: &[&Absence]) -> Timestamp {
    let instant = Span::from_micros(1);
    let (mut back, mut left) = (first.to, allowance);
    for absence in later {
        let ends = back + left;
        if absence.from + instant < ends && ends <= absence.to {
            // An instant, or this absence would swallow what it has given.
            left = (ends - (absence.from + Span::from_secs(15))).max(instant);
            back = absence.to;
        }
    }
    back + left
}
