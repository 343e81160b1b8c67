//! Every vector of `tests/outbound/vectors.json`, with a connector that notes where a connection would have gone.
//! The same file runs through the real binary in a network namespace (`tests/test_outbound.py`).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use allswell_core::cidr::Cidr;
use allswell_core::exchange::{Class, End, Method, Outcome, Request};
use allswell_core::policy::{HostPattern, Policy};
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::world::{self, Answer, World};

const PORT: &str = "8080";

fn vectors() -> Vec<Value> {
    let file: Value = serde_json::from_str(include_str!("../../../../tests/outbound/vectors.json")).unwrap();
    file["vectors"].as_array().unwrap().clone()
}

fn filled(text: &str) -> String {
    text.replace("{port}", PORT).replace("{token}", "token")
}

fn texts(value: &Value) -> Vec<String> {
    let list = value.as_array().cloned().unwrap_or_default();
    list.iter()
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

fn policy(vector: &Value) -> Policy {
    let wanted = &vector["policy"];
    let hosts = |key: &str| {
        texts(&wanted[key])
            .iter()
            .map(|text| HostPattern::parse(text).unwrap())
            .collect()
    };
    let cidrs = |key: &str| {
        texts(&wanted[key])
            .iter()
            .map(|text| Cidr::parse(text).unwrap())
            .collect()
    };
    Policy {
        allow: cidrs("allow_cidrs"),
        deny: cidrs("deny_cidrs"),
        allow_hosts: hosts("allow_hosts"),
        only_hosts: hosts("only_hosts"),
        https_only: wanted["https_only"] == true,
        ..Policy::default()
    }
}

/// Both families at once, as the resolver gives them.
fn answer(value: &Value) -> Answer {
    if value["drop"] == true {
        return Answer::Silence;
    }
    let addresses: Vec<IpAddr> = ["A", "AAAA"]
        .iter()
        .flat_map(|family| texts(&value[*family]))
        .map(|text| text.parse().unwrap())
        .collect();
    if addresses.is_empty() || value.get("owner").is_some() {
        return Answer::Nothing;
    }
    Answer::Found(addresses, usize::from(value.get("CNAME").is_some()))
}

/// Servers that redirect to the location if the path asks for it: `/r/302/token`.
fn world(location: Arc<Mutex<String>>) -> World {
    World::new(move |_, mut stream| {
        let location = location.lock().unwrap().clone();
        tokio::spawn(async move {
            let Ok(asked) = world::request(&mut stream).await else {
                return;
            };
            let status = asked.split('/').nth(2).and_then(|text| text.parse::<u16>().ok());
            let status = status.filter(|_| !location.is_empty()).unwrap_or(200);
            let head = format!(
                "HTTP/1.1 {status} Whatever\r\nLocation: {location}\r\nAlt-Svc: h2=\"{location}\"\r\nContent-Length: 0\r\n\r\n"
            );
            let _ = stream.write_all(head.as_bytes()).await;
        });
    })
}

fn names(vector: &Value) -> Vec<(String, Vec<Answer>)> {
    let said = |(name, said): (String, Value)| {
        let turns = ["sequence", "alternate"]
            .iter()
            .find_map(|key| said[*key].as_array());
        let answers = match turns {
            Some(turns) => turns.iter().map(answer).collect(),
            None => vec![answer(&said)],
        };
        (format!("{name}.ssrf.test"), answers)
    };
    let names = vector["dns"].as_object().cloned().unwrap_or_default();
    names.into_iter().map(said).collect()
}

fn is_same(reached: &SocketAddr, wanted: &str) -> bool {
    wanted.parse::<IpAddr>().unwrap().to_canonical() == reached.ip()
}

fn hold(vector: &Value, class: Class, reached: &[SocketAddr], outcomes: &[Outcome]) {
    let id = vector["id"].as_str().unwrap();
    let (targets, also) = (texts(&vector["targets"]), texts(&vector["allow_also"]));
    let among = |list: &[String], reached: &SocketAddr| list.iter().any(|wanted| is_same(reached, wanted));
    for forbidden in texts(&vector["forbidden"]) {
        assert!(
            !reached.iter().any(|it| is_same(it, &forbidden)),
            "{id} {class:?}: {reached:?}"
        );
    }
    match vector["expect"].as_str().unwrap() {
        "allow" => {
            let arrived = outcomes
                .iter()
                .all(|outcome| matches!(outcome.end, End::Answered(_)));
            assert!(arrived && !reached.is_empty(), "{id} {class:?}: {outcomes:?}");
            assert!(
                reached.iter().all(|it| among(&targets, it)),
                "{id} {class:?}: {reached:?}"
            );
        }
        "deny" => {
            assert!(
                reached.iter().all(|it| among(&also, it)),
                "{id} {class:?}: {reached:?}"
            );
            let followed = outcomes.iter().any(|outcome| outcome.error_class().is_none());
            let tolerated = !also.is_empty();
            assert!(!followed || tolerated, "{id} {class:?}: {outcomes:?}");
        }
        _ => assert!(
            reached.iter().all(|it| among(&targets, it) || among(&also, it)),
            "{id} {class:?}: {reached:?}"
        ),
    }
}

fn request(vector: &Value, class: Class, url: &str) -> Option<Request> {
    let mut request = Request::new(class, Method::Get, url.to_owned());
    if class == Class::Probe {
        request.redirects_max = 5;
    }
    let value = vector["inject"]["value"].as_str().map(filled).unwrap_or_default();
    match vector["inject"]["part"].as_str() {
        None => Some(request),
        Some("header_value") => Some(request.header("X-Test", value)),
        Some("header_name") => Some(request.header(&value, "1")),
        Some("method") => {
            assert_eq!(Method::from_word(&value), None, "{}", vector["id"]);
            None
        }
        Some("path") => Some(Request::new(
            class,
            Method::Get,
            format!("http://pub.ssrf.test:{PORT}{value}"),
        )),
        // What a template makes of a check's name is its own business; here the name lands in a header raw.
        Some("check_name" | "tag") => Some(request.header("X-Name", value)),
        Some(other) => panic!("an unknown part {other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn every_vector_holds_for_every_class() {
    let (mut run, mut allowed) = (0, 0);
    let location = Arc::new(Mutex::new(String::new()));
    let world = world(location.clone());
    let mut clients = HashMap::new();
    for vector in vectors() {
        if vector.get("env").is_some() {
            // Nothing in this crate reads the environment; the real binary shows it.
            continue;
        }
        for class in Class::ALL {
            *location.lock().unwrap() = filled(vector["redirect_to"].as_str().unwrap_or_default());
            world.begin(names(&vector));
            let client = clients
                .entry(vector["policy"].to_string())
                .or_insert_with(|| world.client(policy(&vector)));
            let url = filled(vector["url"].as_str().unwrap());
            let url = if url.contains("://") || vector.get("kind").is_none() {
                url
            } else {
                // A host and a port for another protocol: the same road, by its host.
                format!("http://{url}/")
            };
            let Some(request) = request(&vector, class, &url) else {
                continue;
            };
            let mut outcomes = Vec::new();
            for _ in 0..vector["attempts"].as_u64().unwrap_or(1) {
                outcomes.push(client.send(request.clone()).await);
            }
            hold(&vector, class, &world.reached(), &outcomes);
            run += 1;
            allowed += usize::from(vector["expect"] == "allow");
        }
    }
    assert!(
        run > 1_000 && allowed > 90,
        "{run} runs, {allowed} of them allowed"
    );
}
