//! The end of the loop: idle connections go at once, requests in flight finish, and it does return.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::kit::{LIMITS, pipe_house, tcp_house, within};

#[tokio::test]
async fn idle_connections_close_at_once_and_requests_in_flight_finish() {
    let house = tcp_house(LIMITS).await;
    let address = house.door.0;
    let mut silent = house.client().await;
    let mut idle = house.client().await;
    idle.get("/ok").await;
    let mut slow = house.client().await;
    slow.send("GET /ok HT").await;
    let mut flying = house.client().await;
    flying.send("GET /gate HTTP/1.1\r\nhost: t\r\n\r\n").await;
    house.gate.entered().await;

    let (task, gauges, gate) = house.stop();
    assert!(silent.is_closed_silently().await);
    assert!(idle.is_closed_silently().await);
    assert!(slow.is_closed_silently().await);
    assert!(
        TcpStream::connect(address).await.is_err(),
        "the listener is closed"
    );
    assert!(!task.is_finished(), "a request is in flight");

    gate.let_go(1);
    let answer = flying.answer().await;
    assert_eq!(answer.body, "gone through");
    assert!(answer.head.contains("connection: close"), "{}", answer.head);
    assert!(flying.is_closed_silently().await);
    within(task).await.expect("the loop returns");
    assert_eq!(
        gauges.connections_open.load(std::sync::atomic::Ordering::Relaxed),
        0
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_end_is_cut_off_when_the_time_is_over() {
    let house = pipe_house(LIMITS);
    let mut client = house.client();
    client.send("GET /gate HTTP/1.1\r\nhost: t\r\n\r\n").await;
    house.gate.entered().await;
    let began = Instant::now();
    let (task, ..) = house.stop();
    within(task).await.expect("the loop returns");
    assert_eq!(began.elapsed(), Duration::from_secs(LIMITS.shutdown_secs));
    assert!(client.is_closed_silently().await);
}

#[tokio::test(start_paused = true)]
async fn without_requests_the_end_takes_no_time() {
    let house = pipe_house(LIMITS);
    let mut clients: Vec<_> = (0..100).map(|_| house.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/ok").await.status, 200);
    }
    let began = Instant::now();
    house.end().await;
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_loop_that_is_dropped_takes_its_connections_with_it() {
    let house = tcp_house(LIMITS).await;
    let mut idle = house.client().await;
    idle.get("/ok").await;
    let mut flying = house.client().await;
    flying.send("GET /gate HTTP/1.1\r\nhost: t\r\n\r\n").await;
    house.gate.entered().await;
    house.kill().await;
    assert!(idle.is_closed_silently().await);
    assert!(flying.is_closed_silently().await);
}
