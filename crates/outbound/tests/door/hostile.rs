//! Servers and names that mean no good.

use allswell_core::exchange::{Class, End, ErrorClass, Method, Phase, Request, Take};
use allswell_core::limits;
use allswell_core::policy::{Ourselves, Policy};
use allswell_core::refusal::Rule;
use allswell_core::time::Span;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::{Answer, Dead, World, found, get, request};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn blocked(end: &End) -> Option<Rule> {
    match end {
        End::Blocked(refusal) => Some(refusal.rule),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_good_answer_comes_back_with_its_phases() {
    let world = World::answering("HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 5\r\n\r\nlater")
        .addresses("hooks.example.com", &["1.1.1.1"]);
    let outcome = world.get("http://hooks.example.com/a").await;
    let End::Answered(answer) = &outcome.end else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        (answer.status, answer.excerpt.as_slice()),
        (503, b"later".as_slice())
    );
    assert_eq!(
        answer.retry_after.map(|wish| wish.delay(Default::default())),
        Some(Span::from_secs(7))
    );
    assert_eq!(outcome.error_class(), Some(ErrorClass::HttpStatus));
    assert_eq!(outcome.peer, Some("1.1.1.1:80".parse().unwrap()));
    let phases = outcome.phases;
    assert!(phases.dns.is_some() && phases.connect.is_some() && phases.body.is_some());
    assert_eq!(phases.tls, None);
}

#[tokio::test(start_paused = true)]
async fn the_request_is_what_was_asked_for_and_nothing_more() {
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let world = World::new(move |_, mut stream| {
        let told = told.clone();
        tokio::spawn(async move {
            let _ = told.send(request(&mut stream).await.unwrap());
            let _ = stream.write_all(OK).await;
        });
    });
    let send = Request::new(
        Class::Webhook,
        Method::Post,
        "http://1.1.1.1:8080/a|b?c={d}#e".into(),
    )
    .header("X-Test", "grün")
    .header("X-Test", "two")
    .body("hello");
    world.client(Policy::default()).send(send).await;
    assert_eq!(
        heard.recv().await.unwrap(),
        // Header values go out in Latin-1 where they fit into it, and the reader of this test takes them for UTF-8.
        "POST /a|b?c={d} HTTP/1.1\r\nHost: 1.1.1.1:8080\r\nX-Test: gr\u{fffd}n\r\nX-Test: two\r\nUser-Agent: Allswell/0\r\n\
         Accept-Encoding: identity\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_costs_thirty_seconds_and_no_more() {
    let world = World::new(|_, stream| {
        tokio::spawn(async move {
            let _held = stream;
            std::future::pending::<()>().await;
        });
    });
    let outcome = world.get("http://1.1.1.1/").await;
    let phase = Phase::FirstByte;
    assert_eq!(outcome.end, End::TimedOut { phase, status: None });
    assert_eq!(outcome.phases.total.as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_dripping_body_ends_with_the_budget() {
    let world = World::new(|_, mut stream| {
        tokio::spawn(async move {
            let _ = request(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            let second = std::time::Duration::from_secs(1);
            loop {
                // Wait a second of the paused clock, without the `sleep` that steps must not use.
                let _ = tokio::time::timeout(second, std::future::pending::<()>()).await;
                if stream.write_all(b"x").await.is_err() {
                    return;
                }
            }
        });
    });
    // The status was said: calling again would tell the other side twice.
    let outcome = world.get("http://1.1.1.1/").await;
    let End::Answered(answer) = &outcome.end else {
        panic!("{outcome:?}")
    };
    assert_eq!((answer.status, answer.truncated), (200, true));
    assert_eq!(answer.excerpt, b"x".repeat(answer.excerpt.len()));
    assert!(answer.excerpt.len() >= 29, "{}", answer.excerpt.len());
    assert_eq!(outcome.phases.total.as_secs(), 30);
    assert!(outcome.detail.contains("ran out"), "{}", outcome.detail);
    assert_eq!(outcome.error_class(), None);

    // Who wants all of it has nothing.
    let mut send = get("http://1.1.1.1/");
    send.take.whole = true;
    let outcome = world.client(Policy::default()).send(send).await;
    let end = End::TimedOut {
        phase: Phase::Body,
        status: Some(200),
    };
    assert_eq!(outcome.end, end);
    assert_eq!(outcome.phases.total.as_secs(), 30);
    assert_eq!(outcome.error_class(), Some(ErrorClass::Timeout));
}

/// Writes the same for ever, and tells how much it got rid of when nobody reads any more.
fn endless(head: &'static [u8], drop: &'static [u8]) -> (World, tokio::sync::mpsc::UnboundedReceiver<usize>) {
    let (told, heard) = tokio::sync::mpsc::unbounded_channel();
    let world = World::new(move |_, mut stream| {
        let told = told.clone();
        tokio::spawn(async move {
            let _ = request(&mut stream).await;
            let _ = stream.write_all(head).await;
            let mut written = 0;
            while let Ok(n) = stream.write(drop).await {
                written += n;
            }
            let _ = told.send(written);
        });
    });
    (world, heard)
}

#[tokio::test(start_paused = true)]
async fn an_endless_body_is_cut_off() {
    let (world, mut heard) = endless(b"HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 1024]);
    let outcome = world.get("http://1.1.1.1/").await;
    let End::Answered(answer) = &outcome.end else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        (answer.excerpt.len(), answer.truncated),
        (limits::EXCERPT_BYTES_MAX, true)
    );
    let written = heard.recv().await.unwrap();
    assert!(
        written < 4 * limits::ANSWER_BYTES_MAX,
        "{written} bytes were taken"
    );
}

#[tokio::test(start_paused = true)]
async fn an_endless_chunked_body_is_cut_off_too() {
    let (world, mut heard) = endless(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"10\r\nxxxxxxxxxxxxxxxx\r\n",
    );
    let outcome = world.get("http://1.1.1.1/").await;
    assert_eq!(outcome.status(), Some(200));
    assert_eq!(outcome.error_class(), None);
    let written = heard.recv().await.unwrap();
    assert!(
        written < 4 * limits::ANSWER_BYTES_MAX,
        "{written} bytes were taken"
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_wanted_whole_or_not_at_all_is_too_large() {
    let (world, _heard) = endless(b"HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 1024]);
    let mut send = get("http://1.1.1.1/");
    send.take = Take {
        whole: true,
        ..Take::default()
    };
    let outcome = world.client(Policy::default()).send(send).await;
    assert_eq!(outcome.end, End::TooLarge { status: Some(200) });
    assert_eq!(outcome.error_class(), Some(ErrorClass::TooLarge));
}

#[tokio::test(start_paused = true)]
async fn a_head_without_end_is_too_large() {
    let (world, mut heard) = endless(b"HTTP/1.1 200 OK\r\nX-Long: ", &[b'x'; 1024]);
    let outcome = world.get("http://1.1.1.1/").await;
    assert_eq!(outcome.end, End::TooLarge { status: None }, "{}", outcome.detail);
    let written = heard.recv().await.unwrap();
    assert!(
        written < 4 * limits::ANSWER_HEAD_BYTES_MAX + 65_536,
        "{written} bytes were taken"
    );
}

#[tokio::test(start_paused = true)]
async fn a_head_with_too_many_lines_is_too_large() {
    for (lines, fits) in [(90, true), (101, false)] {
        let mut head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n".to_vec();
        for line in 1..lines {
            head.extend(format!("X-{line}: 1\r\n").bytes());
        }
        head.extend(b"\r\n");
        let outcome = World::answering(head).get("http://1.1.1.1/").await;
        assert_eq!(outcome.status() == Some(200), fits, "{lines}: {outcome:?}");
        assert_eq!(
            outcome.end == End::TooLarge { status: None },
            !fits,
            "{lines}: {outcome:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_http_is_a_broken_connection() {
    let table: [&[u8]; 6] = [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"220 mail.example.com ESMTP\r\n",
        b"\0\0\0\0\0\0\0\0\0\0\0\0",
        b"HTTP/1.1 999999 No\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ];
    for bytes in table {
        let outcome = World::answering(bytes).get("http://1.1.1.1/").await;
        assert!(
            matches!(
                outcome.end,
                End::Broken {
                    phase: Phase::FirstByte,
                    ..
                }
            ),
            "{:?}: {outcome:?}",
            String::from_utf8_lossy(bytes)
        );
        assert_eq!(outcome.error_class(), Some(ErrorClass::Connect));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_does_not_take_the_status_back() {
    let world = World::answering("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
    let outcome = world.get("http://1.1.1.1/").await;
    let End::Answered(answer) = &outcome.end else {
        panic!("{outcome:?}")
    };
    assert_eq!((answer.status, answer.truncated), (200, true));
    assert!(outcome.detail.contains("broke off"), "{}", outcome.detail);
    let mut send = get("http://1.1.1.1/");
    send.take.whole = true;
    let outcome = world.client(Policy::default()).send(send).await;
    assert!(
        matches!(
            outcome.end,
            End::Broken {
                phase: Phase::Body,
                status: Some(200)
            }
        ),
        "{outcome:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_packed_answer_stays_packed() {
    let world = World::answering(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x02\x03\x04",
    );
    let outcome = world.get("http://1.1.1.1/").await;
    let End::Answered(answer) = &outcome.end else {
        panic!("{outcome:?}")
    };
    assert_eq!(answer.excerpt, b"\x1f\x02\x03\x04");
}

#[tokio::test(start_paused = true)]
async fn one_bad_address_refuses_the_whole_name() {
    for addresses in [
        ["1.1.1.1", "10.0.0.1"],
        ["10.0.0.1", "1.1.1.1"],
        ["1.1.1.1", "::1"],
    ] {
        let world = World::answering(OK).addresses("mixed.example.com", &addresses);
        let outcome = world.get("http://mixed.example.com/").await;
        assert_eq!(blocked(&outcome.end), Some(Rule::Address), "{addresses:?}");
        assert_eq!(world.reached(), [], "{addresses:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_is_asked_for_at_each_attempt_and_once() {
    let world = World::answering(OK).name(
        "rebind.example.com",
        &[found(&["1.1.1.1"]), found(&["127.0.0.1"]), found(&["1.1.1.1"])],
    );
    let client = world.client(Policy::default());
    let url = "http://rebind.example.com/";
    assert_eq!(client.send(get(url)).await.error_class(), None);
    assert_eq!(
        client.send(get(url)).await.error_class(),
        Some(ErrorClass::Blocked)
    );
    assert_eq!(client.send(get(url)).await.error_class(), None);
    assert_eq!(world.asked().len(), 3, "once for each attempt");
    assert!(world.reached().iter().all(|it| it.ip().to_string() == "1.1.1.1"));
}

#[tokio::test(start_paused = true)]
async fn a_name_with_too_many_addresses_or_aliases_is_refused() {
    let many: Vec<String> = (1..=33).map(|n| format!("11.0.0.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (answer, good) in [
        (found(&many[..32]), true),
        (found(&many), false),
        (Answer::Found(vec!["1.1.1.1".parse().unwrap()], 8), true),
        (Answer::Found(vec!["1.1.1.1".parse().unwrap()], 9), false),
    ] {
        let world = World::answering(OK).name("many.example.com", &[answer]);
        let outcome = world.get("http://many.example.com/").await;
        assert_eq!(outcome.error_class().is_none(), good, "{outcome:?}");
        assert_eq!(blocked(&outcome.end).is_none(), good, "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn names_that_lead_nowhere_end_as_dns_or_in_time() {
    let world = World::answering(OK).name("silent.example.com", &[Answer::Silence]);
    let outcome = world.get("http://silent.example.com/").await;
    let phase = Phase::Dns;
    assert_eq!(outcome.end, End::TimedOut { phase, status: None });
    assert_eq!(outcome.phases.total.as_secs(), 5);
    let outcome = world.get("http://nothing.example.com/").await;
    assert_eq!(outcome.error_class(), Some(ErrorClass::Dns));
}

#[tokio::test(start_paused = true)]
async fn the_next_address_is_tried_when_one_is_dead() {
    let world = World::answering(OK)
        .addresses("hooks.example.com", &["1.1.1.1", "2606:4700::1", "8.8.8.8"])
        .dead("1.1.1.1", Dead::Swallows)
        .dead("2606:4700::1", Dead::Refuses);
    let outcome = world.get("http://hooks.example.com/").await;
    assert_eq!(outcome.error_class(), None, "{outcome:?}");
    assert_eq!(outcome.peer, Some("8.8.8.8:80".parse().unwrap()));
    assert!(outcome.phases.connect.unwrap() < Span::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn no_connection_is_told_from_a_slow_one() {
    let world = World::answering(OK)
        .dead("1.1.1.1", Dead::Refuses)
        .dead("8.8.8.8", Dead::Swallows);
    let outcome = world.get("http://1.1.1.1/").await;
    assert_eq!(outcome.end, End::NoConnection);
    let outcome = world.get("http://8.8.8.8/").await;
    let phase = Phase::Connect;
    assert_eq!(outcome.end, End::TimedOut { phase, status: None });
    assert_eq!(outcome.phases.total.as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_comes_out_elsewhere_is_not_used() {
    let world = World::answering(OK).detour("10.0.0.1");
    let outcome = world.get("http://1.1.1.1/").await;
    assert_eq!(blocked(&outcome.end), Some(Rule::Peer));
}

#[tokio::test(start_paused = true)]
async fn this_server_itself_is_called_by_its_public_url_alone() {
    let policy = Policy {
        ourselves: Ourselves {
            ports: vec![8000],
            site: Some(("watch.example.com".to_owned(), 8000)),
        },
        ..Policy::default()
    };
    let world = World::answering(OK)
        .local("1.2.3.4")
        .addresses("watch.example.com", &["1.2.3.4"])
        .addresses("other.example.com", &["1.2.3.4"]);
    let client = world.client(policy);
    let table = [
        ("http://watch.example.com:8000/", None),
        ("http://other.example.com:8000/", Some(Rule::Ourselves)),
        ("http://1.2.3.4:8000/", Some(Rule::Ourselves)),
        ("http://1.2.3.4:9000/", None),
        ("http://1.1.1.1:8000/", None),
    ];
    for (url, rule) in table {
        assert_eq!(blocked(&client.send(get(url)).await.end), rule, "{url}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_refused_before_anything_is_called() {
    let world = World::answering(OK);
    let client = world.client(Policy::default());
    let long = "x".repeat(limits::REQUEST_HEADER_BYTES_MAX + 1);
    let mut follows = get("http://1.1.1.1/");
    follows.redirects_max = 1;
    let table = [
        (get("http://1.1.1.1/").header("X", long.as_str()), Rule::Header),
        (get("http://1.1.1.1/").header("X", "a\nb"), Rule::Header),
        (get("http://1.1.1.1/").header("Host", "example.com"), Rule::Header),
        (
            get("http://1.1.1.1/").body(vec![0; limits::REQUEST_BODY_BYTES_MAX + 1]),
            Rule::Body,
        ),
        (follows, Rule::Redirect),
    ];
    for (request, rule) in table {
        assert_eq!(blocked(&client.send(request).await.end), Some(rule));
    }
    assert_eq!(world.reached(), []);
}

/// Answers the first request of each path with what the path says: `/301/host/path`.
fn redirecting() -> (World, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let (told, heard) = tokio::sync::mpsc::unbounded_channel();
    let world = World::new(move |_, mut stream| {
        let told = told.clone();
        tokio::spawn(async move {
            let Ok(asked) = request(&mut stream).await else {
                return;
            };
            let path = asked.split(' ').nth(1).unwrap_or_default().to_owned();
            let _ = told.send(asked);
            let answer = match path.trim_start_matches('/').split_once('/') {
                Some((status, to)) if status.len() == 3 => {
                    format!("HTTP/1.1 {status} Go\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
                }
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
            };
            let _ = stream.write_all(answer.as_bytes()).await;
        });
    });
    (world, heard)
}

fn probe(method: Method, url: &str) -> Request {
    let mut request = Request::new(Class::Probe, method, url.to_owned())
        .header("X-Api-Key", "hunter2")
        .body("secret");
    request.redirects_max = limits::REDIRECTS_MAX;
    request
}

#[tokio::test(start_paused = true)]
async fn a_webhook_follows_nothing() {
    let (world, _heard) = redirecting();
    let outcome = world.get("http://1.1.1.1/302/http://8.8.8.8/").await;
    let End::Answered(answer) = &outcome.end else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        (answer.status, answer.location.as_deref()),
        (302, Some("http://8.8.8.8/"))
    );
    assert_eq!(outcome.error_class(), Some(ErrorClass::HttpStatus));
    assert_eq!(world.reached().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_probe_takes_nothing_of_the_user_to_another_origin() {
    let (world, mut heard) = redirecting();
    let client = world.client(Policy::default());
    let outcome = client
        .send(probe(Method::Get, "http://1.1.1.1/302/http://8.8.8.8/x"))
        .await;
    assert_eq!(outcome.status(), Some(200), "{outcome:?}");
    let (first, second) = (heard.recv().await.unwrap(), heard.recv().await.unwrap());
    assert!(first.contains("hunter2") && first.ends_with("secret"));
    assert!(
        !second.contains("hunter2") && !second.contains("secret"),
        "{second}"
    );
    assert!(
        second.contains("Host: 8.8.8.8\r\n") && !second.to_lowercase().contains("referer"),
        "{second}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_post_is_not_replayed_to_another_origin() {
    let (world, mut heard) = redirecting();
    let client = world.client(Policy::default());
    for status in [307, 308] {
        let url = format!("http://1.1.1.1/{status}/http://8.8.8.8/x");
        let outcome = client.send(probe(Method::Post, &url)).await;
        assert_eq!(outcome.status(), Some(status));
        heard.recv().await.unwrap();
        let url = format!("http://1.1.1.1/{status}//x");
        let outcome = client.send(probe(Method::Post, &url)).await;
        assert_eq!(outcome.status(), Some(200));
        heard.recv().await.unwrap();
        assert!(
            heard.recv().await.unwrap().ends_with("secret"),
            "the same origin gets it again"
        );
    }
    assert!(world.reached().iter().all(|it| it.ip().to_string() == "1.1.1.1"));
    let outcome = client
        .send(probe(Method::Post, "http://1.1.1.1/303/http://8.8.8.8/x"))
        .await;
    assert_eq!(outcome.status(), Some(200));
    heard.recv().await.unwrap();
    let second = heard.recv().await.unwrap();
    assert!(
        second.starts_with("GET /x ") && !second.contains("secret"),
        "{second}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_redirect_into_the_network_is_refused_and_a_loop_ends() {
    let (world, mut heard) = redirecting();
    let world = world
        .addresses("pub.example.com", &["1.1.1.1"])
        .addresses("lan.example.com", &["10.0.0.1"]);
    let client = world.client(Policy::default());
    for (to, rule) in [
        ("http://127.0.0.1/", Rule::Address),
        ("//169.254.169.254/", Rule::Metadata),
        ("http://lan.example.com/", Rule::Address),
        ("http://pub.example.com:25/", Rule::Port),
    ] {
        let url = format!("http://pub.example.com/302/{to}");
        let outcome = client.send(probe(Method::Get, &url)).await;
        assert_eq!(blocked(&outcome.end), Some(rule), "{to}");
    }
    while heard.try_recv().is_ok() {}
    let endless = World::answering("HTTP/1.1 302 Go\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n");
    let outcome = endless
        .client(Policy::default())
        .send(probe(Method::Get, "http://1.1.1.1/"))
        .await;
    assert_eq!(outcome.status(), Some(302));
    assert_eq!(endless.reached().len(), 1 + usize::from(limits::REDIRECTS_MAX));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_dropped_closes_its_connection() {
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let world = World::new(move |_, mut stream| {
        let told = told.clone();
        tokio::spawn(async move {
            let _ = request(&mut stream).await;
            let _ = told.send("begun");
            let rest = stream.read_to_end(&mut Vec::new()).await;
            let _ = told.send(if rest.is_ok() { "closed" } else { "broken" });
        });
    });
    let client = world.client(Policy::default());
    let attempt = tokio::spawn(async move { client.send(get("http://1.1.1.1/")).await });
    assert_eq!(heard.recv().await, Some("begun"));
    attempt.abort();
    assert_eq!(heard.recv().await, Some("closed"));
}
