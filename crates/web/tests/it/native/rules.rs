//! The rules of a check through the native API: set, shown, refused, and what comes of them.

use http::StatusCode;
use serde_json::{Value, json};

use crate::api::house::{Answer, House};

async fn v1(house: &House, method: &str, path: &str, fields: &Value) -> Answer {
    let ask = house
        .ask(method, &format!("/v1/{path}"))
        .header("authorization", &format!("Bearer {}", house.alice.write));
    if method == "GET" {
        ask.send().await
    } else {
        ask.json(fields).send().await
    }
}

async fn made(house: &House, rules: Value) -> (String, Value) {
    let answer = v1(house, "POST", "checks", &json!({ "name": "a", "rules": rules })).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    let check = answer.json();
    (check["id"].as_str().unwrap().to_owned(), check)
}

/// What each flip of a check was, the newest first.
async fn flips(house: &House, id: &str) -> Vec<(String, String)> {
    let page = v1(house, "GET", &format!("flips?check={id}"), &Value::Null)
        .await
        .json();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let items = page["items"].as_array().unwrap().iter();
    items
        .map(|flip| (word(&flip["to"]), word(&flip["reason"]["code"])))
        .collect()
}

fn told(flips: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(to, code): &(&str, &str)| ((*to).to_owned(), (*code).to_owned());
    flips.iter().map(owned).collect()
}

#[tokio::test]
async fn rules_are_set_and_shown_and_the_compatible_api_leaves_them_alone() {
    let house = House::new().await;
    let off = json!({
        "failures": 1, "failure_rate": null, "max_run_secs": null, "start_grace_secs": null, "min_run_secs": null,
        "unusual_run": null,
    });
    let (id, check) = made(&house, json!({})).await;
    assert_eq!(check["rules"], off);
    let wanted = json!({
        "failures": 3, "failure_rate": { "percent": 50, "window": 10 }, "max_run_secs": 600, "start_grace_secs": 60,
        "min_run_secs": 5, "unusual_run": { "factor": 2.5, "samples": 7 },
    });
    let path = format!("checks/{id}");
    let changed = v1(&house, "PATCH", &path, &json!({ "rules": wanted })).await;
    assert_eq!(changed.json()["rules"], wanted);
    assert_ne!(changed.header("etag"), "", "{}", changed.text());

    // Somebody edits it by the compatible API, which shows no word of them.
    let edited = house
        .api("POST", &path)
        .json(&json!({ "grace": 120 }))
        .send()
        .await;
    assert_eq!(edited.status, StatusCode::OK, "{}", edited.text());
    assert!(edited.json().get("rules").is_none());
    let shown = v1(&house, "GET", &path, &Value::Null).await.json();
    assert_eq!((&shown["rules"], &shown["grace_secs"]), (&wanted, &json!(120)));

    let off_again = v1(&house, "PATCH", &path, &json!({ "rules": null })).await.json();
    assert_eq!(off_again["rules"], off);
}

#[tokio::test]
async fn rules_that_cannot_be_met_together_are_refused_and_nothing_changes() {
    let house = House::new().await;
    let (id, _) = made(&house, json!({ "max_run_secs": 60 })).await;
    let path = format!("checks/{id}");
    for (method, path, rules, field) in [
        (
            "PATCH",
            path.as_str(),
            json!({ "min_run_secs": 60 }),
            "rules.min_run_secs",
        ),
        (
            "POST",
            "checks",
            json!({ "min_run_secs": 9, "max_run_secs": 9 }),
            "rules.min_run_secs",
        ),
        ("PATCH", path.as_str(), json!({ "failures": 0 }), "rules.failures"),
    ] {
        let answer = v1(&house, method, path, &json!({ "name": "b", "rules": rules })).await;
        assert_eq!(
            answer.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{}",
            answer.text()
        );
        assert_eq!(answer.json()["field"], field);
    }
    let shown = v1(&house, "GET", &path, &Value::Null).await.json();
    assert_eq!(
        (&shown["name"], &shown["rules"]["min_run_secs"]),
        (&json!("a"), &Value::Null)
    );
}

#[tokio::test]
async fn a_check_goes_down_with_the_third_failure_in_a_row_and_says_so() {
    let house = House::new().await;
    let (id, _) = made(&house, json!({ "failures": 3 })).await;
    for address in ["", "/1", "/fail", "", "/fail", "/log", "/fail"] {
        house.ping(&format!("{id}{address}"), "").await;
    }
    assert_eq!(flips(&house, &id).await, told(&[("up", "success")]));
    house.ping(&format!("{id}/7"), "").await;
    assert_eq!(
        flips(&house, &id).await,
        told(&[("down", "failures"), ("up", "success")])
    );
    let page = v1(&house, "GET", &format!("flips?check={id}&limit=1"), &Value::Null)
        .await
        .json();
    let reason = &page["items"][0]["reason"];
    assert_eq!(
        reason["data"],
        json!({ "ping": 8, "cause": { "exit_status": 7 }, "failures": 3 })
    );
    assert_eq!(
        reason["sentence"],
        "ping 8 reported failure (exit status 7); that makes 3 failures in a row"
    );
    house.ping(&id, "").await;
    assert_eq!(flips(&house, &id).await[0], told(&[("up", "success")])[0]);
}

#[tokio::test]
async fn a_success_right_behind_its_start_is_a_failure_where_a_run_must_last() {
    let house = House::new().await;
    let (id, _) = made(&house, json!({ "min_run_secs": 30 })).await;
    for address in ["", "/start", ""] {
        house.ping(&format!("{id}{address}"), "").await;
    }
    assert_eq!(
        flips(&house, &id).await,
        told(&[("down", "fail"), ("up", "success")])
    );
    let shown = v1(&house, "GET", &format!("checks/{id}"), &Value::Null)
        .await
        .json();
    assert_eq!(
        (&shown["status"], &shown["started"]),
        (&json!("down"), &json!(false))
    );
}
