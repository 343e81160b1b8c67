//! Changing: defaults, upserts, channels, limits, pause and resume.

use http::StatusCode;
use serde_json::json;

use super::house::{House, now};

#[tokio::test]
async fn an_update_changes_what_it_names_and_nothing_else() {
    let house = House::new().await;
    let before = house
        .check(json!({ "name": "a", "slug": "s", "tags": "x", "desc": "d", "grace": 120, "schedule": "0 5 * * *",
                       "tz": "Europe/Riga", "methods": "POST", "success_kw": "ok", "filter_http_body": true }))
        .await;
    let path = format!("checks/{}", before["uuid"].as_str().unwrap());
    let same = house.api("POST", &path).send().await.json();
    assert_eq!(same, before);
    let after = house
        .api("POST", &path)
        .json(&json!({ "grace": 180 }))
        .send()
        .await
        .json();
    let mut expected = before.clone();
    expected["grace"] = json!(180);
    assert_eq!(after, expected);
}

#[tokio::test]
async fn unique_fields_find_the_oldest_check_that_fits_all_of_them() {
    let house = House::new().await;
    let oldest = house.check(json!({ "name": "a", "tags": "x" })).await;
    house.check(json!({ "name": "a", "tags": "x" })).await;
    for (fields, status, found) in [
        (
            json!({ "name": "a", "unique": ["name"], "desc": "new" }),
            200,
            true,
        ),
        (
            json!({ "name": "a", "tags": "x", "unique": ["name", "tags"] }),
            200,
            true,
        ),
        (
            json!({ "name": "a", "tags": "y", "unique": ["name", "tags"] }),
            201,
            false,
        ),
        (json!({ "name": "a", "unique": [] }), 201, false),
        // A field that is listed must be in the request.
        (json!({ "unique": ["name"] }), 201, false),
    ] {
        let answer = house.api("POST", "checks/").json(&fields).send().await;
        assert_eq!(answer.status.as_u16(), status, "{fields}");
        assert_eq!(answer.json()["uuid"] == oldest["uuid"], found, "{fields}");
    }
    // Charlie has a check of that name as well from then on, and does not touch ours.
    let fields = json!({ "name": "a", "unique": ["name"] });
    let ask = house.ask("POST", "/api/v3/checks/").key(&house.charlie.write);
    assert_eq!(ask.json(&fields).send().await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn channels_are_named_by_id_or_exact_name_and_only_ones_own() {
    let mut house = House::new().await;
    let (a, b) = (house.channel("mail").await, house.channel("a b").await);
    house.channel("twice").await;
    house.channel("twice").await;
    let mut both = [a.to_string(), b.to_string()];
    both.sort();
    for (list, expected) in [
        ("".to_owned(), String::new()),
        ("mail".to_owned(), a.to_string()),
        (format!("mail,{a}"), a.to_string()),
        (format!("{b},mail"), both.join(",")),
        ("a b".to_owned(), b.to_string()),
    ] {
        let made = house.check(json!({ "channels": list })).await;
        assert_eq!(made["channels"], json!(expected), "{list}");
    }
    let all = house.check(json!({ "channels": "*" })).await;
    assert_eq!(all["channels"].as_str().unwrap().split(',').count(), 4);

    let id = all["uuid"].as_str().unwrap().to_owned();
    let before = house.everything().await;
    for (list, sentence) in [
        (",", "empty channel identifier"),
        ("mail,", "empty channel identifier"),
        ("Mail", "invalid channel identifier: Mail"),
        ("mail, a b", "invalid channel identifier:  a b"),
        ("twice", "non-unique channel identifier: twice"),
        ("mail,*", "invalid channel identifier: *"),
    ] {
        for path in ["checks/".to_owned(), format!("checks/{id}")] {
            let fields = json!({ "channels": list, "name": "changed" });
            let answer = house.api("POST", &path).json(&fields).send().await;
            assert_eq!(
                (answer.status.as_u16(), answer.error().as_str()),
                (400, sentence),
                "{list}"
            );
        }
        let ask = house.ask("POST", "/api/v3/checks/").key(&house.charlie.write);
        let theirs = ask.json(&json!({ "channels": a.to_string() })).send().await;
        assert_eq!(theirs.error(), format!("invalid channel identifier: {a}"));
    }
    assert_eq!(house.everything().await, before);
}

#[tokio::test]
async fn an_owner_at_the_limit_may_change_checks_and_add_none() {
    let house = House::new().await;
    let post = |path: &str, name: &str| {
        let ask = house
            .ask("POST", &format!("/api/v3/{path}"))
            .key(&house.dora.write);
        ask.json(&json!({ "name": name, "unique": ["name"] }))
    };
    let made = post("checks/", "x").send().await;
    assert_eq!(made.status, StatusCode::CREATED);
    let id = made.json()["uuid"].as_str().unwrap().to_owned();
    let before = house.everything().await;
    let answer = post("checks/", "y").send().await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (403, ""));
    assert_eq!(house.everything().await, before);
    assert_eq!(post("checks/", "x").send().await.status, StatusCode::OK);
    let renamed = post(&format!("checks/{id}"), "z").send().await;
    assert_eq!(renamed.json()["name"], json!("z"));
    // That there is no room is told before the channels are looked for.
    let ask = house.ask("POST", "/api/v3/checks/").key(&house.dora.write);
    let answer = ask.json(&json!({ "channels": "nobody" })).send().await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (403, ""));
    // Once it is gone there is room again.
    let ask = house
        .ask("DELETE", &format!("/api/v3/checks/{id}"))
        .key(&house.dora.write);
    assert_eq!(ask.send().await.status, StatusCode::OK);
    assert_eq!(post("checks/", "y").send().await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn what_is_wrong_with_the_fields_is_told_only_to_whom_the_check_belongs() {
    let house = House::new().await;
    let id = house.check_id().await;
    let wrong = json!({ "timeout": 1 });
    let unknown = "5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a70";
    for (key, check, status) in [
        (house.alice.read.as_str(), id.as_str(), 401),
        (&house.alice.write, unknown, 404),
        (&house.charlie.write, &id, 403),
        (&house.alice.write, &id, 400),
    ] {
        let ask = house.ask("POST", &format!("/api/v3/checks/{check}")).key(key);
        assert_eq!(ask.json(&wrong).send().await.status.as_u16(), status);
    }
}

#[tokio::test]
async fn resuming_what_is_not_paused_is_a_conflict() {
    let house = House::new().await;
    let id = house.check_id().await;
    house.ping(&id, "").await;
    let resume = format!("checks/{id}/resume");
    let answer = house.api("POST", &resume).send().await;
    assert_eq!(
        (answer.status.as_u16(), answer.text().as_str()),
        (409, "check is not paused")
    );
    let pause = format!("checks/{id}/pause");
    for _ in 0..2 {
        let paused = house.api("POST", &pause).send().await.json();
        assert_eq!(
            (paused["status"].clone(), paused["next_ping"].clone()),
            (json!("paused"), json!(null))
        );
    }
    let resumed = house.api("POST", &resume).send().await.json();
    assert_eq!(
        (resumed["status"].clone(), resumed["last_ping"].clone()),
        (json!("new"), json!(null))
    );
    let flips = house
        .api("GET", &format!("checks/{id}/flips/"))
        .send()
        .await
        .json();
    let at = now().to_rfc3339_secs();
    let expected: Vec<_> = [0, 0, 1].map(|up| json!({ "timestamp": at, "up": up })).into();
    assert_eq!(flips, json!({ "flips": expected }));
}
