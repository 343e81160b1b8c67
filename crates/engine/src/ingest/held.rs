//! Checks as the last batch left them, so that the next one need not read them again.
//!
//! What is held is a guess. It is believed only where the row is changed by it, and only if the row still has the version that
//! is held: whatever changes what a ping is decided by moves the version on. So a check is put here behind the commit that wrote
//! it, and no earlier. Where other servers change the same checks the guesses are mostly wrong, and nothing is held for a while.

use std::collections::HashMap;
use std::mem;

use allswell_core::check::Check;
use allswell_core::id::CheckId;
use allswell_core::time::{Span, Timestamp};
use allswell_store::ping_keys::KeyRules;

/// Checks in each of the two halves.
const HALF: usize = 8_192;
/// After so long what is held grows old, and after as long again it goes: far sooner than a deleted check's id can be used
/// again.
const HALF_LIFE: Span = Span::from_secs(600);
/// After so many checks it is looked at how many of them were held in vain,
const JUDGED_AFTER: usize = 64;
/// and if it was more than one of so many,
const IN_VAIN_MAX: usize = 8;
/// nothing is held for so many batches.
const PAUSE: u32 = 256;

/// Checks that are held. In two halves: where the younger is full, what lies in the older was not asked for in that time, and
/// goes.
#[derive(Default)]
pub(super) struct Held {
    young: HashMap<CheckId, Check>,
    old: HashMap<CheckId, Check>,
    young_since: Timestamp,
    /// What projects asked of pings when these were read.
    key_rules: Option<KeyRules>,
    used: usize,
    in_vain: usize,
    pause: u32,
}

impl Held {
    /// Takes out those of these ids that are held, and what their projects asked then. Whoever changes them gives them back
    /// when that is committed.
    pub(super) fn take(&mut self, ids: &[CheckId]) -> (Vec<Check>, Option<KeyRules>) {
        self.pause = self.pause.saturating_sub(1);
        let found = ids
            .iter()
            .filter_map(|id| self.young.remove(id).or_else(|| self.old.remove(id)));
        (found.collect(), self.key_rules)
    }

    /// Keeps what was committed at an instant, and was read under these rules or written under them since.
    pub(super) fn keep(
        &mut self,
        checks: impl IntoIterator<Item = Check>,
        key_rules: Option<KeyRules>,
        now: Timestamp,
    ) {
        if self.pause > 0 {
            return;
        }
        if self.key_rules != key_rules {
            self.clear();
            self.key_rules = key_rules;
        }
        let age = now - self.young_since;
        if age > HALF_LIFE || age < Span::ZERO {
            self.turn(now);
        }
        for check in checks {
            // A project that asks for its key may cease to, which nobody would notice who was refused.
            if check.settings.filters.needs_key || check.settings.rules.remember() {
                continue;
            }
            if self.young.len() >= HALF {
                self.turn(now);
            }
            self.young.insert(check.id, check);
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

    fn turn(&mut self, now: Timestamp) {
        self.old = mem::take(&mut self.young);
        self.young_since = now;
    }

    fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
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

    const RULES: Option<KeyRules> = Some(KeyRules::FIRST);

    #[test]
    fn a_check_is_given_once_until_it_is_given_back() {
        let checks = checks(3);
        let mut held = Held::default();
        held.keep(checks[..2].to_vec(), RULES, at(0));
        assert_eq!(held.take(&ids(&checks)), (checks[..2].to_vec(), RULES));
        assert_eq!(held.take(&ids(&checks)).0, []);
        held.keep(checks[1..].to_vec(), RULES, at(0));
        assert_eq!(held.take(&ids(&checks)).0, checks[1..]);
    }

    #[test]
    fn no_more_are_held_than_there_is_room_for_and_those_go_first_that_nobody_asks_for() {
        let checks = checks(3 * HALF);
        let mut held = Held::default();
        held.keep(checks[..HALF].to_vec(), RULES, at(0));
        let favourite = checks[0].clone();
        for others in checks[HALF..].chunks(HALF / 4) {
            held.keep(others.to_vec(), RULES, at(0));
            assert!(held.young.len() + held.old.len() <= 2 * HALF);
            let (again, _) = held.take(&[favourite.id]);
            assert_eq!(again, [favourite.clone()]);
            held.keep(again, RULES, at(0));
        }
        assert_eq!(held.take(&ids(&checks[1..HALF])).0, []);
    }

    #[test]
    fn what_nobody_asks_for_is_gone_within_twenty_minutes_of_others_being_pinged() {
        for (secs, is_there) in [(600, true), (1_199, true), (1_202, false)] {
            let checks = checks(2);
            let mut held = Held::default();
            held.keep(checks[..1].to_vec(), RULES, at(0));
            for sec in 1..=secs {
                held.keep(checks[1..].to_vec(), RULES, at(sec));
            }
            assert_eq!(
                held.take(&ids(&checks[..1])).0.len(),
                usize::from(is_there),
                "{secs}"
            );
        }
    }

    #[test]
    fn other_rules_about_keys_end_all_that_is_held() {
        let checks = checks(2);
        let mut held = Held::default();
        held.keep(checks[..1].to_vec(), RULES, at(0));
        let others = Some(KeyRules::FIRST.next());
        held.keep(checks[1..].to_vec(), others, at(0));
        assert_eq!(held.take(&ids(&checks)), (checks[1..].to_vec(), others));
    }

    #[test]
    fn nothing_is_held_for_a_while_where_it_is_mostly_wrong() {
        for (in_vain, goes_on) in [(0, true), (8, true), (9, false)] {
            let checks = checks(1);
            let mut held = Held::default();
            held.judge(JUDGED_AFTER, in_vain);
            let mut batches = 0;
            let again = loop {
                held.keep(checks.clone(), RULES, at(0));
                batches += 1;
                if !held.take(&ids(&checks)).0.is_empty() {
                    break batches;
                }
            };
            assert_eq!(again, if goes_on { 1 } else { PAUSE + 1 }, "{in_vain}");
        }
    }
}
