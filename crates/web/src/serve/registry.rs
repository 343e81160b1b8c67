//! Who may be connected, and who goes when there is no room.
//!
//! Two caps, in all and per address, each a semaphore whose permits connections hold until their socket is
//! closed: a cap is not exceeded for a moment, except by the one newcomer that is being let in. When a cap is
//! reached, the connection under it that has waited longest without a complete request is evicted. A newcomer
//! can be evicted only after it has looked at its socket and found no request there: what arrives in a burst is
//! not sent away unheard. When all are busy, the newcomer waits, and the backlog behind it; if only its own
//! address is full of busy ones, it waits aside and holds up nobody else.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::task::{AbortHandle, yield_now};
use tokio::time::{Instant, timeout};

use super::connection::Connection;
use super::roll::Roll;
use super::{Gauges, ServeLimits};
use crate::client::Network;

/// What a task that is to end gets to notice it, at the very end.
const LAST_WAIT: Duration = Duration::from_secs(1);

pub(super) struct Registry {
    pub(super) limits: ServeLimits,
    /// Whose connections stand for many clients.
    network: Network,
    pub(super) gauges: Arc<Gauges>,
    began: Instant,
    places: Semaphore,
    /// A newcomer has no place and nobody could be evicted for it: it wants to hear of the next that waits.
    starved: AtomicBool,
    somebody_waits: Notify,
    closing: AtomicBool,
    roll: Mutex<Roll>,
}

impl Registry {
    pub(super) fn new(limits: ServeLimits, network: Network, gauges: Arc<Gauges>) -> Self {
        Registry {
            limits,
            network,
            gauges,
            began: Instant::now(),
            places: Semaphore::new(limits.connections as usize),
            starved: AtomicBool::new(false),
            somebody_waits: Notify::new(),
            closing: AtomicBool::new(false),
            roll: Mutex::default(),
        }
    }

    /// Lets a newcomer in, once there is room. None: its address has as many as it may, busy and held.
    pub(super) async fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Ticket> {
        let address = owner(peer);
        let mut ticket = self.enrol(address, self.seats_of(peer));
        if !self.seat(&mut ticket, address).await {
            // Perhaps its neighbours are only too new to be known as silent: let them look at their sockets.
            yield_now().await;
            if !self.seat(&mut ticket, address).await && !ticket.hold() {
                self.gauges.connections_refused.fetch_add(1, Relaxed);
                return None;
            }
        }
        ticket.take_place().await;
        Some(ticket)
    }

    /// The cap of an address. A proxy speaks for many clients, so that of all connections holds for it.
    fn seats_of(&self, peer: IpAddr) -> u32 {
        let trusted = self.network.trusts(peer.to_canonical());
        if trusted {
            self.limits.connections
        } else {
            self.limits.connections_per_address
        }
    }

    fn enrol(self: &Arc<Self>, address: IpAddr, seats: u32) -> Ticket {
        let stamp = self.stamp(Instant::now());
        let connection = self.roll().add(address, seats, stamp);
        self.gauges.connections_open.fetch_add(1, Relaxed);
        Ticket {
            registry: self.clone(),
            connection,
            seats,
            placed: false,
            held: false,
        }
    }

    /// Finds a seat among those of the address, if need be by evicting one that waits.
    async fn seat(&self, ticket: &mut Ticket, address: IpAddr) -> bool {
        if ticket.try_sit() {
            return true;
        }
        // Those that are held come first.
        if ticket.connection.desk.held.load(SeqCst) == 0 && self.evict_of(Some(address)) {
            ticket.sit().await;
        }
        ticket.is_seated()
    }

    /// The connection's task runs; from now on it can be ended.
    pub(super) fn spawned(&self, id: u64, task: AbortHandle) {
        self.roll().set_task(id, task);
    }

    /// The connection has no request, or none yet. True: it is asked to close, since the end has come.
    pub(super) fn wait(&self, connection: &Connection, now: Instant) -> bool {
        connection.wait_since(self.stamp(now));
        if connection.is_unplaced() {
            self.roll().place(connection.id);
        }
        if connection.desk.held.load(SeqCst) > 0 && self.roll().evict_for_held(connection.id) {
            self.gauges.connections_evicted.fetch_add(1, Relaxed);
        }
        if self.starved.load(SeqCst) {
            self.somebody_waits.notify_one();
        }
        self.is_closing()
    }

    /// The connection, held until now, has its seat: it may look at its socket before it can be evicted.
    pub(super) fn seated(&self, connection: &Connection) {
        self.roll().unplace(connection.id);
    }

    /// Closes the connection that has waited longest, if one waits.
    pub(super) fn evict(&self) -> bool {
        self.evict_of(None)
    }

    fn evict_of(&self, whose: Option<IpAddr>) -> bool {
        let evicted = self.roll().evict_longest(whose);
        if evicted {
            self.gauges.connections_evicted.fetch_add(1, Relaxed);
        }
        evicted
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(SeqCst)
    }

    /// Closes those that wait, gives the others `shutdown_secs`, then ends them too.
    pub(super) async fn finish(&self) {
        self.closing.store(true, SeqCst);
        self.roll().evict_all_waiting();
        let within = Duration::from_secs(self.limits.shutdown_secs);
        if timeout(within, self.all_gone()).await.is_err() {
            self.end_all();
            // A task ends at its next await; one that never comes to it must not hold up the process.
            let _ = timeout(LAST_WAIT, self.all_gone()).await;
        }
    }

    async fn all_gone(&self) {
        let _ = self.places.acquire_many(self.limits.connections).await;
    }

    pub(super) fn end_all(&self) {
        self.roll().end_all();
    }

    fn stamp(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.began).as_micros() as u64
    }

    fn roll(&self) -> MutexGuard<'_, Roll> {
        self.roll.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to be connected. Given back when dropped, so it must outlive the socket.
pub(super) struct Ticket {
    registry: Arc<Registry>,
    connection: Arc<Connection>,
    /// The cap of its address.
    seats: u32,
    /// It counts among all.
    placed: bool,
    /// It counts among those of its address that wait for a seat.
    held: bool,
}

impl Ticket {
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    pub(super) fn is_seated(&self) -> bool {
        self.connection.seated.load(SeqCst)
    }

    fn try_sit(&mut self) -> bool {
        if let Ok(seat) = self.connection.desk.seats.try_acquire() {
            seat.forget();
            self.connection.seated.store(true, SeqCst);
        }
        self.is_seated()
    }

    /// Waits for a seat among those of its address.
    pub(super) async fn sit(&mut self) {
        // The semaphore is never closed, so there is no error.
        if let Ok(seat) = self.connection.desk.seats.acquire().await {
            seat.forget();
            self.connection.seated.store(true, SeqCst);
        }
        self.let_go();
    }

    /// Joins those that wait for a seat, unless they are too many already.
    fn hold(&mut self) -> bool {
        if self.connection.desk.held.load(SeqCst) >= self.seats {
            return false;
        }
        self.held = true;
        self.connection.desk.held.fetch_add(1, SeqCst);
        true
    }

    fn let_go(&mut self) {
        if std::mem::take(&mut self.held) {
            self.connection.desk.held.fetch_sub(1, SeqCst);
        }
    }

    async fn take_place(&mut self) {
        let registry = &self.registry;
        let mut place = registry.places.try_acquire().ok();
        while place.is_none() {
            // Ask first, look then: a connection that begins to wait in between sees that we ask.
            registry.starved.store(true, SeqCst);
            place = if registry.evict() {
                registry.places.acquire().await.ok()
            } else {
                tokio::select! {
                    place = registry.places.acquire() => place.ok(),
                    () = registry.somebody_waits.notified() => None,
                }
            };
        }
        registry.starved.store(false, SeqCst);
        if let Some(place) = place {
            place.forget();
        }
        self.placed = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.registry.roll().remove(self.connection.id);
        self.let_go();
        if self.is_seated() {
            self.connection.desk.seats.add_permits(1);
        }
        self.registry.gauges.connections_open.fetch_sub(1, Relaxed);
        // Last: when all places are back, everything is.
        if self.placed {
            self.registry.places.add_permits(1);
        }
    }
}

/// Whose connection it is: an IPv4 address, or the /64 that an IPv6 subscriber has to himself.
fn owner(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_subscriber_counts_once_however_many_addresses_he_uses() {
        let owner_of = |text: &str| owner(text.parse().expect("an address"));
        assert_eq!(owner_of("2001:db8:1:2:3:4:5:6"), owner_of("2001:db8:1:2::1"));
        assert_ne!(owner_of("2001:db8:1:2::1"), owner_of("2001:db8:1:3::1"));
        assert_eq!(owner_of("::ffff:192.0.2.1"), owner_of("192.0.2.1"));
        assert_ne!(owner_of("::ffff:192.0.2.1"), owner_of("192.0.2.2"));
    }
}
