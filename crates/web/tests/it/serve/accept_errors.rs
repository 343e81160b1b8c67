//! Errors of `accept`: the loop goes on, and it does not spin.

use std::io;
use std::sync::atomic::Ordering::Relaxed;

use allswell_web::serve::ServeLimits;
use tokio::time::Instant;

use super::kit::{LIMITS, pipe_house, tcp_house};

const EMFILE: i32 = 24;

#[tokio::test(start_paused = true)]
async fn a_system_short_of_something_is_asked_again_a_little_later_each_time() {
    let house = pipe_house(LIMITS);
    let began = Instant::now();
    for _ in 0..50 {
        house.accept_fails(io::ErrorKind::OutOfMemory.into());
    }
    assert_eq!(house.client().get("/ok").await.status, 200);
    assert_eq!(house.gauges.accept_errors.load(Relaxed), 50);
    assert_eq!(began.elapsed().as_secs(), 5);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_aborts_costs_the_next_one_no_time() {
    let house = pipe_house(LIMITS);
    let began = Instant::now();
    for _ in 0..1000 {
        house.accept_fails(io::ErrorKind::ConnectionAborted.into());
    }
    assert_eq!(house.client().get("/ok").await.status, 200);
    assert_eq!(began.elapsed().as_millis(), 0);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn with_no_descriptor_left_the_longest_waiting_connection_makes_room() {
    let house = pipe_house(LIMITS);
    let mut first = house.client();
    assert_eq!(first.get("/ok").await.status, 200);
    let mut second = house.client();
    assert_eq!(second.get("/ok").await.status, 200);
    house.accept_fails(io::Error::from_raw_os_error(EMFILE));
    assert!(first.is_closed_silently().await);
    assert_eq!(second.get("/ok").await.status, 200);
    assert_eq!(house.gauges.connections_evicted.load(Relaxed), 1);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_loop_can_be_ended_while_accept_fails() {
    let house = pipe_house(LIMITS);
    for _ in 0..10_000 {
        house.accept_fails(io::Error::from_raw_os_error(EMFILE));
    }
    tokio::task::yield_now().await;
    house.end().await;
}

#[tokio::test]
async fn a_connection_that_is_gone_before_it_is_served_harms_nobody() {
    let house = tcp_house(ServeLimits {
        connections: 3,
        ..LIMITS
    })
    .await;
    for _ in 0..100 {
        let client = house.client().await;
        client
            .stream
            .set_zero_linger()
            .expect("a reset instead of a close");
        drop(client);
    }
    assert_eq!(house.client().await.get("/ok").await.status, 200);
    house.end().await;
}
