//! How long a peer may take: silent, slow, idle, not reading. The clock is paused, so the figures are exact.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use allswell_web::serve::ServeLimits;
use tokio::time::Instant;

use super::kit::{LIMITS, pass, pipe_house, within};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_closed_at_the_header_limit() {
    let house = pipe_house(LIMITS);
    let began = Instant::now();
    let mut client = house.client();
    assert!(client.is_closed_silently().await);
    assert_eq!(began.elapsed().as_secs(), 10);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_is_answered_408_at_the_header_limit() {
    let house = pipe_house(LIMITS);
    let mut client = house.client();
    let began = Instant::now();
    for byte in b"GET /ok H" {
        client.send([*byte]).await;
        pass(SECOND).await;
    }
    let answer = client.answer().await;
    assert_eq!(answer.status, 408);
    assert_eq!(began.elapsed().as_secs(), 10);
    assert!(client.is_closed_silently().await);
    assert_eq!(house.gauges.connections_timed_out.load(Relaxed), 1);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_first_head_has_its_time_from_the_accept_on() {
    let house = pipe_house(LIMITS);
    let mut client = house.client();
    let began = Instant::now();
    pass(8 * SECOND).await;
    client.send("GET /ok").await;
    assert_eq!(client.answer().await.status, 408);
    assert_eq!(began.elapsed().as_secs(), 10);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_at_the_idle_limit_and_not_before() {
    let house = pipe_house(LIMITS);
    let mut client = house.client();
    assert_eq!(client.get("/ok").await.status, 200);
    pass(55 * SECOND).await;
    assert_eq!(client.get("/ok").await.status, 200);
    let began = Instant::now();
    assert!(client.is_closed_silently().await);
    assert_eq!(began.elapsed().as_secs(), 60);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_limit_below_the_parking_time_holds_too() {
    let house = pipe_house(ServeLimits {
        idle_secs: 1,
        ..LIMITS
    });
    let mut client = house.client();
    assert_eq!(client.get("/ok").await.status, 200);
    let began = Instant::now();
    assert!(client.is_closed_silently().await);
    assert_eq!(began.elapsed().as_secs(), 1);
    house.end().await;
}

/// hyper's own timer would have ended this head after what was left of the first ten seconds.
#[tokio::test(start_paused = true)]
async fn a_head_that_begins_late_has_the_whole_time_for_heads() {
    let house = pipe_house(LIMITS);
    for idle_secs in [1, 9, 50] {
        let mut client = house.client();
        assert_eq!(client.get("/ok").await.status, 200);
        pass(idle_secs * SECOND).await;
        let began = Instant::now();
        client.send("GET /ok HTTP/1.1\r\n").await;
        pass(9 * SECOND).await;
        client.send("host: t\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 200, "after {idle_secs} s");
        client.send("GET /ok HTTP/1.1\r\n").await;
        assert_eq!(client.answer().await.status, 408, "after {idle_secs} s");
        assert_eq!(began.elapsed().as_secs(), 19, "after {idle_secs} s");
    }
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn half_a_pipelined_head_is_neither_lost_nor_kept_for_ever() {
    let house = pipe_house(LIMITS);
    let mut client = house.client();
    client.send("GET /ok HTTP/1.1\r\nhost: t\r\n\r\nGET /ok HT").await;
    assert_eq!(client.answer().await.status, 200);
    pass(5 * SECOND).await;
    client.send("TP/1.1\r\nhost: t\r\n\r\nGET /ok HT").await;
    assert_eq!(client.answer().await.status, 200);
    let began = Instant::now();
    assert_eq!(client.answer().await.status, 408);
    assert!(began.elapsed().as_secs() <= 12, "{:?}", began.elapsed());
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_may_take_longer_than_any_limit_between_requests() {
    let house = pipe_house(LIMITS);
    let mut client = house.client();
    client.send("GET /gate HTTP/1.1\r\nhost: t\r\n\r\n").await;
    house.gate.entered().await;
    pass(500 * SECOND).await;
    house.gate.let_go(1);
    assert_eq!(client.answer().await.body, "gone through");
    assert_eq!(client.get("/ok").await.status, 200);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_neither_reads_nor_sends_is_closed_when_the_write_stalls() {
    let house = pipe_house(LIMITS);
    let mut client = house.client();
    let began = Instant::now();
    client.send("GET /endless HTTP/1.1\r\nhost: t\r\n\r\n").await;
    within(house.gate.endless_dropped.acquire())
        .await
        .unwrap()
        .forget();
    assert_eq!(began.elapsed().as_secs(), 30);
    assert_eq!(house.gauges.connections_timed_out.load(Relaxed), 1);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_slowly_is_not_cut_off() {
    let house = pipe_house(LIMITS);
    let mut client = house.client();
    client.send("GET /endless HTTP/1.1\r\nhost: t\r\n\r\n").await;
    for _ in 0..50 {
        pass(29 * SECOND).await;
        assert!(client.read_more().await);
    }
    assert_eq!(house.gate.endless_dropped.available_permits(), 0);
    drop(client);
    house.end().await;
}
