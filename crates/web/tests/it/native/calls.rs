//! How a call proves itself: by key or by signature, and how often it may come.

use allswell_core::signed_call::SignedCall;
use http::StatusCode;
use serde_json::{Value, json};

use crate::api::house::{Answer, House, now};

/// A signing key of Alice's: its id and its secret.
async fn signing_key(house: &House, kind: &str) -> (String, String) {
    let made = house
        .ask("POST", "/v1/signing-keys")
        .key(&house.alice.write)
        .json(&json!({ "kind": kind, "name": "ci" }))
        .send()
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text());
    let made = made.json();
    (
        made["id"].as_str().unwrap().to_owned(),
        made["secret"].as_str().unwrap().to_owned(),
    )
}

struct Signed<'a> {
    method: &'a str,
    target: &'a str,
    body: &'a str,
    nonce: &'a str,
    secs: i64,
}

async fn send(
    house: &House,
    key: &(String, String),
    call: Signed<'_>,
    tampered: impl FnOnce(&mut String),
) -> Answer {
    let (path, query) = call.target.split_once('?').unwrap_or((call.target, ""));
    let timestamp = (now().as_secs() + call.secs).to_string();
    let mut signature = SignedCall {
        method: call.method,
        host: "hc.example.org",
        path,
        timestamp: &timestamp,
        nonce: call.nonce,
        query,
        body: call.body.as_bytes(),
        key_id: &key.0,
    }
    .sign(key.1.as_bytes());
    tampered(&mut signature);
    house
        .ask(call.method, call.target)
        .header("host", "HC.example.org")
        .header("x-allswell-key-id", &key.0)
        .header("x-allswell-timestamp", &timestamp)
        .header("x-allswell-nonce", call.nonce)
        .header("x-allswell-signature", &signature)
        .body(call.body)
        .send()
        .await
}

const CALL: Signed<'_> = Signed {
    method: "POST",
    target: "/v1/checks",
    body: "{\"name\": \"a\"}",
    nonce: "0123456789abcdef",
    secs: 0,
};

#[tokio::test]
async fn a_signed_call_is_taken_once() {
    let house = House::new().await;
    let key = signing_key(&house, "read-write").await;
    let first = send(&house, &key, CALL, |_| {}).await;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.text());
    let replay = send(&house, &key, CALL, |_| {}).await;
    assert_eq!(replay.status, StatusCode::UNAUTHORIZED);
    assert!(replay.text().contains("used before"));
    let other = send(
        &house,
        &key,
        Signed {
            nonce: "0123456789abcdeg",
            ..CALL
        },
        |_| {},
    )
    .await;
    assert_eq!(other.status, StatusCode::CREATED);
    // Queries are signed as they are sent.
    let list = Signed {
        method: "GET",
        target: "/v1/checks?limit=1",
        body: "",
        nonce: "0123456789abcdeh",
        secs: 0,
    };
    let listed = send(&house, &key, list, |_| {}).await;
    assert_eq!(listed.json()["items"].as_array().unwrap().len(), 1);
    let audit = house
        .store
        .read(async |reader| {
            reader
                .acts(allswell_core::scope::SystemScope::operator(), 10)
                .await
        })
        .await
        .unwrap();
    assert!(
        audit
            .iter()
            .any(|(_, actor, action, _)| actor == &format!("signing-key:{}", key.0)
                && action == "check.create")
    );
}

#[tokio::test]
async fn a_signature_that_does_not_fit_opens_nothing() {
    let house = House::new().await;
    let key = signing_key(&house, "read-write").await;
    let before = house.everything().await.1;
    let wrong_secret = (key.0.clone(), "ash_wrong".to_owned());
    let nobody = ("5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a70".to_owned(), key.1.clone());
    for (key, call) in [
        (&wrong_secret, CALL),
        (&nobody, CALL),
        (&key, Signed { secs: 301, ..CALL }),
        (&key, Signed { secs: -301, ..CALL }),
        (
            &key,
            Signed {
                nonce: "short",
                ..CALL
            },
        ),
    ] {
        let answer = send(&house, key, call, |_| {}).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.text());
    }
    let answer = send(&house, &key, CALL, |signature| signature.replace_range(..1, "x")).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(house.everything().await.1, before);
    // A signature that was refused used nothing up.
    assert_eq!(send(&house, &key, CALL, |_| {}).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_signing_key_may_do_what_its_kind_says_until_it_is_revoked() {
    let house = House::new().await;
    let key = signing_key(&house, "read-only").await;
    assert_eq!(
        send(&house, &key, CALL, |_| {}).await.status,
        StatusCode::FORBIDDEN
    );
    let path = format!("/v1/signing-keys/{}", key.0);
    let ended = house.ask("DELETE", &path).key(&house.alice.write).send().await;
    assert_eq!(ended.status, StatusCode::NO_CONTENT);
    let look = Signed {
        method: "GET",
        target: "/v1/checks",
        body: "",
        nonce: "0123456789abcdei",
        secs: 0,
    };
    assert_eq!(
        send(&house, &key, look, |_| {}).await.status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn a_project_may_take_signed_requests_alone() {
    let house = House::new().await;
    let path = format!("/v1/projects/{}", house.alice.project);
    let require = || {
        house
            .ask("PATCH", &path)
            .key(&house.alice.write)
            .json(&json!({ "require_hmac": true }))
    };
    // Not without a key that could sign a change.
    assert_eq!(require().send().await.json()["field"], "require_hmac");
    signing_key(&house, "read-only").await;
    assert_eq!(require().send().await.json()["field"], "require_hmac");
    let key = signing_key(&house, "read-write").await;
    assert_eq!(require().send().await.json()["require_hmac"], true);
    for bare in ["/v1/checks", "/api/v3/checks/"] {
        let answer = house.ask("GET", bare).key(&house.alice.write).send().await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{bare}");
        assert!(answer.text().contains("signed"), "{bare}: {}", answer.text());
    }
    // The last key that could change something stays, though another can look.
    let target = format!("/v1/signing-keys/{}", key.0);
    let end = Signed {
        method: "DELETE",
        target: &target,
        body: "",
        nonce: "0123456789abcdej",
        secs: 0,
    };
    assert_eq!(send(&house, &key, end, |_| {}).await.status, StatusCode::CONFLICT);
    let back = Signed {
        method: "PATCH",
        target: &path,
        body: "{\"require_hmac\": false}",
        nonce: "0123456789abcdek",
        secs: 0,
    };
    assert_eq!(
        send(&house, &key, back, |_| {}).await.json()["require_hmac"],
        false
    );
    assert_eq!(
        house
            .ask("GET", "/v1/checks")
            .key(&house.alice.write)
            .send()
            .await
            .status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn each_answer_says_what_is_left_of_the_quota() {
    let house = House::new().await;
    let left = |answer: &Answer| answer.header("ratelimit-remaining").parse::<i64>().unwrap();
    let ask = || house.ask("GET", "/v1/checks").key(&house.alice.write);
    let (first, second) = (ask().send().await, ask().send().await);
    assert_eq!(
        (first.header("ratelimit-limit"), left(&first) - left(&second)),
        ("6000", 1)
    );
    let mut refused: Option<Answer> = None;
    for _ in 0..6_100 {
        let answer = house
            .ask("GET", "/v1/projects/x")
            .key(&house.charlie.write)
            .send()
            .await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("a quota has an end");
    assert!(refused.header("retry-after").parse::<i64>().unwrap() >= 1);
    // One key's quota is its own, and both APIs draw on it.
    assert_eq!(ask().send().await.status, StatusCode::OK);
    let compatible = house
        .ask("GET", "/api/v3/checks/")
        .key(&house.charlie.write)
        .send()
        .await;
    assert_eq!(compatible.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn who_guesses_keys_is_stopped_and_others_are_not() {
    let house = House::new().await;
    let guess = |peer, key: &str| house.ask("GET", "/v1/checks").from(peer).key(key);
    let wrong = "asw_0000000000000000000000000000";
    let mut statuses = Vec::new();
    for _ in 0..620 {
        statuses.push(guess([192, 0, 2, 7], wrong).send().await.status.as_u16());
    }
    assert_eq!((statuses[0], statuses[619]), (401, 429));
    // A right key opens from there all the same: who shares an address with a guesser is not shut out by it.
    let right = house.alice.write.clone();
    assert_eq!(guess([192, 0, 2, 7], &right).send().await.status.as_u16(), 200);
    assert_eq!(guess([192, 0, 2, 8], wrong).send().await.status.as_u16(), 401);
    let compatible = |key: &str| house.ask("GET", "/api/v3/checks/").from([192, 0, 2, 7]).key(key);
    assert_eq!(compatible(wrong).send().await.status.as_u16(), 429);
    assert_eq!(compatible(&right).send().await.status.as_u16(), 200);
}

#[tokio::test]
async fn who_tries_ping_addresses_is_stopped_and_pings_go_on() {
    let house = House::new().await;
    let id = house.check_id().await;
    let mut last = 0;
    for _ in 0..620 {
        let ask = house
            .ask("GET", "/ping/5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a70")
            .from([192, 0, 2, 7]);
        last = ask.send().await.status.as_u16();
    }
    assert_eq!(last, 429);
    let ping = house
        .ask("GET", &format!("/ping/{id}"))
        .from([192, 0, 2, 7])
        .send()
        .await;
    assert_eq!(ping.status, StatusCode::OK);
    let shown: Value = house
        .ask("GET", &format!("/v1/checks/{id}"))
        .key(&house.alice.write)
        .send()
        .await
        .json();
    assert_eq!(shown["ping_count"], 1);
}
