//! Bodies: asked for, chunked, too long, endless, broken, late.

use std::time::Duration;

use allswell_web::serve::body::{BodyError, read_cut, read_whole};
use axum::body::Body;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::kit::{DRAIN, KEEP, LIMITS, WHOLE, pipe_house, tcp_house, within};

fn chunk(bytes: usize) -> String {
    format!("{bytes:x}\r\n{}\r\n", "x".repeat(bytes))
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_continue() {
    let house = tcp_house(LIMITS).await;
    let mut client = house.client().await;
    for _ in 0..2 {
        client
            .send("POST /cut HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\ncontent-length: 1500\r\n\r\n")
            .await;
        assert_eq!(client.answer().await.status, 100);
        client.send("x".repeat(1500)).await;
        assert_eq!(client.answer().await.body, "kept=1000 total=1500 finished=true");
    }
    house.end().await;
}

#[tokio::test]
async fn a_client_that_asks_to_send_too_much_is_refused_before_it_sends() {
    let house = tcp_house(LIMITS).await;
    let mut client = house.client().await;
    client
        .send(format!(
            "POST /whole HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
            WHOLE + 1
        ))
        .await;
    let answer = client.answer().await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (413, "the body is larger than 5000 bytes")
    );
    assert!(client.is_closed_silently().await);
    house.end().await;
}

#[tokio::test]
async fn a_chunked_body_is_cut_and_the_connection_lives_on() {
    let house = tcp_house(LIMITS).await;
    let mut client = house.client().await;
    for (chunks, expected) in [
        (vec![3, 4], "kept=7 total=7 finished=true"),
        (vec![KEEP], "kept=1000 total=1000 finished=true"),
        (vec![999, 1, 1], "kept=1000 total=1001 finished=true"),
        (vec![600; 10], "kept=1000 total=6000 finished=true"),
        (vec![KEEP + DRAIN], "kept=1000 total=10000 finished=true"),
    ] {
        client
            .send("POST /cut HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        for bytes in chunks {
            client.send(chunk(bytes)).await;
        }
        client.send("0\r\nx-trailer: 1\r\n\r\n").await;
        assert_eq!(client.answer().await.body, expected);
    }
    house.end().await;
}

#[tokio::test]
async fn a_body_of_any_bytes_with_a_length_is_cut_at_the_same_places() {
    let house = tcp_house(LIMITS).await;
    let mut client = house.client().await;
    for total in [1, KEEP - 1, KEEP, KEEP + 1, KEEP + DRAIN] {
        client
            .send(format!(
                "PUT /cut HTTP/1.1\r\nhost: t\r\ncontent-length: {total}\r\n\r\n"
            ))
            .await;
        client.send(vec![0xff; total]).await;
        let expected = format!("kept={} total={total} finished=true", total.min(KEEP));
        assert_eq!(client.answer().await.body, expected);
    }
    house.end().await;
}

/// The client is answered in the middle of its megabyte and goes on sending, as simple clients do. Without
/// lingering it would be reset.
#[tokio::test]
async fn a_log_that_is_far_too_long_still_gets_its_answer_before_the_close() {
    let house = tcp_house(LIMITS).await;
    for _ in 0..20 {
        let mut client = house.client().await;
        client
            .send("POST /cut HTTP/1.1\r\nhost: t\r\ncontent-length: 1000000\r\n\r\n")
            .await;
        client.send(vec![b'x'; 100_000]).await;
        within(client.stream.readable()).await.expect("an answer");
        for _ in 0..90 {
            client.send(vec![b'x'; 10_000]).await;
            tokio::task::yield_now().await;
        }
        let answer = client.answer().await;
        let total = answer
            .body
            .strip_prefix("kept=1000 total=")
            .and_then(|rest| rest.strip_suffix(" finished=false"));
        let total: usize = total.and_then(|digits| digits.parse().ok()).expect("a total");
        assert!(
            total > KEEP + DRAIN && total <= KEEP + DRAIN + LIMITS.header_bytes,
            "one frame more, not {total}"
        );
        assert!(answer.head.contains("connection: close"), "{}", answer.head);
        assert!(client.is_closed_cleanly().await);
    }
    house.end().await;
}

#[tokio::test]
async fn a_small_body_that_nobody_reads_does_not_cost_the_connection() {
    let house = tcp_house(LIMITS).await;
    let mut client = house.client().await;
    for _ in 0..3 {
        client
            .send("POST /nowhere HTTP/1.1\r\nhost: t\r\ncontent-length: 5\r\n\r\nhello")
            .await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 404);
        assert!(!answer.head.contains("connection: close"), "{}", answer.head);
    }
    client
        .send("POST /nowhere HTTP/1.1\r\nhost: t\r\ncontent-length: 50000\r\n\r\nhello")
        .await;
    assert!(client.answer().await.head.contains("connection: close"));
    assert!(client.is_closed_silently().await);
    house.end().await;
}

#[tokio::test]
async fn an_endless_body_gets_an_answer_and_then_a_close() {
    let house = tcp_house(LIMITS).await;
    for head in ["transfer-encoding: chunked", "content-length: 9999999999999"] {
        let mut client = house.client().await;
        client
            .send(format!("POST /cut HTTP/1.1\r\nhost: t\r\n{head}\r\n\r\n"))
            .await;
        let mut sent = 0;
        while client.try_send(chunk(10_000)).await.is_ok() {
            sent += 1;
            if sent == 5 {
                assert!(client.answer().await.body.ends_with("finished=false"));
            }
        }
        assert!(sent >= 5);
    }
    house.end().await;
}

#[tokio::test]
async fn a_whole_body_is_read_up_to_its_bound_and_refused_above() {
    let house = tcp_house(LIMITS).await;
    let mut client = house.client().await;
    client
        .send(format!(
            "POST /whole HTTP/1.1\r\nhost: t\r\ncontent-length: {WHOLE}\r\n\r\n"
        ))
        .await;
    client.send(vec![b'x'; WHOLE]).await;
    assert_eq!(client.answer().await.body, "whole=5000");

    client
        .send("POST /whole HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    client.send(chunk(WHOLE)).await;
    client.send(chunk(1)).await;
    assert_eq!(client.answer().await.status, 413);
    assert!(client.is_closed_silently().await);
    house.end().await;
}

#[tokio::test]
async fn broken_chunks_and_bodies_that_end_early_are_errors_not_bodies() {
    let house = tcp_house(LIMITS).await;
    for (head, body) in [
        ("transfer-encoding: chunked", "5\r\nhel"),
        ("transfer-encoding: chunked", "not a number\r\n"),
        ("content-length: 10", "short"),
    ] {
        let mut client = house.client().await;
        client
            .send(format!("POST /cut HTTP/1.1\r\nhost: t\r\n{head}\r\n\r\n{body}"))
            .await;
        client.stream.shutdown().await.expect("half closed");
        if let Some(answer) = client.try_answer().await {
            assert_eq!(answer.status, 400, "{head} {body}");
        }
    }
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_coming_is_given_up_in_time_however_much_has_come() {
    let house = pipe_house(LIMITS);
    for (path, sent) in [("/cut", 10), ("/cut", KEEP + 10), ("/whole", 10)] {
        let mut client = house.client();
        let began = Instant::now();
        client
            .send(format!(
                "POST {path} HTTP/1.1\r\nhost: t\r\ncontent-length: 4000\r\n\r\n"
            ))
            .await;
        client.send(vec![b'x'; sent]).await;
        assert_eq!(client.answer().await.status, 408);
        assert_eq!(began.elapsed().as_secs(), 5);
    }
    house.end().await;
}

#[tokio::test]
async fn no_time_is_needed_for_an_empty_body() {
    let cut = read_cut(Body::empty(), KEEP, DRAIN, Duration::ZERO)
        .await
        .expect("an empty body");
    assert_eq!((cut.bytes.len(), cut.total, cut.finished), (0, 0, true));
    let whole = read_whole(Body::empty(), WHOLE, Duration::ZERO)
        .await
        .expect("an empty body");
    assert!(whole.is_empty());
}

#[tokio::test]
async fn bounds_of_zero_hold() {
    let second = Duration::from_secs(1);
    let cut = read_cut(Body::from("x"), 0, 0, second).await.expect("a cut");
    assert_eq!((cut.bytes.len(), cut.total, cut.finished), (0, 1, false));
    let refused = read_whole(Body::from("x"), 0, second).await;
    assert!(matches!(refused, Err(BodyError::TooLarge { max: 0 })));
}
