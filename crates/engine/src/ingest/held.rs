//! Checks as the last batch left them, so that the next one need not read them again.
//!
//! What is held is a guess. It is believed only where the row is changed by it, and only if the row still has the version that
//! is held: whatever changes what a ping is decided by moves the version on. So a check is put here behind the commit that wrote
//! it, and no earlier. Nothing is believed any more where the database may have forgotten commits, nor for longer than some
//! minutes. Where other servers change the same checks the guesses are mostly wrong, and nothing is held for a while.

use std::collections::HashMap;
use std::mem;

use allswell_core::check::Check;
use allswell_core::id::CheckId;
use allswell_core::time::{Span, Timestamp};
use allswell_store::ping_keys::KeyRules;

/// Checks in each of the two halves.
const HALF: usize = 8_192;
/// Bytes of text of a check that is held: descriptions may be long, and no ping needs them.
const TEXT_BYTES_MAX: usize = 2_048;
/// How long a check is held until it is read again, however often it is pinged.
const HELD_FOR: Span = Span::from_secs(600);
/// After so many checks it is looked at how many of them were held in vain,
const JUDGED_AFTER: usize = 64;
/// and if it was more than one of so many,
const IN_VAIN_MAX: usize = 8;
/// nothing is held for so many batches.
const PAUSE: u32 = 256;

/// A check, and when it was read.
pub(super) type Read = (Check, Timestamp);

/// What a guess rests on beside the version of its row.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Basis {
    /// What projects ask of pings.
    pub(super) key_rules: KeyRules,
    /// The database that remembers ([`allswell_store::Tx::epoch`]).
    pub(super) epoch: u64,
}

/// Checks that are held. In two halves: where the younger is full, what lies in the older was not asked for in that time, and
/// goes.
#[derive(Default)]
pub(super) struct Held {
    young: HashMap<CheckId, Read>,
    old: HashMap<CheckId, Read>,
    basis: Option<Basis>,
    used: usize,
    in_vain: usize,
    pause: u32,
}

impl Held {
    /// Takes out those of these ids that are held in this epoch, and what their projects asked for. Whoever changes them gives
    /// them back when that is committed.
    pub(super) fn take(
        &mut self,
        ids: &[CheckId],
        epoch: u64,
        now: Timestamp,
    ) -> (Vec<Read>, Option<KeyRules>) {
        self.pause = self.pause.saturating_sub(1);
        let Some(basis) = self.basis.filter(|basis| basis.epoch == epoch) else {
            return (Vec::new(), None);
        };
        let found = ids
            .iter()
            .filter_map(|id| self.young.remove(id).or_else(|| self.old.remove(id)))
            .filter(|(_, read_at)| (Span::ZERO..HELD_FOR).contains(&(now - *read_at)));
        (found.collect(), Some(basis.key_rules))
    }

    /// Keeps what was committed, if it is known what it rests on.
    pub(super) fn keep(&mut self, checks: impl IntoIterator<Item = Read>, basis: Option<Basis>) {
        if self.pause > 0 || basis.is_none() {
            return;
        }
        if self.basis != basis {
            self.clear();
            self.basis = basis;
        }
        for (check, read_at) in checks {
            if !may_be_held(&check) {
                continue;
            }
            if self.young.len() >= HALF {
                self.old = mem::take(&mut self.young);
            }
            self.young.insert(check.id, (check, read_at));
        }
    }

    /// Notes how many were used in a batch, and how many of them had changed meanwhile.
    pub(super) fn judge(&mut self, used: usize, in_vain: usize) {
        self.used += used;
        self.in_vain += in_vain;
        if self.used >= JUDGED_AFTER {
            if self.in_vain * IN_VAIN_MAX > self.used {
                self.pause = PAUSE;
                self.clear();
            }
            (self.used, self.in_vain) = (0, 0);
        }
    }

    fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

/// Not one whose project asks for its key: it may cease to, which nobody would notice who was refused.
fn may_be_held(check: &Check) -> bool {
    let settings = &check.settings;
    let filters = &settings.filters;
    let texts = [
        &settings.name,
        &settings.slug,
        &settings.tags,
        &settings.description,
        &settings.timing.expression,
        &filters.start_keywords,
        &filters.success_keywords,
        &filters.failure_keywords,
    ];
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    !filters.needs_key && !settings.rules.remember() && bytes <= TEXT_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use allswell_core::chance::Dice;
    use allswell_core::check::{Settings, State};

    use super::*;

    fn checks(count: usize) -> Vec<Check> {
        let mut dice = Dice::from_number(7);
        let check = |_| Check {
            id: dice.id(),
            project: dice.id(),
            badge: dice.id(),
            settings: Settings::default(),
            state: State::new(Timestamp::default()),
            deadline: None,
            version: 2,
            created_at: Timestamp::default(),
        };
        (0..count).map(check).collect()
    }

    fn ids(checks: &[Check]) -> Vec<CheckId> {
        checks.iter().map(|check| check.id).collect()
    }

    fn at(secs: i64) -> Timestamp {
        Timestamp::default() + Span::from_secs(secs)
    }

    const BASIS: Option<Basis> = Some(Basis {
        key_rules: KeyRules::FIRST,
        epoch: 3,
    });

    /// As read at the beginning of time.
    fn read(checks: &[Check]) -> Vec<Read> {
        let read = checks.iter().cloned();
        read.map(|check| (check, Timestamp::default())).collect()
    }

    fn take(held: &mut Held, checks: &[Check]) -> Vec<Read> {
        held.take(&ids(checks), 3, at(1)).0
    }

    #[test]
    fn a_check_is_given_once_until_it_is_given_back() {
        let checks = checks(3);
        let mut held = Held::default();
        held.keep(read(&checks[..2]), BASIS);
        let given = held.take(&ids(&checks), 3, at(1));
        assert_eq!(given, (read(&checks[..2]), Some(KeyRules::FIRST)));
        assert_eq!(take(&mut held, &checks), []);
        held.keep(read(&checks[1..]), BASIS);
        assert_eq!(take(&mut held, &checks), read(&checks[1..]));
    }

    #[test]
    fn no_more_are_held_than_there_is_room_for_and_those_go_first_that_nobody_asks_for() {
        let checks = checks(3 * HALF);
        let mut held = Held::default();
        held.keep(read(&checks[..HALF]), BASIS);
        let favourite = &checks[..1];
        for others in checks[HALF..].chunks(HALF / 4) {
            held.keep(read(others), BASIS);
            assert!(held.young.len() + held.old.len() <= 2 * HALF);
            let again = take(&mut held, favourite);
            assert_eq!(again, read(favourite));
            held.keep(again, BASIS);
        }
        assert_eq!(take(&mut held, &checks[1..HALF]), []);
    }

    #[test]
    fn what_was_read_long_ago_or_by_a_clock_ahead_is_read_again() {
        for (secs, is_there) in [(-1, false), (0, true), (599, true), (600, false)] {
            let checks = checks(1);
            let mut held = Held::default();
            held.keep(read(&checks), BASIS);
            let (given, _) = held.take(&ids(&checks), 3, at(secs));
            assert_eq!(given.len(), usize::from(is_there), "{secs}");
        }
    }

    #[test]
    fn another_basis_ends_all_that_is_held_and_none_is_no_other() {
        let checks = checks(2);
        let later = Basis {
            key_rules: KeyRules::FIRST.next(),
            epoch: 3,
        };
        for (basis, given) in [(BASIS, 2), (None, 1), (Some(later), 1)] {
            let mut held = Held::default();
            held.keep(read(&checks[..1]), BASIS);
            held.keep(read(&checks[1..]), basis);
            assert_eq!(take(&mut held, &checks).len(), given, "{basis:?}");
        }
        let mut held = Held::default();
        held.keep(read(&checks), BASIS);
        assert_eq!(
            held.take(&ids(&checks), 4, at(1)),
            (vec![], None),
            "another epoch"
        );
    }

    #[test]
    fn what_is_long_or_asks_for_keys_or_remembers_is_not_held() {
        let is_held = |change: fn(&mut Check)| {
            let mut check = checks(1);
            change(&mut check[0]);
            let mut held = Held::default();
            held.keep(read(&check), BASIS);
            !take(&mut held, &check).is_empty()
        };
        assert!(is_held(|_| {}));
        assert!(is_held(|check| check.settings.description = "x".repeat(2_000)));
        assert!(!is_held(|check| check.settings.description = "x".repeat(2_049)));
        assert!(!is_held(|check| check.settings.filters.needs_key = true));
        assert!(!is_held(|check| check.settings.rules.failures = Some(3)));
    }

    #[test]
    fn nothing_is_held_for_a_while_where_it_is_mostly_wrong() {
        for (in_vain, goes_on) in [(0, true), (8, true), (9, false)] {
            let checks = checks(1);
            let mut held = Held::default();
            held.judge(JUDGED_AFTER, in_vain);
            let mut batches = 0;
            let again = loop {
                held.keep(read(&checks), BASIS);
                batches += 1;
                if !take(&mut held, &checks).is_empty() {
                    break batches;
                }
            };
            assert_eq!(again, if goes_on { 1 } else { PAUSE + 1 }, "{in_vain}");
        }
    }
}
