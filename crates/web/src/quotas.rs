//! How often whom: quotas by key and by client, kept in memory and bounded.
//!
//! The counts are this process's. Those that guard secrets are also written down, so that all nodes count together:
//! see [`crate::state::App::note_wrong_key`].

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use allswell_core::limits::QUOTA_SUBJECTS_MAX;
use allswell_core::quota::{Quota, Verdict};
use allswell_core::time::{Span, Timestamp};

/// One quota for many subjects.
pub(crate) struct Quotas<K> {
    quota: Quota,
    used: Mutex<HashMap<K, Timestamp>>,
}

impl<K: Eq + Hash + Clone> Quotas<K> {
    pub(crate) fn new(quota: Quota) -> Self {
        Quotas {
            quota,
            used: Mutex::default(),
        }
    }

    /// Takes one for this subject, if there is one to take.
    pub(crate) fn take(&self, subject: &K, now: Timestamp) -> Verdict {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = used.get_mut(subject) {
            return self.quota.take(until, now);
        }
        if used.len() >= QUOTA_SUBJECTS_MAX {
            // Who has been quiet need not be remembered.
            used.retain(|_, until| *until > now);
        }
        if used.len() >= QUOTA_SUBJECTS_MAX {
            // So many at once are a flood from everywhere: forgetting all of it is the kinder mistake.
            used.clear();
        }
        self.quota.take(used.entry(subject.clone()).or_insert(now), now)
    }

    /// Uses up all that this subject has.
    pub(crate) fn exhaust(&self, subject: &K, now: Timestamp) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.insert(subject.clone(), now + self.quota.per);
    }
}

/// Who asks, as limits count them: an address, or all 2^64 of an IPv6 network that one customer has.
pub(crate) fn client_of(address: Option<IpAddr>) -> IpAddr {
    match address.map(|address| address.to_canonical()) {
        Some(IpAddr::V6(v6)) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        Some(v4) => v4,
        // Those of whom a proxy of ours tells nothing share one.
        None => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// The site that a client is of, as [`client_of`] names it: the 2^80 addresses of IPv6 that one customer may be given.
/// Elsewhere the client itself.
pub(crate) fn site_of(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !(u128::MAX >> 48))),
        IpAddr::V4(_) => client,
    }
}

/// What other nodes are still to be told of clients: how much since they were told last, and when that was.
#[derive(Default)]
pub(crate) struct Untold(Mutex<HashMap<IpAddr, (Timestamp, i64)>>);

/// Others are told of one client so often at most.
const TOLD_EVERY: Span = Span::from_secs(1);

impl Untold {
    /// Adds one of this client; gives how many are to be told of now, if it is time to.
    pub(crate) fn add(&self, client: IpAddr, now: Timestamp) -> Option<i64> {
        let mut untold = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if untold.len() >= QUOTA_SUBJECTS_MAX && !untold.contains_key(&client) {
            untold.clear();
        }
        let (told_at, count) = untold.entry(client).or_insert((now - TOLD_EVERY, 0));
        *count += 1;
        // An instant of time to come was noted by a clock that has been set back since.
        if *told_at <= now && now - *told_at < TOLD_EVERY {
            return None;
        }
        *told_at = now;
        Some(std::mem::take(count))
    }
}

/// Seconds after which the next one will do, rounded up.
pub(crate) fn retry_secs(verdict: Verdict) -> i64 {
    verdict.retry.as_micros().div_euclid(1_000_000) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000_000);

    #[test]
    fn each_subject_has_its_own_quota() {
        let quotas = Quotas::new(Quota::new(2, Span::from_secs(60)));
        let mut allowed = |subject: &str| quotas.take(&subject.to_owned(), NOW).allowed;
        assert_eq!(["a", "a", "a", "b"].map(&mut allowed), [true, true, false, true]);
        quotas.exhaust(&"c".to_owned(), NOW);
        assert!(!quotas.take(&"c".to_owned(), NOW).allowed);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let quotas = Quotas::new(Quota::new(2, Span::from_secs(60)));
        for subject in 0..QUOTA_SUBJECTS_MAX + 10 {
            quotas.take(&subject, NOW);
        }
        assert!(quotas.used.lock().expect("the map").len() <= QUOTA_SUBJECTS_MAX);
    }

    #[test]
    fn an_ipv6_network_counts_as_one_client() {
        let client = |text: &str| client_of(Some(text.parse().expect("an address")));
        assert_eq!(client("2001:db8:1:2::1"), client("2001:db8:1:2:ffff::9"));
        assert_ne!(client("2001:db8:1:2::1"), client("2001:db8:1:3::1"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
    }

    #[test]
    fn many_networks_of_one_site_count_together() {
        let site = |text: &str| site_of(client_of(Some(text.parse().expect("an address"))));
        assert_eq!(site("2001:db8:1:2::1"), site("2001:db8:1:ffff::1"));
        assert_ne!(site("2001:db8:1:2::1"), site("2001:db8:2:2::1"));
        assert_ne!(site("192.0.2.1"), site("192.0.2.2"));
    }

    #[test]
    fn others_are_told_of_a_client_once_a_second() {
        let untold = Untold::default();
        let add = |client: u8, millis: i64| {
            let client = IpAddr::from([192, 0, 2, client]);
            untold.add(client, NOW + Span::from_micros(millis * 1_000))
        };
        assert_eq!([add(1, 0), add(1, 1), add(1, 999)], [Some(1), None, None]);
        assert_eq!(add(2, 999), Some(1));
        assert_eq!([add(1, 1_000), add(1, 1_001)], [Some(3), None]);
        // A clock that was set back silences nobody.
        assert_eq!(add(1, -5_000), Some(2));
    }
}
