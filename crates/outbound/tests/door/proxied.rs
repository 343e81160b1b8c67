//! The two modes of a proxy: we judge and name an address, or it gets the name and is responsible.

use allswell_core::exchange::{End, ErrorClass};
use allswell_core::policy::Policy;
use allswell_core::refusal::Rule;
use allswell_outbound::{Proxy, ProxyMode};
use tokio::io::AsyncWriteExt;

use crate::world::{World, get, request};

/// A proxy at 10.9.9.9:3128 that tells what it was asked for, and grants with this status.
fn proxy_world(status: &'static str) -> (World, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let (told, heard) = tokio::sync::mpsc::unbounded_channel();
    let world = World::new(move |_, mut stream| {
        let told = told.clone();
        tokio::spawn(async move {
            let Ok(asked) = request(&mut stream).await else {
                return;
            };
            let _ = told.send(asked);
            let _ = stream
                .write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes())
                .await;
            let Ok(asked) = request(&mut stream).await else {
                return;
            };
            let _ = told.send(asked);
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .await;
        });
    })
    .addresses("hooks.example.com", &["1.1.1.1", "8.8.8.8"])
    .addresses("lan.example.com", &["10.0.0.1"]);
    (world, heard)
}

fn proxy(text: &str, mode: ProxyMode) -> Option<Proxy> {
    Some(Proxy::parse(text, mode).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_gets_an_address_gets_a_judged_one() {
    let (world, mut heard) = proxy_world("200 Connection established");
    let proxy = proxy("http://us%40er:pass@10.9.9.9:3128", ProxyMode::VettedIp);
    let client = world.client_with(Policy::default(), proxy, None);
    let outcome = client.send(get("http://hooks.example.com/x")).await;
    assert_eq!(outcome.error_class(), None, "{outcome:?}");
    assert_eq!(
        heard.recv().await.unwrap(),
        "CONNECT 1.1.1.1:80 HTTP/1.1\r\nHost: 1.1.1.1:80\r\nProxy-Authorization: Basic dXNAZXI6cGFzcw==\r\n\r\n"
    );
    let inside = heard.recv().await.unwrap();
    assert!(
        inside.starts_with("GET /x HTTP/1.1\r\nHost: hooks.example.com\r\n"),
        "{inside}"
    );
    assert!(!inside.to_lowercase().contains("proxy"), "{inside}");
    let outcome = client.send(get("http://lan.example.com/")).await;
    assert!(
        matches!(&outcome.end, End::Blocked(refusal) if refusal.rule == Rule::Address),
        "{outcome:?}"
    );
    assert!(world.reached().iter().all(|it| it.to_string() == "10.9.9.9:3128"));
    assert_eq!(world.reached().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_cannot_reach_one_address_is_asked_for_the_next() {
    // It has no way to the first, or says nothing about it.
    for answer in [Some("HTTP/1.1 502 No way\r\n\r\n"), None] {
        let world = World::new(move |_, mut stream| {
            tokio::spawn(async move {
                let Ok(asked) = request(&mut stream).await else {
                    return;
                };
                if asked.starts_with("CONNECT 1.1.1.1:80 ") {
                    match answer {
                        Some(answer) => drop(stream.write_all(answer.as_bytes()).await),
                        None => std::future::pending().await,
                    }
                    return;
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                let _ = request(&mut stream).await;
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    .await;
            });
        })
        .addresses("hooks.example.com", &["1.1.1.1", "8.8.8.8"]);
        let proxy = proxy("http://10.9.9.9:3128", ProxyMode::VettedIp);
        let client = world.client_with(Policy::default(), proxy, None);
        let outcome = client.send(get("http://hooks.example.com/x")).await;
        assert_eq!(outcome.status(), Some(200), "{outcome:?}");
        assert_eq!(world.reached().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_responsible_proxy_gets_the_name_and_literals_are_still_judged() {
    let (world, mut heard) = proxy_world("200 OK");
    let client = world.client_with(
        Policy::default(),
        proxy("http://10.9.9.9:3128", ProxyMode::Delegated),
        None,
    );
    let outcome = client.send(get("http://lan.example.com/")).await;
    assert_eq!(outcome.error_class(), None, "{outcome:?}");
    assert!(
        heard
            .recv()
            .await
            .unwrap()
            .starts_with("CONNECT lan.example.com:80 ")
    );
    assert_eq!(world.asked(), Vec::<String>::new());
    let outcome = client.send(get("http://10.0.0.1/")).await;
    assert_eq!(outcome.error_class(), Some(ErrorClass::Blocked));
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_refuses_is_no_connection() {
    for status in ["407 Proxy Authentication Required", "403 Forbidden", "nonsense"] {
        let (world, _heard) = proxy_world(status);
        let client = world.client_with(
            Policy::default(),
            proxy("http://10.9.9.9:3128", ProxyMode::VettedIp),
            None,
        );
        let outcome = client.send(get("http://1.1.1.1/")).await;
        assert_eq!(outcome.end, End::NoConnection, "{status}");
    }
}

#[test]
fn a_proxy_is_a_plain_http_address() {
    for bad in [
        "",
        "10.9.9.9:3128",
        "socks5://10.9.9.9:1080",
        "https://proxy.example.com",
        "http://p.example.com/x",
    ] {
        assert!(Proxy::parse(bad, ProxyMode::VettedIp).is_err(), "{bad}");
    }
}
