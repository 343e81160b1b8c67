//! The list of connections, in the order in which they would have to go.
//!
//! To find the one that has waited longest costs busy connections nothing: the order is kept lazily. An entry
//! may be older than the truth, never younger, so the first entry that is true is the right one. Each stale
//! entry met on the way is put where it belongs, and it became stale by a whole request. A connection found busy
//! leaves the order and asks for a place when it waits again. So a crowd costs a few steps in a tree for each
//! of its connections, however large it is.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;

use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::connection::{Connection, Desk, Standing};

#[derive(Default)]
pub(super) struct Roll {
    last_id: u64,
    members: HashMap<u64, Member>,
    order: BTreeSet<Place>,
    addresses: HashMap<IpAddr, Address>,
}

/// (waiting since, id of the connection)
type Place = (u64, u64);

struct Member {
    connection: Arc<Connection>,
    address: IpAddr,
    task: Option<AbortHandle>,
    place: Option<u64>,
}

struct Address {
    desk: Arc<Desk>,
    members: u32,
    /// Of those that have a seat.
    order: BTreeSet<Place>,
    /// Evicted and not yet gone.
    leaving: u32,
}

impl Roll {
    /// Puts a new connection on the list. It has no place in the order yet.
    pub(super) fn add(&mut self, address: IpAddr, seats: u32, stamp: u64) -> Arc<Connection> {
        self.last_id += 1;
        let id = self.last_id;
        let known = self
            .addresses
            .entry(address)
            .or_insert_with(|| Address::new(seats));
        known.members += 1;
        let connection = Arc::new(Connection::new(id, known.desk.clone(), stamp));
        let member = Member {
            connection: connection.clone(),
            address,
            task: None,
            place: None,
        };
        self.members.insert(id, member);
        connection
    }

    pub(super) fn remove(&mut self, id: u64) {
        self.unplace(id);
        let Some(member) = self.members.remove(&id) else {
            return;
        };
        let Some(address) = self.addresses.get_mut(&member.address) else {
            return;
        };
        address.members -= 1;
        if member.connection.standing() == Standing::Evicted {
            address.leaving = address.leaving.saturating_sub(1);
        }
        if address.members == 0 {
            self.addresses.remove(&member.address);
        }
    }

    pub(super) fn set_task(&mut self, id: u64, task: AbortHandle) {
        if let Some(member) = self.members.get_mut(&id) {
            member.task = Some(task);
        }
    }

    /// Gives a connection that waits its place in the order; in that of its address only if it has a seat.
    pub(super) fn place(&mut self, id: u64) {
        self.unplace(id);
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let Standing::Waiting(since) = member.connection.standing() else {
            return;
        };
        member.place = Some(since);
        member.connection.unplaced.store(false, SeqCst);
        self.order.insert((since, id));
        if member.connection.seated.load(SeqCst)
            && let Some(address) = self.addresses.get_mut(&member.address)
        {
            address.order.insert((since, id));
        }
    }

    /// Takes a connection out of the order; it has to ask for a place again.
    pub(super) fn unplace(&mut self, id: u64) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        member.connection.unplaced.store(true, SeqCst);
        let Some(since) = member.place.take() else { return };
        self.order.remove(&(since, id));
        if let Some(address) = self.addresses.get_mut(&member.address) {
            address.order.remove(&(since, id));
        }
    }

    /// Evicts the connection that has waited longest, of one address or of all. False if none waits.
    pub(super) fn evict_longest(&mut self, whose: Option<IpAddr>) -> bool {
        while let Some((placed, id)) = self.first(whose) {
            let Some(member) = self.members.get(&id) else {
                unreachable!("a place without a member")
            };
            match member.connection.standing() {
                Standing::Waiting(since) if since == placed => {
                    if member.connection.evict(since) {
                        self.evicted(id);
                        return true;
                    }
                }
                // `place` does nothing for one that has become busy; if one begins to wait just when it loses
                // its place, it is put back by one of the two: see `Connection::wait_since`.
                Standing::Waiting(_) | Standing::Busy => {
                    self.unplace(id);
                    self.place(id);
                }
                Standing::Evicted => self.unplace(id),
            }
        }
        false
    }

    /// Makes room for one that is held by the address of `id`, unless enough are leaving already.
    pub(super) fn evict_for_held(&mut self, id: u64) -> bool {
        let Some(member) = self.members.get(&id) else {
            return false;
        };
        let whose = member.address;
        let Some(address) = self.addresses.get(&whose) else {
            return false;
        };
        address.desk.held.load(SeqCst) > address.leaving && self.evict_longest(Some(whose))
    }

    /// Ends the tasks of all connections that have no request.
    pub(super) fn evict_all_waiting(&mut self) {
        for member in self.members.values() {
            if let Standing::Waiting(since) = member.connection.standing()
                && member.connection.evict(since)
            {
                member.end();
            }
        }
    }

    pub(super) fn end_all(&mut self) {
        self.members.values().for_each(Member::end);
    }

    fn first(&self, whose: Option<IpAddr>) -> Option<Place> {
        match whose {
            None => self.order.first().copied(),
            Some(address) => self.addresses.get(&address)?.order.first().copied(),
        }
    }

    fn evicted(&mut self, id: u64) {
        self.unplace(id);
        let Some(member) = self.members.get(&id) else {
            return;
        };
        member.end();
        if let Some(address) = self.addresses.get_mut(&member.address) {
            address.leaving += 1;
        }
    }
}

impl Member {
    fn end(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Address {
    fn new(seats: u32) -> Self {
        let desk = Desk {
            seats: Semaphore::new(seats as usize),
            held: AtomicU32::new(0),
        };
        Address {
            desk: Arc::new(desk),
            members: 0,
            order: BTreeSet::new(),
            leaving: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// What the roll should do, said slowly: look at every connection each time.
    #[derive(Default)]
    struct Oracle(Vec<(Arc<Connection>, IpAddr)>);

    impl Oracle {
        fn longest(&self, whose: Option<IpAddr>) -> Option<u64> {
            let waiting = self
                .0
                .iter()
                .filter(|(_, address)| whose.is_none_or(|whose| whose == *address));
            let since = waiting.filter_map(|(connection, _)| match connection.standing() {
                Standing::Waiting(since) => Some((since, connection.id)),
                Standing::Busy | Standing::Evicted => None,
            });
            since.min().map(|(_, id)| id)
        }
    }

    /// Random arrivals, requests, ends and evictions; each eviction must hit the one that the oracle names.
    #[test]
    fn the_one_that_has_waited_longest_goes_whatever_happened_before() {
        let mut evictions = 0;
        for seed in 1..=200_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut below = move |end: usize| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 33) as usize % end
            };
            let (mut roll, mut oracle) = (Roll::default(), Oracle::default());
            for now in 1..400 {
                let which = below(oracle.0.len().max(1));
                let chosen = oracle.0.get(which).map(|(connection, _)| connection.clone());
                match (below(8), chosen) {
                    (0..=1, _) | (_, None) => {
                        let address = IpAddr::V4(Ipv4Addr::new(127, 0, 0, below(3) as u8));
                        let connection = roll.add(address, 100, now);
                        connection.seated.store(true, SeqCst);
                        roll.place(connection.id);
                        oracle.0.push((connection, address));
                    }
                    (2..=3, Some(connection)) => _ = connection.begin(),
                    (4..=5, Some(connection)) => {
                        connection.wait_since(now);
                        if connection.is_unplaced() {
                            roll.place(connection.id);
                        }
                    }
                    (6, Some(connection)) => {
                        roll.remove(connection.id);
                        oracle.0.remove(which);
                    }
                    (_, Some(_)) => {
                        let whose = oracle
                            .0
                            .get(below(oracle.0.len() * 2))
                            .map(|(_, address)| *address);
                        let expected = oracle.longest(whose);
                        assert_eq!(
                            roll.evict_longest(whose),
                            expected.is_some(),
                            "seed {seed}, {now}"
                        );
                        let Some(id) = expected else { continue };
                        let at = oracle.0.iter().position(|(connection, _)| connection.id == id);
                        let (connection, _) = oracle.0.remove(at.expect("the oracle's choice"));
                        assert_eq!(connection.standing(), Standing::Evicted, "seed {seed}, {now}");
                        roll.remove(id);
                        evictions += 1;
                    }
                }
            }
            for (connection, _) in &oracle.0 {
                roll.remove(connection.id);
            }
            assert!(roll.members.is_empty() && roll.order.is_empty() && roll.addresses.is_empty());
        }
        assert!(evictions > 5_000, "{evictions}");
    }

    #[test]
    fn a_request_that_has_begun_cannot_be_evicted_and_an_evicted_connection_begins_none() {
        let mut roll = Roll::default();
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (busy, idle) = (roll.add(address, 2, 1), roll.add(address, 2, 2));
        roll.place(busy.id);
        roll.place(idle.id);
        assert!(busy.begin());
        assert!(roll.evict_longest(None));
        assert_eq!(
            (busy.standing(), idle.standing()),
            (Standing::Busy, Standing::Evicted)
        );
        assert!(!idle.begin());
        assert!(!roll.evict_longest(None));
    }
}
