//! What pings are answered: in Healthchecks' words or in JSON, and where a key or patience is asked for.

use allswell_core::quota::Quota;
use allswell_core::time::Span;
use allswell_engine::ingest::{Over, PingRules};
use http::StatusCode;
use serde_json::json;

use crate::api::house::{Answer, House};

async fn ping(house: &House, path: &str, headers: &[(&'static str, &str)]) -> Answer {
    let mut ask = house.ask("POST", &format!("/ping/{path}"));
    for (name, value) in headers {
        ask = ask.header(name, value);
    }
    ask.send().await
}

const JSON: (&str, &str) = ("accept", "application/json");

#[tokio::test]
async fn who_asks_for_json_by_name_is_told_what_was_stored() {
    let house = House::new().await;
    let id = house.check_id().await;
    for (headers, n) in [
        (&[][..], 1),
        (&[("accept", "application/json, text/plain, */*")], 2),
    ] {
        let answer = ping(&house, &id, headers).await;
        assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "OK"));
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8", "{n}");
    }
    let answer = ping(&house, &format!("{id}/3"), &[JSON]).await;
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("ping-body-limit"), "10000");
    assert_eq!(
        answer.json(),
        json!({ "status": "ok", "check": id, "n": 3, "kind": "fail", "ignored": false, "kept": true,
                "check_status": "down", "created": false })
    );
    let made = ping(&house, &format!("{}/made?create=1", house.alice.ping), &[JSON]).await;
    assert_eq!(
        (made.status, made.json()["created"].as_bool()),
        (StatusCode::CREATED, Some(true))
    );
    // The id is a password, and a ping key opens none.
    let by_slug = ping(&house, &format!("{}/nightly", house.alice.ping), &[JSON]).await;
    for answer in [made, by_slug] {
        assert_eq!(
            answer.json()["check"],
            serde_json::Value::Null,
            "{}",
            answer.text()
        );
    }
}

#[tokio::test]
async fn what_is_refused_is_told_in_the_form_that_was_asked_for() {
    let house = House::new().await;
    let id = house.check_id().await;
    let nobody = "5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a70";
    for (path, status, text, word) in [
        (nobody.to_owned(), 404, "not found", "not-found"),
        (format!("{nobody}/300"), 404, "not found", "not-found"),
        (format!("{id}/300"), 400, "invalid url format", "bad-request"),
        (format!("{id}?rid=x"), 400, "invalid uuid format", "bad-request"),
        ("key/Backup".to_owned(), 400, "invalid url format", "bad-request"),
    ] {
        let plain = ping(&house, &path, &[]).await;
        assert_eq!(
            (plain.status.as_u16(), plain.text().as_str()),
            (status, text),
            "{path}"
        );
        let problem = ping(&house, &path, &[JSON]).await;
        assert_eq!(problem.status.as_u16(), status, "{path}");
        assert_eq!(problem.header("content-type"), "application/problem+json");
        assert_eq!(problem.json()["type"], format!("urn:allswell:problem:{word}"));
        // One who keeps a 404 would answer for us when the check exists.
        for answer in [plain, problem] {
            assert!(answer.header("cache-control").contains("no-store"), "{path}");
        }
    }
}

#[tokio::test]
async fn beyond_the_quota_a_ping_is_counted_or_told_when_to_come_again() {
    let rules = |over| PingRules {
        per_check: Some(Quota::new(2, Span::from_secs(3_600))),
        over,
        require_key: false,
    };
    let house = House::with_rules(rules(Over::Count)).await;
    let id = house.check_id().await;
    for n in 1..=4 {
        let answer = ping(&house, &id, &[JSON]).await.json();
        assert_eq!((&answer["n"], &answer["kept"]), (&json!(n), &json!(n <= 2)));
    }
    let path = format!("/v1/checks/{id}");
    let check = house
        .ask("GET", &path)
        .key(&house.alice.write)
        .send()
        .await
        .json();
    assert_eq!(
        (&check["ping_count"], &check["pings_not_kept"]),
        (&json!(4), &json!(2))
    );
    let log = house
        .ask("GET", &format!("{path}/pings"))
        .key(&house.alice.write)
        .send()
        .await
        .json();
    assert_eq!(
        (log["items"].as_array().unwrap().len(), &log["not_kept"]),
        (2, &json!(2))
    );

    let house = House::with_rules(rules(Over::Reject)).await;
    let id = house.check_id().await;
    for _ in 0..2 {
        assert_eq!(ping(&house, &id, &[]).await.status, StatusCode::OK);
    }
    for headers in [&[][..], &[JSON]] {
        let refused = ping(&house, &id, headers).await;
        assert_eq!(
            refused.status,
            StatusCode::TOO_MANY_REQUESTS,
            "{}",
            refused.text()
        );
        // Half an hour for one of two an hour; the clock of the house goes on a little.
        let wait: i64 = refused.header("retry-after").parse().unwrap();
        assert!((1..=1_800).contains(&wait), "{wait}");
    }
}

#[tokio::test]
async fn a_project_may_ask_for_its_ping_key() {
    let house = House::new().await;
    let id = house.check_id().await;
    let path = format!("/v1/projects/{}", house.alice.project);
    let set = async |on: bool| {
        let fields = json!({ "require_ping_key": on });
        let answer = house
            .ask("PATCH", &path)
            .key(&house.alice.write)
            .json(&fields)
            .send()
            .await;
        assert_eq!(answer.json()["require_ping_key"], on, "{}", answer.text());
    };
    let own = house.alice.ping.clone();
    let with_key = [("x-ping-key", own.as_str())];
    set(true).await;
    let missing = ping(&house, &id, &[]).await;
    assert_eq!(missing.status, StatusCode::FORBIDDEN);
    assert!(missing.text().contains("X-Ping-Key"), "{}", missing.text());
    // The same with a flaw: what the address names decides first.
    assert_eq!(
        ping(&house, &format!("{id}/300"), &[]).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        ping(&house, &id, &[("x-ping-key", "nonsense")]).await.status,
        StatusCode::FORBIDDEN
    );
    let foreign = house.charlie.ping.clone();
    for path in [id.clone(), format!("{id}/300")] {
        let foreign = ping(&house, &path, &[("x-ping-key", foreign.as_str())]).await;
        assert_eq!(foreign.status, StatusCode::NOT_FOUND, "{path}");
    }
    let problem = ping(&house, &id, &[JSON]).await;
    assert_eq!(problem.json()["type"], "urn:allswell:problem:ping-key");
    // A browser asks first, and brings no key before it has its answer.
    let asks = [("access-control-request-method", "POST")];
    let preflight = house
        .ask("OPTIONS", &format!("/ping/{id}"))
        .header(asks[0].0, asks[0].1)
        .send()
        .await;
    assert_eq!(preflight.status, StatusCode::NO_CONTENT, "{}", preflight.text());
    assert_eq!(preflight.header("access-control-allow-origin"), "*");
    assert!(
        preflight
            .header("access-control-allow-headers")
            .contains("X-Ping-Key")
    );
    let plain = house.ask("OPTIONS", &format!("/ping/{id}")).send().await;
    assert_eq!(plain.status, StatusCode::FORBIDDEN, "it asks for nothing");
    assert_eq!(ping(&house, &id, &with_key).await.text(), "OK");
    assert_eq!(ping(&house, &format!("{own}/nightly"), &[]).await.text(), "OK");
    set(false).await;
    assert_eq!(ping(&house, &id, &[]).await.text(), "OK");
    // As Healthchecks has it, where nobody asks for a key.
    let preflight = house
        .ask("OPTIONS", &format!("/ping/{id}"))
        .header(asks[0].0, asks[0].1);
    assert_eq!(preflight.send().await.text(), "OK");

    // Not without a key that could be brought.
    let write = &house.alice.write;
    let keys = house.ask("GET", "/v1/keys").key(write).send().await.json();
    let all = keys["items"].as_array().unwrap().iter();
    for key in all.filter(|key| key["kind"] == "ping") {
        let path = format!("/v1/keys/{}", key["id"].as_str().unwrap());
        let gone = house.ask("DELETE", &path).key(write).send().await;
        assert_eq!(gone.status, StatusCode::NO_CONTENT);
    }
    let on = json!({ "require_ping_key": true });
    let refused = house.ask("PATCH", &path).key(write).json(&on).send().await;
    assert_eq!(refused.json()["field"], "require_ping_key", "{}", refused.text());
    assert_eq!(ping(&house, &id, &[]).await.text(), "OK");
}

#[tokio::test]
async fn a_check_is_made_as_its_first_ping_says_or_not_at_all() {
    let house = House::new().await;
    let address = |query: &str| format!("{}/nightly?create=1&{query}", house.alice.ping);
    let before = house.everything().await;
    for (query, named) in [
        ("grace=5", "grace"),
        ("timeout=1h", "timeout"),
        ("schedule=5+3+*+*&tz=UTC", "schedule"),
        ("schedule=5+3+*+*+*&tz=Moon", "tz"),
        ("channels=nobody", "channels"),
    ] {
        let plain = ping(&house, &address(query), &[]).await;
        assert_eq!(plain.status, StatusCode::BAD_REQUEST, "{query}");
        assert!(
            plain.text().starts_with(&format!("invalid {named}: ")),
            "{}",
            plain.text()
        );
        let problem = ping(&house, &address(query), &[JSON]).await;
        assert_eq!(
            (problem.status, &problem.json()["field"]),
            (StatusCode::BAD_REQUEST, &json!(named))
        );
    }
    assert_eq!(house.everything().await, before);
    let made =
        address("name=Nightly+backup&tags=prod+db&schedule=5+3+*+*+*&tz=Europe/Riga&grace=900&colour=red");
    assert_eq!(ping(&house, &made, &[]).await.text(), "Created");
    let shown = house.api("GET", "checks/?slug=nightly").send().await.json();
    let check = &shown["checks"][0];
    assert_eq!(
        json!([
            check["name"],
            check["tags"],
            check["schedule"],
            check["tz"],
            check["grace"]
        ]),
        json!(["Nightly backup", "prod db", "5 3 * * *", "Europe/Riga", 900])
    );
    assert_eq!(
        ping(&house, &address("grace=5"), &[]).await.text(),
        "OK",
        "it is there"
    );
}
