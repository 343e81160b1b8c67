//! How the API behaves whatever is asked: redirects, CORS, other methods, versions.

use http::StatusCode;
use serde_json::json;

use super::house::{House, SITE};

const ALL_METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"];

/// The resources and the methods they answer to.
const RESOURCES: [(&str, &str); 9] = [
    ("checks/", "GET, POST, OPTIONS"),
    ("checks/{code}", "GET, POST, DELETE, OPTIONS"),
    ("checks/{code}/pause", "POST, OPTIONS"),
    ("checks/{code}/resume", "POST, OPTIONS"),
    ("checks/{code}/pings/", "GET, OPTIONS"),
    ("checks/{code}/pings/1/body", "GET, OPTIONS"),
    ("checks/{code}/flips/", "GET, OPTIONS"),
    ("channels/", "GET, OPTIONS"),
    ("badges/", "GET, OPTIONS"),
];

#[tokio::test]
async fn an_address_without_its_slash_leads_to_the_one_with_it_for_every_method() {
    let house = House::new().await;
    let id = house.check_id().await;
    for version in 1..=3 {
        for path in [
            "checks",
            "channels",
            "badges",
            "metrics",
            "status",
            "checks/{code}/pings",
            "checks/{code}/flips",
        ] {
            let path = format!("/api/v{version}/{}", path.replace("{code}", &id));
            for method in ALL_METHODS {
                // With and without a key: who may not see it learns it there.
                let ask = house.ask(method, &format!("{path}?tag=a%20b&slug=")).body("{}");
                let answer = ask.send().await;
                assert_eq!(answer.status, StatusCode::MOVED_PERMANENTLY, "{method} {path}");
                assert_eq!(answer.header("location"), format!("{path}/?tag=a%20b&slug="));
            }
        }
    }
}

#[tokio::test]
async fn every_answer_of_a_resource_bears_the_cors_headers_and_other_methods_are_refused() {
    let house = House::new().await;
    for (path, methods) in RESOURCES {
        for method in ALL_METHODS {
            for key in [Some(&house.alice.write), None] {
                let id = house.check_id().await;
                let mut ask = house.ask(method, &format!("/api/v2/{}", path.replace("{code}", &id)));
                if let Some(key) = key {
                    ask = ask.key(key);
                }
                let answer = ask.send().await;
                let told = format!("{method} {path}, key {}", key.is_some());
                match (method, methods.split(", ").any(|known| known == method)) {
                    ("OPTIONS", _) => {
                        assert_eq!(
                            (answer.status, answer.body.len()),
                            (StatusCode::NO_CONTENT, 0),
                            "{told}"
                        );
                    }
                    (_, true) => assert_ne!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{told}"),
                    (_, false) => assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{told}"),
                }
                for (name, value) in [
                    ("access-control-allow-origin", "*"),
                    ("access-control-allow-headers", "X-Api-Key"),
                    ("access-control-allow-methods", methods),
                    ("access-control-max-age", "600"),
                ] {
                    assert_eq!(answer.header(name), value, "{told}: {name}");
                }
            }
        }
    }
}

#[tokio::test]
async fn badges_are_for_get_and_options_and_nobody_keeps_them() {
    let house = House::new().await;
    let made = house.check(json!({ "name": "db" })).await;
    let path = made["badge_url"].as_str().unwrap().replace(SITE, "");
    for method in ALL_METHODS {
        let answer = house.ask(method, &path).send().await;
        let expected = match method {
            "GET" => StatusCode::OK,
            "OPTIONS" => StatusCode::NO_CONTENT,
            _ => StatusCode::METHOD_NOT_ALLOWED,
        };
        assert_eq!(answer.status, expected, "{method}");
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        if method == "GET" {
            assert!(answer.header("cache-control").contains("no-store"));
            assert!(answer.header("content-security-policy").contains("sandbox"));
        }
    }
}

#[tokio::test]
async fn addresses_in_answers_carry_the_version_that_was_asked() {
    let house = House::new().await;
    let id = house.check_id().await;
    house.ping(&id, "body").await;
    for version in 1..=3 {
        let api = format!("/api/v{version}/checks/{id}");
        let shown = house.ask("GET", &api).key(&house.alice.write).send().await.json();
        for (field, expected) in [
            ("update_url", format!("{SITE}{api}")),
            ("pause_url", format!("{SITE}{api}/pause")),
            ("resume_url", format!("{SITE}{api}/resume")),
            ("ping_url", format!("{SITE}/ping/{id}")),
        ] {
            assert_eq!(shown[field], json!(expected));
        }
        let pings = house.ask("GET", &format!("{api}/pings/")).key(&house.alice.write);
        let shown = pings.send().await.json();
        assert_eq!(
            shown["pings"][0]["body_url"],
            json!(format!("{SITE}{api}/pings/1/body"))
        );
    }
}

#[tokio::test]
async fn only_versions_1_and_2_make_a_slug_of_the_name_and_version_1_says_started() {
    let house = House::new().await;
    for (version, slug, status) in [
        (1, "uberprufung-db", "started"),
        (2, "uberprufung-db", "new"),
        (3, "", "new"),
    ] {
        let path = format!("/api/v{version}/checks/");
        let ask = house.ask("POST", &path).key(&house.alice.write);
        let made = ask
            .json(&json!({ "name": "Überprüfung  — DB" }))
            .send()
            .await
            .json();
        assert_eq!(made["slug"], json!(slug), "v{version}");
        let id = made["uuid"].as_str().unwrap();
        house.ping(&format!("{id}/start"), "").await;
        let shown = house
            .ask("GET", &format!("{path}{id}"))
            .key(&house.alice.write)
            .send()
            .await;
        assert_eq!(shown.json()["status"], json!(status), "v{version}");
        assert_eq!(shown.json()["started"], json!(true));
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let house = House::new().await;
    let id = house.check_id().await;
    for path in [
        "/api/v4/checks/".to_owned(),
        "/api/checks/".to_owned(),
        "/api/v3/".to_owned(),
        "/api/v3/nothing/".to_owned(),
        "/api/v3/checks//".to_owned(),
        format!("/api/v3/checks/{id}/"),
        format!("/api/v3/checks/{id}/pause/"),
        format!("/api/v3/checks/{id}/pings/1/body/"),
        format!("/api/v3/checks/{id}/pings/-1/body"),
        format!("/api/v3/checks/{id}/pings/9999999999999999999999/body"),
        format!("/api/v3/checks/{id}/pings/0/body"),
        format!("/api/v3/checks/{}", id.to_uppercase()),
        format!("/api/v3/checks/{}", id.replace('-', "")),
        format!("/api/v3/checks/{{{id}}}"),
        "/api/v3/checks/%ff%fe".to_owned(),
        "/api/v3/checks/%00".to_owned(),
        "/api/v3/checks/..%2f..%2fetc%2fpasswd".to_owned(),
        format!("/b/4/{id}.svg"),
        "/b/2/x.svg".to_owned(),
        "/b/2/.svg".to_owned(),
        "/badge/x/y".to_owned(),
        "/badge/%ff/abcdefgh/x.svg".to_owned(),
        "/badge/x/abcdefgh/%ff.svg".to_owned(),
        "/api/v3/notifications/x/status".to_owned(),
    ] {
        let answer = house.ask("GET", &path).key(&house.alice.write).send().await;
        let known = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];
        assert!(known.contains(&answer.status), "{path}: {}", answer.status);
        assert!(!answer.text().contains("Nightly"), "{path}");
    }
}

#[tokio::test]
async fn a_name_that_stays_as_it_is_leaves_the_slug_alone() {
    let house = House::new().await;
    let made = house.check(json!({ "name": "Backup", "slug": "nightly" })).await;
    let id = made["uuid"].as_str().unwrap();
    for version in 1..=2 {
        let path = format!("/api/v{version}/checks/{id}");
        let upsert = format!("/api/v{version}/checks/");
        for (path, fields) in [
            (&path, json!({ "name": "Backup", "desc": "x" })),
            (&upsert, json!({ "name": "Backup", "unique": ["name"] })),
        ] {
            let ask = house.ask("POST", path).key(&house.alice.write);
            let answer = ask.json(&fields).send().await;
            assert_eq!(answer.status, StatusCode::OK);
            assert_eq!(answer.json()["slug"], json!("nightly"), "{path}");
        }
    }
    let ask = house.ask("POST", &format!("/api/v1/checks/{id}"));
    let renamed = ask.key(&house.alice.write).json(&json!({ "name": "Back up" }));
    assert_eq!(renamed.send().await.json()["slug"], json!("back-up"));
}

#[tokio::test]
async fn a_unique_key_is_for_looking_whatever_the_key() {
    let house = House::new().await;
    let id = house.check_id().await;
    let ask = house.ask("GET", &format!("/api/v3/checks/{id}"));
    let shown = ask.key(&house.alice.read).send().await.json();
    let path = format!("/api/v3/checks/{}", shown["unique_key"].as_str().unwrap());
    for method in ALL_METHODS {
        for key in [Some(&house.alice.write), None] {
            let mut ask = house.ask(method, &path).json(&json!({ "name": "changed" }));
            if let Some(key) = key {
                ask = ask.key(key);
            }
            let answer = ask.send().await;
            let expected = match (method, key) {
                ("GET", Some(_)) => StatusCode::OK,
                ("GET", None) => StatusCode::UNAUTHORIZED,
                ("OPTIONS", _) => StatusCode::NO_CONTENT,
                _ => StatusCode::METHOD_NOT_ALLOWED,
            };
            assert_eq!(answer.status, expected, "{method} {}", key.is_some());
            assert_eq!(answer.header("access-control-allow-methods"), "GET, OPTIONS");
            assert_eq!(answer.header("access-control-allow-origin"), "*");
        }
    }
}
