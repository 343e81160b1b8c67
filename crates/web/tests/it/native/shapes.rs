//! What is shown and how it is changed: fields, faults, pages, entity tags, answers given once.

use http::StatusCode;
use serde_json::{Value, json};

use crate::api::house::{Answer, Ask, House};

fn v1<'h>(house: &'h House, method: &str, path: &str) -> Ask<'h> {
    house
        .ask(method, &format!("/v1/{path}"))
        .header("authorization", &format!("Bearer {}", house.alice.write))
}

async fn made(house: &House, fields: Value) -> Value {
    let answer = v1(house, "POST", "checks").json(&fields).send().await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    answer.json()
}

fn is_problem(answer: &Answer, status: u16, field: Option<&str>) {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    assert!(
        problem["type"]
            .as_str()
            .unwrap()
            .starts_with("urn:allswell:problem:")
    );
    assert!(!problem["detail"].as_str().unwrap().is_empty());
    assert_eq!(problem["field"].as_str(), field, "{problem}");
}

#[tokio::test]
async fn what_is_set_is_shown_in_the_same_words() {
    let house = House::new().await;
    let fields = json!({
        "name": "Backup", "slug": "backup", "tags": ["prod", "db"], "description": "nightly",
        "schedule": { "expression": "0 5 * * *", "time_zone": "Europe/Riga" }, "grace_secs": 900,
        "methods": "post", "manual_resume": true,
        "filters": { "http_body": true, "subject": false, "body": false, "default_fail": false,
                     "start_keywords": "begin", "success_keywords": "ok", "failure_keywords": "bad" },
    });
    let check = made(&house, fields.clone()).await;
    for (name, value) in fields.as_object().unwrap() {
        assert_eq!(&check[name], value, "{name}");
    }
    assert_eq!(
        (&check["status"], &check["ping_count"]),
        (&json!("new"), &json!(0))
    );
    let id = check["id"].as_str().unwrap();
    let shown = v1(&house, "GET", &format!("checks/{id}")).send().await.json();
    assert_eq!(shown, check);
    // The compatible API sees the same check.
    assert_eq!(
        house.api("GET", &format!("checks/{id}")).send().await.json()["name"],
        "Backup"
    );
}

#[tokio::test]
async fn a_refused_change_names_its_fields_and_changes_nothing() {
    let house = House::new().await;
    let id = made(&house, json!({ "name": "a" })).await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("checks/{id}");
    let before = house.everything().await;
    for (fields, field) in [
        (json!({ "name": 5 }), "name"),
        (json!({ "grace_secs": 1 }), "grace_secs"),
        (
            json!({ "schedule": { "expression": "x" } }),
            "schedule.expression",
        ),
        (json!({ "name": "b", "colour": "red" }), "colour"),
        (
            json!({ "channels": ["5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a70"] }),
            "channels",
        ),
    ] {
        for (method, path) in [("PATCH", path.as_str()), ("POST", "checks")] {
            let answer = v1(&house, method, path).json(&fields).send().await;
            is_problem(&answer, 422, Some(field));
        }
    }
    for (body, status) in [
        ("{", 400),
        ("[]", 400),
        ("nul", 400),
        ("{\"name\": \"a\" \"b\"}", 400),
    ] {
        is_problem(&v1(&house, "PATCH", &path).body(body).send().await, status, None);
    }
    let form = v1(&house, "PATCH", &path)
        .header("content-type", "text/plain")
        .body("{}");
    is_problem(&form.send().await, 415, None);
    is_problem(
        &v1(&house, "PATCH", &path).body(vec![b' '; 3 << 20]).send().await,
        413,
        None,
    );
    let deep = "[".repeat(100_000);
    is_problem(
        &v1(&house, "PATCH", &path)
            .body(format!("{{\"name\": {deep}"))
            .send()
            .await,
        400,
        None,
    );
    assert_eq!(house.everything().await, before);
}

#[tokio::test]
async fn what_is_not_ours_is_not_there() {
    let house = House::new().await;
    let id = made(&house, json!({})).await["id"].as_str().unwrap().to_owned();
    let theirs = format!("/v1/checks/{id}");
    for (method, path) in [
        ("GET", theirs.clone()),
        ("PATCH", theirs.clone()),
        ("DELETE", theirs.clone()),
        ("POST", format!("{theirs}/pause")),
        ("GET", format!("{theirs}/pings")),
        ("GET", format!("/v1/projects/{}", house.alice.project)),
        ("GET", "/v1/checks/nonsense".to_owned()),
        ("GET", "/v1/nonsense".to_owned()),
    ] {
        let ask = house.ask(method, &path).key(&house.charlie.write);
        is_problem(&ask.send().await, 404, None);
    }
    is_problem(&v1(&house, "PUT", "checks").send().await, 405, None);
}

#[tokio::test]
async fn pages_hold_every_check_once_while_others_come_and_go() {
    let house = House::new().await;
    let mut ids = Vec::new();
    for n in 0..7 {
        let tags = if n % 2 == 0 { json!(["even"]) } else { json!([]) };
        let check = made(&house, json!({ "name": n.to_string(), "tags": tags })).await;
        ids.push(check["id"].as_str().unwrap().to_owned());
    }
    let mut seen = Vec::new();
    let mut path = "checks?limit=3".to_owned();
    loop {
        let page = v1(&house, "GET", &path).send().await.json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 3);
        seen.extend(items.iter().map(|check| check["id"].as_str().unwrap().to_owned()));
        // What is deleted behind us and made ahead of us moves nothing.
        if seen.len() == 3 {
            v1(&house, "DELETE", &format!("checks/{}", ids[0])).send().await;
        }
        match page["next"].as_str() {
            Some(next) => path = format!("checks?limit=3&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ids);
    let tagged = v1(&house, "GET", "checks?tag=even").send().await.json();
    assert_eq!(tagged["items"].as_array().unwrap().len(), 3);
    for query in ["limit=0", "limit=501", "limit=x"] {
        is_problem(
            &v1(&house, "GET", &format!("checks?{query}")).send().await,
            422,
            Some("limit"),
        );
    }
    is_problem(
        &v1(&house, "GET", "checks?cursor=!").send().await,
        422,
        Some("cursor"),
    );
}

#[tokio::test]
async fn an_edit_of_what_somebody_else_changed_is_refused() {
    let house = House::new().await;
    let id = made(&house, json!({ "name": "a" })).await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("checks/{id}");
    let tag = v1(&house, "GET", &path).send().await.header("etag").to_owned();
    // A ping moves the state and not the settings.
    house.ping(&id, "").await;
    assert_eq!(v1(&house, "GET", &path).send().await.header("etag"), tag);
    let edit = |tag: &str, name: &str| {
        v1(&house, "PATCH", &path)
            .header("if-match", tag)
            .json(&json!({ "name": name }))
    };
    let first = edit(&tag, "b").send().await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text());
    is_problem(&edit(&tag, "c").send().await, 412, None);
    let newest = first.header("etag").to_owned();
    assert_ne!(newest, tag);
    assert_eq!(edit(&newest, "c").send().await.json()["name"], "c");
    assert_eq!(edit("*", "d").send().await.json()["name"], "d");
}

#[tokio::test]
async fn a_post_with_the_same_key_is_carried_out_once() {
    let house = House::new().await;
    let ask = |key: &str, name: &str| {
        v1(&house, "POST", "checks")
            .header("idempotency-key", key)
            .json(&json!({ "name": name }))
    };
    let first = ask("k1", "a").send().await;
    let again = ask("k1", "a").send().await;
    assert_eq!(
        (first.status, again.status),
        (StatusCode::CREATED, StatusCode::CREATED)
    );
    assert_eq!(first.json(), again.json());
    assert_eq!(again.header("idempotent-replay"), "true");
    assert!(first.headers.get("idempotent-replay").is_none());
    is_problem(&ask("k1", "b").send().await, 422, Some("Idempotency-Key"));
    is_problem(&ask("with space", "b").send().await, 400, None);
    // What failed is not kept: the same key may carry a request that is right.
    assert_eq!(
        ask("k2", &"x".repeat(101)).send().await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    assert_eq!(ask("k2", "b").send().await.status, StatusCode::CREATED);
    // Another project's keys are other keys.
    let theirs = house
        .ask("POST", "/v1/checks")
        .key(&house.charlie.write)
        .header("idempotency-key", "k1");
    assert_ne!(theirs.send().await.json()["id"], first.json()["id"]);
    let listed = v1(&house, "GET", "checks").send().await.json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn fifty_same_posts_at_once_make_one_check() {
    let house = std::sync::Arc::new(House::new().await);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let house = house.clone();
        tasks.spawn(async move {
            v1(&house, "POST", "checks")
                .header("idempotency-key", "same")
                .json(&json!({}))
                .send()
                .await
        });
    }
    let answers = tasks.join_all().await;
    let ids: std::collections::BTreeSet<String> = answers
        .iter()
        .map(|answer| answer.json()["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 1);
    let listed = v1(&house, "GET", "checks").send().await.json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn keys_are_shown_once_and_can_be_ended() {
    let house = House::new().await;
    let made =
        v1(&house, "POST", "keys").json(&json!({ "kind": "read-only", "name": "ci", "expires_in_days": 3 }));
    let made = made.send().await.json();
    let text = made["key"].as_str().unwrap();
    let with = |key: &str| house.ask("GET", "/v1/checks").key(key);
    assert_eq!(with(text).send().await.status, StatusCode::OK);
    let listed = v1(&house, "GET", "keys").send().await;
    assert!(!listed.text().contains(text));
    let path = format!("keys/{}", made["id"].as_str().unwrap());
    let renewed = v1(&house, "POST", &format!("{path}/regenerate"))
        .send()
        .await
        .json();
    assert_eq!(with(text).send().await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        with(renewed["key"].as_str().unwrap()).send().await.status,
        StatusCode::OK
    );
    let path = format!("keys/{}", renewed["id"].as_str().unwrap());
    assert_eq!(
        v1(&house, "DELETE", &path).send().await.status,
        StatusCode::NO_CONTENT
    );
    is_problem(&v1(&house, "DELETE", &path).send().await, 404, None);
    is_problem(&with(renewed["key"].as_str().unwrap()).send().await, 401, None);
}

#[tokio::test]
async fn a_read_only_key_learns_no_ping_address() {
    let house = House::new().await;
    let id = made(&house, json!({ "name": "a" })).await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    house.ping(&id, "").await;
    let read = |path: &str| house.ask("GET", path).key(&house.alice.read);
    for path in ["/v1/checks", "/v1/flips", "/v1/incidents", "/v1/deliveries"] {
        let answer = read(path).send().await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert!(!answer.text().contains(&id), "{path}: {}", answer.text());
    }
    let name = read("/v1/checks").send().await.json()["items"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        read(&format!("/v1/checks/{name}")).send().await.json()["name"],
        "a"
    );
    let flips = read(&format!("/v1/flips?check={name}")).send().await.json();
    assert_eq!(flips["items"].as_array().unwrap().len(), 1);
    let change = house
        .ask("PATCH", &format!("/v1/checks/{name}"))
        .key(&house.alice.read);
    is_problem(&change.send().await, 403, None);
}

#[tokio::test]
async fn checks_are_found_by_tag_name_and_status() {
    let house = House::new().await;
    let mut ids = Vec::new();
    for (name, tags) in [("one", vec!["db"]), ("two", vec!["db", "web"]), ("one", vec![])] {
        let check = made(&house, json!({ "name": name, "tags": tags })).await;
        ids.push(check["id"].as_str().unwrap().to_owned());
    }
    house.ping(&ids[1], "").await;
    let found = async |query: &str| {
        let answer = v1(&house, "GET", &format!("checks?{query}")).send().await;
        assert_eq!(answer.status, StatusCode::OK, "{query}: {}", answer.text());
        let page = answer.json();
        assert_eq!(page["next"], Value::Null, "{query}");
        let items = page["items"].as_array().unwrap().clone();
        let mut numbers: Vec<_> = items
            .iter()
            .map(|check| ids.iter().position(|id| check["id"] == **id).unwrap())
            .collect();
        numbers.sort_unstable();
        numbers
    };
    for (query, right) in [
        ("", vec![0, 1, 2]),
        ("name=one", vec![0, 2]),
        ("name=One", vec![]),
        ("name=one&tag=db", vec![0]),
        ("tag=db", vec![0, 1]),
        ("tag=db&status=new", vec![0]),
        ("status=up", vec![1]),
        ("status=new", vec![0, 2]),
        ("status=down", vec![]),
        ("name=", vec![]),
    ] {
        assert_eq!(found(query).await, right, "{query}");
    }
    for (query, field) in [
        ("status=late", "status"),
        ("status=", "status"),
        ("name=a%00", "name"),
        ("tag=a%00", "tag"),
    ] {
        let answer = v1(&house, "GET", &format!("checks?{query}")).send().await;
        is_problem(&answer, 422, Some(field));
    }
}
