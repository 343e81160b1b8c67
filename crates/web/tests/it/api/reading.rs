//! Looking: what each key sees, filters, unique keys, badges, gauges.

use allswell_core::quota::Quota;
use allswell_core::time::Span;
use allswell_engine::ingest::{Over, PingRules};
use http::StatusCode;
use serde_json::{Value, json};

use super::house::{House, SITE};

fn names(answer: &super::house::Answer) -> Vec<String> {
    let shown = answer.json();
    let checks = shown["checks"].as_array().unwrap();
    checks
        .iter()
        .map(|check| check["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn filters_hold_together_and_match_whole_words() {
    let house = House::new().await;
    for (name, slug, tags) in [
        ("a", "s", "x y"),
        ("b", "s", "x"),
        ("c", "", "x y Z"),
        ("d", "t", "xy"),
    ] {
        house
            .check(json!({ "name": name, "slug": slug, "tags": tags }))
            .await;
    }
    for (query, expected) in [
        ("", "abcd"),
        ("tag=x", "abc"),
        ("tag=x&tag=y", "ac"),
        ("tag=x&tag=x", "abc"),
        ("tag=X", ""),
        ("tag=z", ""),
        ("tag=", ""),
        ("tag=x%20y", ""),
        ("slug=s", "ab"),
        ("slug=s&tag=y", "a"),
        ("slug=&tag=xy", "d"),
        ("slug=s&slug=t", "d"),
        ("slug=%00", ""),
        ("tag=%ff", ""),
        ("other=1", "abcd"),
    ] {
        let answer = house.api("GET", &format!("checks/?{query}")).send().await;
        assert_eq!(names(&answer).concat(), expected, "{query}");
    }
}

#[tokio::test]
async fn bobs_read_only_key_sees_checks_by_their_unique_key_without_ids_and_addresses() {
    let house = House::new().await;
    let id = house.check_id().await;
    let listed = house
        .ask("GET", "/api/v3/checks/")
        .key(&house.alice.read)
        .send()
        .await;
    assert!(!listed.text().contains(&id) && !listed.text().contains("/ping/"));
    let unique_key = listed.json()["checks"][0]["unique_key"]
        .as_str()
        .unwrap()
        .to_owned();
    for key in [&house.alice.read, &house.alice.write] {
        for path in ["", "/flips/"] {
            let path = format!("/api/v3/checks/{unique_key}{path}");
            assert_eq!(
                house.ask("GET", &path).key(key).send().await.status,
                StatusCode::OK,
                "{path}"
            );
        }
    }
    // Charlie has no check of that unique key; and only the id names a check to be changed.
    let path = format!("/api/v3/checks/{unique_key}");
    let theirs = house.ask("GET", &path).key(&house.charlie.write).send().await;
    assert_eq!(theirs.status, StatusCode::NOT_FOUND);
    for (method, suffix) in [("POST", "/pause"), ("GET", "/pings/")] {
        let answer = house
            .ask(method, &format!("{path}{suffix}"))
            .key(&house.alice.write)
            .send()
            .await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {suffix}");
    }
}

#[tokio::test]
async fn a_deleted_check_is_gone_everywhere() {
    let house = House::new().await;
    let made = house
        .check(json!({ "name": "gone", "slug": "gone", "tags": "was" }))
        .await;
    let id = made["uuid"].as_str().unwrap();
    let badge = made["badge_url"].as_str().unwrap().replace(SITE, "");
    let badges = house.api("GET", "badges/").send().await.json();
    let tag_badge = badges["badges"]["was"]["json"]
        .as_str()
        .unwrap()
        .replace(SITE, "");
    house.ping(id, "body").await;
    let deleted = house.api("DELETE", &format!("checks/{id}")).send().await;
    assert_eq!(
        (deleted.status, deleted.json()["name"].clone()),
        (StatusCode::OK, json!("gone"))
    );

    for (method, path) in [
        ("GET", ""),
        ("POST", ""),
        ("DELETE", ""),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("GET", "/pings/"),
        ("GET", "/pings/1/body"),
        ("GET", "/flips/"),
    ] {
        let answer = house.api(method, &format!("checks/{id}{path}")).send().await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {path}");
    }
    assert_eq!(
        house.ask("GET", &badge).send().await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        house.api("GET", "checks/").send().await.json(),
        json!({ "checks": [] })
    );
    let badges = house.api("GET", "badges/").send().await.json();
    assert_eq!(
        badges["badges"].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["*"]
    );
    // The badge of a tag that no check has any more still answers.
    let answer = house.ask("GET", &tag_badge).send().await;
    assert_eq!(
        answer.json(),
        json!({ "status": "up", "total": 0, "grace": 0, "down": 0 })
    );
}

#[tokio::test]
async fn the_badge_of_any_tag_can_be_fetched_and_shows_its_text_only() {
    let house = House::new().await;
    let tags = [
        "a/b", "<script>", "\"&'", "100%", "a.svg", "..", "?x=1#y", "日本", "*x", "-2", "+",
    ];
    house.check(json!({ "name": "x", "tags": tags.join(" ") })).await;
    let badges = house.api("GET", "badges/").send().await.json();
    for tag in tags {
        let formats = badges["badges"][tag]
            .as_object()
            .unwrap_or_else(|| panic!("{tag}"));
        assert_eq!(formats.len(), 6);
        for (format, url) in formats {
            let path = url.as_str().unwrap().replace(SITE, "");
            let answer = house.ask("GET", &path).send().await;
            assert_eq!(answer.status, StatusCode::OK, "{tag} {path}");
            match format.trim_end_matches('3') {
                "svg" => {
                    assert_eq!(answer.header("content-type"), "image/svg+xml");
                    assert!(answer.text().starts_with("<svg") && !answer.text().contains("<script>"));
                }
                "json" => assert_eq!(answer.json()["total"], json!(1)),
                _ => assert_eq!(answer.json()["label"], json!(tag)),
            }
        }
    }
    let all = badges["badges"]["*"]["shields"]
        .as_str()
        .unwrap()
        .replace(SITE, "");
    assert_eq!(
        house.ask("GET", &all).send().await.json()["label"],
        json!("All's well")
    );
}

#[tokio::test]
async fn a_signature_opens_one_badge_and_its_two_forms() {
    let house = House::new().await;
    house.check(json!({ "name": "x", "tags": "prod" })).await;
    let badges = house.api("GET", "badges/").send().await.json();
    let url = |tag: &str, format: &str| badges["badges"][tag][format].as_str().unwrap().replace(SITE, "");
    let three = url("prod", "json3");
    assert_eq!(url("prod", "json"), three.replace("/prod.", "-2/prod."));
    let theirs = house
        .ask("GET", "/api/v3/badges/")
        .key(&house.charlie.write)
        .send()
        .await
        .json();
    let their_key = theirs["badges"]["*"]["svg"]
        .as_str()
        .unwrap()
        .split('/')
        .nth(4)
        .unwrap();
    let our_key = three.split('/').nth(2).unwrap();
    for wrong in [
        three.replace("prod", "dev"),
        three.replace("/prod.", "-3/prod."),
        three.replace("/prod.", "-2-2/prod."),
        three.replace("/prod.", "."),
        three.replace(our_key, their_key),
        three.replace(".json", ".png"),
        three.replace(".json", ""),
        three.replace(".json", ".JSON"),
        url("*", "json3").replace(".json", "/prod.json"),
    ] {
        assert_eq!(
            house.ask("GET", &wrong).send().await.status,
            StatusCode::NOT_FOUND,
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn the_label_of_a_check_without_a_name_is_its_id() {
    let house = House::new().await;
    let made = house.check(json!({})).await;
    let path = made["badge_url"]
        .as_str()
        .unwrap()
        .replace(SITE, "")
        .replace(".svg", ".shields");
    let shown: Value = house.ask("GET", &path).send().await.json();
    assert_eq!(shown["label"], made["uuid"]);
}

#[tokio::test]
async fn bodies_are_shown_of_the_pings_that_are_listed_and_no_others() {
    let house = House::new().await;
    let id = house.check_id().await;
    for n in 1..=103 {
        house.ping(&id, &format!("run {n}")).await;
    }
    let listed = house.api("GET", &format!("checks/{id}/pings/")).send().await;
    assert_eq!(listed.json()["pings"].as_array().unwrap().len(), 100);
    for (n, status) in [
        ("1", 404),
        ("3", 404),
        ("4", 200),
        ("04", 200),
        ("103", 200),
        ("104", 404),
        ("+103", 404),
        ("-1", 404),
        ("103.0", 404),
        ("", 404),
    ] {
        let path = format!("checks/{id}/pings/{n}/body");
        let answer = house.api("GET", &path).send().await;
        assert_eq!(answer.status.as_u16(), status, "{n}");
    }
}

#[tokio::test]
async fn a_ping_that_is_listed_has_its_body_however_many_came_over_the_quota() {
    let rules = PingRules {
        per_check: Some(Quota::new(2, Span::from_secs(3_600))),
        over: Over::Count,
        require_key: false,
    };
    let house = House::with_rules(rules).await;
    let id = house.check_id().await;
    for n in 1..=105 {
        house.ping(&id, &format!("run {n}")).await;
    }
    let listed = house
        .api("GET", &format!("checks/{id}/pings/"))
        .send()
        .await
        .json();
    let numbers: Vec<_> = listed["pings"].as_array().unwrap().iter().collect();
    assert_eq!(numbers.len(), 2);
    for ping in numbers {
        let path = format!("checks/{id}/pings/{}/body", ping["n"]);
        let answer = house.api("GET", &path).send().await;
        assert_eq!(answer.text(), format!("run {}", ping["n"]));
    }
}

#[tokio::test]
async fn a_window_of_flips_is_read_as_healthchecks_reads_it() {
    let house = House::new().await;
    let id = house.check_id().await;
    house.ping(&id, "").await;
    let now = super::house::now().as_micros() / 1_000_000;
    for (query, expected) in [
        (format!("start={now}"), Some(1)),
        (format!("start={}", now + 1), Some(0)),
        (format!("end={now}"), Some(0)),
        (format!("end=%20{}%20", now + 1), Some(1)),
        (format!("start=x&start={now}"), Some(1)),
        ("seconds=".to_owned(), Some(1)),
        // No seconds are no bound.
        ("seconds=0".to_owned(), Some(1)),
        ("seconds=60.0".to_owned(), Some(1)),
        ("seconds=+60%20".to_owned(), Some(1)),
        ("seconds=60.5".to_owned(), None),
        ("seconds=-1".to_owned(), None),
        ("seconds=%20".to_owned(), None),
        ("seconds=31536001".to_owned(), None),
        // An instant that is given must be one.
        ("start=".to_owned(), None),
        ("end=".to_owned(), None),
        ("start=60.0".to_owned(), None),
        ("end=10000000001".to_owned(), None),
        ("start=1e3".to_owned(), None),
    ] {
        let answer = house
            .api("GET", &format!("checks/{id}/flips/?{query}"))
            .send()
            .await;
        let found =
            (answer.status == StatusCode::OK).then(|| answer.json()["flips"].as_array().unwrap().len());
        assert_eq!(found, expected, "{query}: {}", answer.status);
        assert!(
            found.is_some() || answer.status == StatusCode::BAD_REQUEST,
            "{query}"
        );
    }
}
