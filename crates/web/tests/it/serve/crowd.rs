//! More connections than there is room for: who goes, who waits, and that nobody is locked out.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use allswell_web::serve::ServeLimits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::kit::{Dice, LIMITS, tcp_house, within};

const GATE: &str = "GET /gate HTTP/1.1\r\nhost: t\r\n\r\n";
const OK: &str = "GET /ok HTTP/1.1\r\nhost: t\r\n\r\n";

/// Both ends of all connections are in this process.
fn allow_open_files(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    assert!(
        limit.maximum.is_none_or(|most| most >= wanted),
        "this test needs {wanted} open files: ulimit -Hn"
    );
    let raised = Rlimit {
        current: Some(wanted),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("the limit of open files can be raised to its maximum");
}

/// 5,000 silent connections, a quarter of them with half a head, against a cap of 1,000. Good clients come all
/// the while: from the same address and from another one, each with a new connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_silent_connections_lock_nobody_out() {
    allow_open_files(8000);
    // No deadline is to help: all room must be made by eviction.
    let house = tcp_house(ServeLimits {
        header_secs: 3600,
        ..LIMITS
    })
    .await;
    let mut crowd = Vec::new();
    for n in 0..5000 {
        let mut silent = house.client().await;
        if n % 4 == 0 {
            silent.send("GET /ok HTTP/1.1\r\nx: ").await;
        }
        crowd.push(silent);
        if n % 25 == 0 {
            for from in [1, 2] {
                assert_eq!(
                    house.client_from(from).await.get("/ok").await.body,
                    "ok",
                    "beside {n}"
                );
            }
        }
        assert!(house.open() <= 1001, "{} open", house.open());
    }
    // One that is served shows that all before it were accepted.
    assert_eq!(house.client().await.get("/ok").await.body, "ok");
    assert!(house.gauges.connections_evicted.load(Relaxed) >= 3999);
    assert_eq!(house.gauges.connections_refused.load(Relaxed), 0);
    for gone in &mut crowd[..3000] {
        assert!(gone.is_closed_silently().await);
    }
    house.end().await;
}

#[tokio::test]
async fn a_crowd_from_one_address_leaves_other_addresses_their_connections() {
    let house = tcp_house(ServeLimits {
        connections_per_address: 20,
        ..LIMITS
    })
    .await;
    let mut kept = house.client_from(2).await;
    assert_eq!(kept.get("/ok").await.status, 200);
    let mut crowd = Vec::new();
    for _ in 0..500 {
        crowd.push(house.client().await);
    }
    // One that is served shows that all before it were accepted.
    assert_eq!(house.client().await.get("/ok").await.status, 200);
    assert!(house.open() <= 22, "{} open", house.open());
    assert_eq!(kept.get("/ok").await.status, 200);
    assert!(crowd[0].is_closed_silently().await);
    house.end().await;
}

#[tokio::test]
async fn the_connection_that_has_waited_longest_goes_first() {
    let house = tcp_house(ServeLimits {
        connections: 3,
        ..LIMITS
    })
    .await;
    let (mut a, mut b, mut c) = (house.client().await, house.client().await, house.client().await);
    for client in [&mut a, &mut b, &mut c] {
        assert_eq!(client.get("/ok").await.status, 200);
    }
    // Half a head is no request: it does not make b younger. A whole one makes a the youngest.
    b.send("GET /ok HT").await;
    assert_eq!(a.get("/ok").await.status, 200);

    let mut d = house.client().await;
    assert_eq!(d.get("/ok").await.status, 200);
    assert!(b.is_closed_silently().await);
    let mut e = house.client().await;
    assert_eq!(e.get("/ok").await.status, 200);
    assert!(c.is_closed_silently().await);
    for client in [&mut a, &mut d, &mut e] {
        assert_eq!(client.get("/ok").await.status, 200);
    }
    assert_eq!(house.gauges.connections_evicted.load(Relaxed), 2);
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_flight_are_never_closed_for_newcomers() {
    let house = tcp_house(ServeLimits {
        connections: 3,
        ..LIMITS
    })
    .await;
    let (mut a, mut b) = (house.client().await, house.client().await);
    for client in [&mut a, &mut b] {
        client.send(GATE).await;
        house.gate.entered().await;
    }
    for _ in 0..50 {
        assert_eq!(house.client().await.get("/ok").await.status, 200);
    }
    house.gate.let_go(2);
    assert_eq!(a.answer().await.body, "gone through");
    assert_eq!(b.answer().await.body, "gone through");
    house.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_are_busy_a_newcomer_is_served_as_soon_as_one_ends() {
    let house = tcp_house(ServeLimits {
        connections: 2,
        ..LIMITS
    })
    .await;
    let (mut a, mut b) = (house.client().await, house.client().await);
    for client in [&mut a, &mut b] {
        client.send(GATE).await;
        house.gate.entered().await;
    }
    let mut newcomers = Vec::new();
    for _ in 0..5 {
        let mut newcomer = house.client().await;
        newcomer.send(OK).await;
        newcomers.push(newcomer);
    }
    assert_eq!(house.gauges.requests.load(Relaxed), 2);
    house.gate.let_go(1);
    // One of the two ends, gets its answer and gives its place up, though it asked to be kept alive.
    for newcomer in &mut newcomers {
        assert_eq!(newcomer.answer().await.body, "ok");
    }
    house.gate.let_go(1);
    assert_eq!(a.answer().await.body, "gone through");
    assert_eq!(b.answer().await.body, "gone through");
    house.end().await;
}

#[tokio::test]
async fn an_address_with_all_its_connections_busy_waits_alone() {
    let house = tcp_house(ServeLimits {
        connections_per_address: 2,
        ..LIMITS
    })
    .await;
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut client = house.client().await;
        client.send(GATE).await;
        house.gate.entered().await;
        busy.push(client);
    }
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = house.client().await;
        client.send(OK).await;
        held.push(client);
    }
    // As many may wait as may sit; the next is refused. Others notice nothing of it.
    assert!(house.client().await.is_closed_silently().await);
    assert_eq!(house.gauges.connections_refused.load(Relaxed), 1);
    assert_eq!(house.client_from(2).await.get("/ok").await.status, 200);
    assert_eq!(house.gauges.requests.load(Relaxed), 3);

    house.gate.let_go(1);
    for client in &mut held {
        assert_eq!(client.answer().await.body, "ok");
    }
    house.gate.let_go(1);
    for client in &mut busy {
        assert_eq!(client.answer().await.body, "gone through");
    }
    house.end().await;
}

/// Fifty clients in parallel for eight places, of which each address may have five, on two threads. A client
/// that is slow may be evicted before it has asked; it comes again. That all of them are served in the end
/// shows that no wake-up is lost between those that end and those that wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_crush_everybody_is_served_in_the_end() {
    let limits = ServeLimits {
        connections: 8,
        connections_per_address: 5,
        ..LIMITS
    };
    let house = Arc::new(tcp_house(limits).await);
    let clients: Vec<_> = (0..50_u8)
        .map(|n| {
            let house = house.clone();
            tokio::spawn(async move {
                let mut dice = Dice(u64::from(n) + 1);
                let mut served = 0;
                while served < 40 {
                    let mut client = house.client_from(n % 3 + 1).await;
                    for _ in 0..=dice.below(3) {
                        if dice.below(4) == 0 {
                            tokio::task::yield_now().await;
                        }
                        if client.try_send(OK).await.is_err() {
                            break;
                        }
                        match client.try_answer().await {
                            Some(answer) => served += u32::from(answer.status == 200),
                            None => break,
                        }
                    }
                }
            })
        })
        .collect();
    for client in clients {
        within(client).await.expect("a client that was served");
    }
    let house = Arc::into_inner(house).expect("nobody else has the house");
    house.end().await;
}
