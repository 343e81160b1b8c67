//! Request heads: good, bad, too large, in pieces, several at once.

use std::sync::atomic::Ordering::Relaxed;

use allswell_web::serve::ServeLimits;
use tokio::io::AsyncWriteExt;

use super::kit::{Dice, LIMITS, tcp_house};

#[tokio::test]
async fn requests_on_one_connection_are_answered_and_counted() {
    let house = tcp_house(LIMITS).await;
    let mut client = house.client_from(3).await;
    for _ in 0..3 {
        assert_eq!(client.get("/ok").await.body, "ok");
    }
    assert_eq!(
        client.get("/peer").await.body,
        client.stream.local_addr().unwrap().to_string()
    );
    assert_eq!(house.gauges.requests.load(Relaxed), 4);
    assert_eq!(house.open(), 1);
    house.end().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let house = tcp_house(LIMITS).await;
    let mut client = house.client().await;
    let mut all = String::new();
    for round in 0..100 {
        let path = ["/ok", "/peer", "/nowhere"][round % 3];
        all += &format!("GET {path} HTTP/1.1\r\nhost: t\r\n\r\n");
    }
    client.send(&all).await;
    for round in 0..100 {
        let answer = client.answer().await;
        assert_eq!(answer.status, [200, 200, 404][round % 3]);
        assert_eq!(answer.body == "ok", round % 3 == 0);
    }
    house.end().await;
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_understood() {
    let house = tcp_house(LIMITS).await;
    let mut client = house.client().await;
    for _ in 0..2 {
        for byte in b"GET /ok HTTP/1.1\r\nhost: t\r\n\r\n" {
            client.send([*byte]).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(client.answer().await.body, "ok");
    }
    house.end().await;
}

#[tokio::test]
async fn a_half_closed_client_still_gets_its_answer() {
    let house = tcp_house(LIMITS).await;
    let mut client = house.client().await;
    client.send("GET /gate HTTP/1.1\r\nhost: t\r\n\r\n").await;
    client.stream.shutdown().await.expect("half closed");
    house.gate.entered().await;
    house.gate.let_go(1);
    assert_eq!(client.answer().await.body, "gone through");
    assert!(client.is_closed_silently().await);
    house.end().await;
}

#[tokio::test]
async fn an_http_1_0_client_gets_an_answer_and_a_close() {
    let house = tcp_house(LIMITS).await;
    let mut client = house.client().await;
    client.send("GET /ok HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.answer().await.body, "ok");
    assert!(client.is_closed_silently().await);
    house.end().await;
}

#[tokio::test]
async fn an_endless_head_is_answered_431_and_closed() {
    let house = tcp_house(LIMITS).await;
    let mut client = house.client().await;
    client.send("GET /ok HTTP/1.1\r\n").await;
    let mut sent = 0;
    // Until the server has stopped reading: its buffer, what it lingers for and the kernel's buffers are finite.
    while client
        .try_send(format!("x-{sent}: {}\r\n", "a".repeat(1000)))
        .await
        .is_ok()
    {
        sent += 1;
        if sent == 40 {
            let answer = client.answer().await;
            assert_eq!(answer.status, 431, "{}", answer.head);
        }
    }
    assert!(sent >= 40);
    house.end().await;
}

#[tokio::test]
async fn the_bound_on_heads_is_exact() {
    let limits = ServeLimits {
        header_bytes: 2000,
        ..LIMITS
    };
    let house = tcp_house(limits).await;
    for (length, status) in [(2000, 200), (2001, 431)] {
        let mut client = house.client().await;
        let frame = "GET /ok HTTP/1.1\r\nx: \r\n\r\n".len();
        client
            .send(format!(
                "GET /ok HTTP/1.1\r\nx: {}\r\n\r\n",
                "a".repeat(length - frame)
            ))
            .await;
        assert_eq!(client.answer().await.status, status, "a head of {length} bytes");
    }
    house.end().await;
}

#[tokio::test]
async fn too_many_header_lines_are_answered_431() {
    let house = tcp_house(LIMITS).await;
    let mut client = house.client().await;
    client
        .send(format!("GET /ok HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200)))
        .await;
    assert_eq!(client.answer().await.status, 431);
    assert!(client.is_closed_silently().await);
    house.end().await;
}

#[tokio::test]
async fn malformed_heads_are_answered_400_or_closed() {
    let house = tcp_house(LIMITS).await;
    for (bytes, status) in [
        ("\0\0\0\0\r\n\r\n", Some(400)),
        ("GET /ok HTTP/9.9\r\n\r\n", Some(400)),
        ("GET /ok HTTP/1.1\r\nno colon\r\n\r\n", Some(400)),
        ("POST /cut HTTP/1.1\r\ncontent-length: -1\r\n\r\n", Some(400)),
        (
            "POST /cut HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            Some(400),
        ),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", None),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}", Some(400)),
    ] {
        let mut client = house.client().await;
        client.send(bytes).await;
        let answer = client.try_answer().await;
        assert_eq!(answer.map(|answer| answer.status), status, "{bytes:?}");
        assert!(client.is_closed_silently().await, "{bytes:?}");
    }
    house.end().await;
}

/// Noise, and good requests with a few bytes changed, which get further. A good client on a connection of its
/// own is asked in between all the time.
#[tokio::test]
async fn random_bytes_get_an_error_or_a_close_and_disturb_nobody() {
    let house = tcp_house(LIMITS).await;
    let mut good = house.client().await;
    let (mut refused, mut served) = (0, 0);
    for seed in 1..=400 {
        let mut dice = Dice(seed);
        let bytes = if seed % 2 == 0 {
            noise(&mut dice)
        } else {
            nearly_good(&mut dice)
        };
        let mut rude = house.client().await;
        // The server may have closed on the first bytes; that is its right.
        let _ = rude.try_send(&bytes).await;
        let _ = rude.stream.shutdown().await;
        match rude.try_answer().await.map(|answer| answer.status) {
            None => {}
            Some(400 | 414 | 431) => refused += 1,
            Some(200 | 404 | 405 | 408 | 413) => served += 1,
            Some(other) => panic!("seed {seed}: status {other}"),
        }
        assert_eq!(good.get("/ok").await.body, "ok", "after seed {seed}");
    }
    assert!(refused > 200 && served > 20, "{refused} {served}");
    assert_eq!(house.gauges.panics.load(Relaxed), 0);
    house.end().await;
}

fn noise(dice: &mut Dice) -> Vec<u8> {
    let length = 1 + dice.below(4096);
    (0..length).map(|_| dice.roll() as u8).collect()
}

fn nearly_good(dice: &mut Dice) -> Vec<u8> {
    let mut bytes = b"POST /cut?a=b HTTP/1.1\r\nhost: example\r\ntransfer-encoding: chunked\r\n\
        user-agent: t\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\ntrailer: 1\r\n\r\n"
        .to_vec();
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len() as u64) as usize;
        match dice.below(3) {
            0 => bytes[at] = dice.roll() as u8,
            1 => bytes.insert(at, dice.roll() as u8),
            _ => _ = bytes.remove(at),
        }
    }
    bytes
}
