//! Who may do what: every route with every caller.
//!
//! The table below is compared with `routes()`, so that a new route cannot come in without an answer to the question
//! what a stranger gets from it.

use std::collections::BTreeSet;

use allswell_core::time::Span;
use allswell_web::routes::routes;
use allswell_web::start_link_hash;
use http::StatusCode;
use serde_json::json;

use super::house::{House, METRICS_KEY, now};

/// A route below a version of the API, or elsewhere, and the statuses for: nobody, the read-only key, the read-write
/// key, the read-write key of another project, the ping key.
struct Case {
    method: &'static str,
    path: &'static str,
    expected: [u16; 5],
}

const fn case(method: &'static str, path: &'static str, expected: [u16; 5]) -> Case {
    Case {
        method,
        path,
        expected,
    }
}

/// The same for everybody.
const fn open(method: &'static str, path: &'static str, status: u16) -> Case {
    case(method, path, [status; 5])
}

const ELSEWHERE: &[Case] = &[
    open("GET", "/", 200),
    open("GET", "/start/{secret}", 200),
    open("GET", "/static/{file}", 200),
    open("GET", "/favicon.ico", 200),
    open("*", "/ping/{*address}", 200),
    open("GET", "/badge/{key}/{file}", 200),
    open("GET", "/badge/{key}/{signature}/{file}", 200),
    open("GET", "/b/{states}/{file}", 200),
    open("GET", "/api/v3/openapi.json", 200),
    open("GET", "/healthz", 200),
    open("GET", "/readyz", 200),
    // Here the key is a part of the address; one that is not 32 characters long is none.
    case(
        "GET",
        "/projects/{project}/metrics/{key}",
        [403, 200, 403, 403, 400],
    ),
    case(
        "GET",
        "/projects/{project}/checks/metrics/{key}",
        [403, 200, 403, 403, 400],
    ),
    case("GET", "/projects/{project}/metrics/", [401, 200, 403, 403, 400]),
    open("*", "/projects/{project}/metrics", 301),
    case("GET", "/checks/metrics/{key}", [403, 200, 403, 403, 400]),
    case("GET", "/metrics/", [401, 200, 403, 403, 400]),
    open("*", "/metrics", 301),
    open("GET", "/v1/openapi.json", 200),
    open("*", "/v1/{*rest}", 404),
    case("GET", "/v1/projects", [401, 200, 200, 200, 401]),
    case("GET", "/v1/projects/{project}", [401, 200, 200, 404, 401]),
    case("PATCH", "/v1/projects/{project}", [401, 403, 200, 404, 401]),
    case("GET", "/v1/checks", [401, 200, 200, 200, 401]),
    case("POST", "/v1/checks", [401, 403, 201, 201, 401]),
    // A read-only key does not know a check by its id, but is not told less for it.
    case("GET", "/v1/checks/{check}", [401, 200, 200, 404, 401]),
    case("PATCH", "/v1/checks/{check}", [401, 403, 200, 404, 401]),
    case("DELETE", "/v1/checks/{check}", [401, 403, 204, 404, 401]),
    case("POST", "/v1/checks/{check}/pause", [401, 403, 200, 404, 401]),
    case("POST", "/v1/checks/{check}/resume", [401, 403, 200, 404, 401]),
    case("GET", "/v1/checks/{check}/pings", [401, 403, 200, 404, 401]),
    case(
        "GET",
        "/v1/checks/{check}/pings/{n}/body",
        [401, 403, 200, 404, 401],
    ),
    case("GET", "/v1/flips", [401, 200, 200, 200, 401]),
    case("GET", "/v1/incidents", [401, 200, 200, 200, 401]),
    case("GET", "/v1/deliveries", [401, 200, 200, 200, 401]),
    case("GET", "/v1/deliveries/{delivery}", [401, 404, 404, 404, 401]),
    case(
        "POST",
        "/v1/deliveries/{delivery}/again",
        [401, 403, 404, 404, 401],
    ),
    // It goes on for ever: who may is asked in the tests of the native API.
    case("GET", "/v1/channels", [401, 403, 200, 200, 401]),
    case("POST", "/v1/channels", [401, 403, 422, 422, 401]),
    case("GET", "/v1/channels/{channel}", [401, 403, 404, 404, 401]),
    case("PATCH", "/v1/channels/{channel}", [401, 403, 404, 404, 401]),
    case("DELETE", "/v1/channels/{channel}", [401, 403, 404, 404, 401]),
    case(
        "POST",
        "/v1/channels/{channel}/rotate-secret",
        [401, 403, 404, 404, 401],
    ),
    case("POST", "/v1/channels/{channel}/test", [401, 403, 404, 404, 401]),
    case("GET", "/v1/secrets", [401, 403, 200, 200, 401]),
    case("PUT", "/v1/secrets/{name}", [401, 403, 422, 422, 401]),
    case("DELETE", "/v1/secrets/{name}", [401, 403, 404, 404, 401]),
    case("GET", "/v1/keys", [401, 403, 200, 200, 401]),
    case("POST", "/v1/keys", [401, 403, 201, 201, 401]),
    case("DELETE", "/v1/keys/{key}", [401, 403, 404, 404, 401]),
    case("POST", "/v1/keys/{key}/regenerate", [401, 403, 404, 404, 401]),
    case("GET", "/v1/signing-keys", [401, 403, 200, 200, 401]),
    case("POST", "/v1/signing-keys", [401, 403, 201, 201, 401]),
    case("DELETE", "/v1/signing-keys/{key}", [401, 403, 404, 404, 401]),
];

/// Answers that never end: who may is asked without waiting for their end.
const ENDLESS: &[(&str, &str)] = &[("GET", "/v1/events")];

const API: &[Case] = &[
    case("GET", "checks/", [401, 200, 200, 200, 401]),
    case("POST", "checks/", [401, 401, 201, 201, 401]),
    case("GET", "checks/{code}", [401, 200, 200, 403, 401]),
    case("POST", "checks/{code}", [401, 401, 200, 403, 401]),
    case("DELETE", "checks/{code}", [401, 401, 200, 403, 401]),
    case("POST", "checks/{code}/pause", [401, 401, 200, 403, 401]),
    case("POST", "checks/{code}/resume", [401, 401, 200, 403, 401]),
    case("GET", "checks/{code}/pings/", [401, 401, 200, 403, 401]),
    case("GET", "checks/{code}/pings/{n}/body", [401, 401, 200, 403, 401]),
    case("GET", "checks/{code}/flips/", [401, 200, 200, 403, 401]),
    case("GET", "channels/", [401, 401, 200, 200, 401]),
    case("GET", "badges/", [401, 200, 200, 200, 401]),
    // Asks for another key, see below.
    open("GET", "metrics/", 403),
    open("GET", "status/", 200),
    open("POST", "notifications/{code}/status", 200),
    open("*", "checks", 301),
    open("*", "channels", 301),
    open("*", "badges", 301),
    open("*", "metrics", 301),
    open("*", "status", 301),
    open("*", "checks/{code}/pings", 301),
    open("*", "checks/{code}/flips", 301),
];

fn cases() -> Vec<(String, &'static Case)> {
    let mut all: Vec<_> = ELSEWHERE
        .iter()
        .map(|case| (case.path.to_owned(), case))
        .collect();
    for version in 1..=3 {
        all.extend(
            API.iter()
                .map(|case| (format!("/api/v{version}/{}", case.path), case)),
        );
    }
    all
}

#[test]
fn every_route_has_an_access_case_and_every_case_a_route() {
    let known: BTreeSet<(String, &str)> = cases()
        .into_iter()
        .map(|(path, case)| (path, case.method))
        .chain(ENDLESS.iter().map(|(method, path)| ((*path).to_owned(), *method)))
        .collect();
    let served: BTreeSet<(String, &str)> = routes()
        .into_iter()
        .map(|route| (route.path, route.method))
        .collect();
    assert_eq!(known, served);
}

#[tokio::test]
async fn everybody_gets_what_the_table_says_and_a_refusal_changes_nothing() {
    let house = House::new().await;
    let hash = start_link_hash("link");
    house
        .store
        .write(async move |tx| {
            tx.start_link_insert(&hash, now(), now() + Span::from_secs(60))
                .await
        })
        .await
        .unwrap();
    let nobody = "x".repeat(32);
    let callers = [
        None,
        Some(&house.alice.read),
        Some(&house.alice.write),
        Some(&house.charlie.write),
        Some(&house.alice.ping),
    ];
    for (path, case) in cases() {
        for (caller, expected) in callers.iter().zip(case.expected) {
            let path = filled(&house, &path, caller.unwrap_or(&nobody)).await;
            let method = if case.method == "*" { "GET" } else { case.method };
            let before = house.everything().await;
            let mut ask = house.ask(method, &path);
            if let Some(key) = caller {
                ask = ask.key(key).header("authorization", &format!("Bearer {key}"));
            }
            let answer = ask.send().await;
            let told = format!("{method} {path} with {caller:?}: {}", answer.text());
            assert_eq!(answer.status.as_u16(), expected, "{told}");
            if expected >= 300 {
                assert_eq!(house.everything().await, before, "{told}");
                assert!(!answer.text().contains("Nightly backup"), "{told}");
            }
        }
    }
}

/// The path with a fresh check of Alice's in it, which is paused and has a ping with a body.
async fn filled(house: &House, path: &str, key: &str) -> String {
    if !path.contains('{') {
        return path.to_owned();
    }
    let made = house
        .check(json!({ "name": "Nightly backup", "tags": "prod" }))
        .await;
    let id = made["uuid"].as_str().unwrap();
    house.ping(id, "done").await;
    let paused = house.api("POST", &format!("checks/{id}/pause")).send().await;
    assert_eq!(paused.status, StatusCode::OK);
    let badges = house.api("GET", "badges/").send().await.json();
    let badge = |name: &str| {
        badges["badges"][name]["svg"]
            .as_str()
            .unwrap()
            .replace(super::house::SITE, "")
    };
    match path {
        "/badge/{key}/{file}" => badge("*"),
        "/badge/{key}/{signature}/{file}" => badge("prod"),
        "/b/{states}/{file}" => made["badge_url"]
            .as_str()
            .unwrap()
            .replace(super::house::SITE, ""),
        _ => path
            .replace("{secret}", "link")
            .replace("{file}", "mark.svg")
            .replace("{*address}", id)
            .replace("{project}", &house.alice.project.to_string())
            .replace("{key}", key)
            .replace("{code}", id)
            .replace("{check}", id)
            .replace("{delivery}", id)
            .replace("{channel}", id)
            .replace("{name}", "token")
            .replace("{*rest}", "nowhere")
            .replace("{n}", "1"),
    }
}

#[tokio::test]
async fn the_counts_of_the_instance_are_for_the_metrics_key_alone() {
    let house = House::new().await;
    let id = house.check_id().await;
    house.ping(&id, "").await;
    for (key, expected) in [
        (METRICS_KEY, 200),
        ("", 403),
        ("the-metrics-kez", 403),
        ("the-metrics-key-", 403),
    ] {
        let ask = house.ask("GET", "/api/v1/metrics/").header("x-metrics-key", key);
        let answer = ask.send().await;
        assert_eq!(answer.status.as_u16(), expected, "{key:?}");
        if expected == 200 {
            let counts = json!({ "ts": now().as_micros() / 1_000_000, "max_ping_id": 1, "max_notification_id": 0, "num_unprocessed_flips": 0 });
            assert_eq!(answer.json(), counts);
        }
    }
}

#[tokio::test]
async fn a_key_of_another_project_opens_no_gauges_but_its_own() {
    let house = House::new().await;
    house.check_id().await;
    let path = format!("/projects/{}/metrics/{}", house.alice.project, house.charlie.read);
    assert_eq!(house.ask("GET", &path).send().await.status, StatusCode::FORBIDDEN);
    let path = format!("/projects/nobody/metrics/{}", house.alice.read);
    assert_eq!(house.ask("GET", &path).send().await.status, StatusCode::NOT_FOUND);
    let path = format!("/checks/metrics/{}", house.charlie.read);
    let theirs = house.ask("GET", &path).send().await;
    assert!(theirs.status.is_success() && theirs.text().contains("hc_checks_total 0"));
    let path = format!("/checks/metrics/{}", house.alice.read);
    let ours = house.ask("GET", &path).send().await;
    assert!(ours.text().contains(r#"hc_check_up{name="Nightly backup""#));
    assert!(ours.header("content-type").starts_with("text/plain"));
}

#[tokio::test]
async fn the_gauges_of_a_project_are_where_healthchecks_has_them() {
    let house = House::new().await;
    house
        .check(json!({ "name": "Nightly backup", "tags": "db prod" }))
        .await;
    let (project, read) = (house.alice.project, &house.alice.read);
    let bearer = |key: &str| format!("Bearer {key}");
    for (path, header) in [
        (format!("/projects/{project}/metrics/{read}"), None),
        (format!("/projects/{project}/checks/metrics/{read}"), None),
        (format!("/projects/{project}/metrics/"), Some(bearer(read))),
    ] {
        let mut ask = house.ask("GET", &path);
        if let Some(header) = &header {
            ask = ask.header("authorization", header);
        }
        let answer = ask.send().await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        let line = r#"hc_check_up{name="Nightly backup", tags="db prod", unique_key=""#;
        assert!(answer.text().contains(line), "{}", answer.text());
    }
    let path = format!("/projects/{project}/metrics/");
    for (header, status) in [
        ("", 401),
        (read.as_str(), 401),
        ("Bearer short", 400),
        (&bearer(&house.alice.write), 403),
        (&bearer(&house.charlie.read), 403),
    ] {
        let answer = house
            .ask("GET", &path)
            .header("authorization", header)
            .send()
            .await;
        assert_eq!(answer.status.as_u16(), status, "{header:?}");
    }
    let answer = house.ask("POST", path.trim_end_matches('/')).send().await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (301, path.as_str())
    );
}
