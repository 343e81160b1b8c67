//! Requests that are wrong, or only strange: the documented answer, and nothing changed.

use http::StatusCode;
use serde_json::{Value, json};

use super::house::House;

/// The POSTs of the API, for a check.
fn posts(id: &str) -> [String; 4] {
    [
        "checks/".to_owned(),
        format!("checks/{id}"),
        format!("checks/{id}/pause"),
        format!("checks/{id}/resume"),
    ]
}

#[tokio::test]
async fn what_is_not_a_json_object_is_refused_before_the_key_is_looked_at() {
    let house = House::new().await;
    let id = house.check_id().await;
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let not_json = "could not parse request body";
    let not_object = "json validation error: value is not an object";
    let bodies: Vec<(Vec<u8>, &str)> = vec![
        (b"junk".to_vec(), not_json),
        (b"{".to_vec(), not_json),
        (b"{}{}".to_vec(), not_json),
        (b"{'name': 'x'}".to_vec(), not_json),
        (b"name=x".to_vec(), not_json),
        (b"\0".to_vec(), not_json),
        (b" ".to_vec(), not_json),
        (b"\xef\xbb\xbf{}".to_vec(), not_json),
        (b"{\"name\": \"\xff\xfe\"}".to_vec(), not_json),
        (b"\xff\xfe{\0}\0".to_vec(), not_json),
        (br#"{"name": "\ud800"}"#.to_vec(), not_json),
        (br#"{"name": "\udc00\ud800"}"#.to_vec(), not_json),
        (
            br#"{"name": "a
b"}"#
                .to_vec(),
            not_json,
        ),
        (br#"{"name": "x",}"#.to_vec(), not_json),
        (br#"{"timeout": 0060}"#.to_vec(), not_json),
        (br#"{"timeout": NaN}"#.to_vec(), not_json),
        (br#"{"timeout": Infinity}"#.to_vec(), not_json),
        (deep(100_000).into_bytes(), not_json),
        (format!("{{\"x\": {}}}", deep(100_000)).into_bytes(), not_json),
        (b"{\"a\":".repeat(100_000), not_json),
        (b"[]".to_vec(), not_object),
        (b"null".to_vec(), not_object),
        (b"\"name\"".to_vec(), not_object),
        (b"5".to_vec(), not_object),
        (b"true".to_vec(), not_object),
    ];
    let before = house.everything().await;
    for path in posts(&id) {
        for (body, expected) in &bodies {
            for key in [house.alice.write.as_str(), ""] {
                let ask = house.ask("POST", &format!("/api/v3/{path}")).key(key);
                let answer = ask.body(body.clone()).send().await;
                let told = format!("{path} {}", String::from_utf8_lossy(&body[..body.len().min(40)]));
                assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{told}");
                assert_eq!(answer.error(), *expected, "{told}");
            }
        }
    }
    assert_eq!(house.everything().await, before);
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_and_one_within_it_read() {
    let house = House::new().await;
    let id = house.check_id().await;
    let before = house.everything().await;
    for path in posts(&id) {
        let body = format!(r#"{{"x": "{}"}}"#, "a".repeat(3 * 1024 * 1024));
        let answer = house.api("POST", &path).body(body).send().await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
    }
    assert_eq!(house.everything().await, before);
    let body = format!(r#"{{"name": "big", "x": "{}"}}"#, "a".repeat(2 * 1024 * 1024));
    let answer = house.api("POST", "checks/").body(body).send().await;
    assert_eq!(answer.status, StatusCode::CREATED);
}

#[tokio::test]
async fn the_key_may_stand_in_the_body_of_each_post_and_nowhere_else() {
    let house = House::new().await;
    let id = house.check_id().await;
    let key = json!({ "api_key": house.alice.write });
    for (path, status) in posts(&id).iter().zip([201, 200, 200, 200]) {
        let answer = house
            .ask("POST", &format!("/api/v1/{path}"))
            .json(&key)
            .send()
            .await;
        assert_eq!(answer.status.as_u16(), status, "{path}: {}", answer.text());
    }
    let before = house.everything().await;
    for path in posts(&id) {
        let path = format!("/api/v1/{path}");
        // A header that is there wins, even if it is empty or wrong.
        for (header, sentence) in [
            (Some(""), "missing api key"),
            (Some("x"), "missing api key"),
            (Some(&*"x".repeat(32)), "wrong api key"),
            (Some("é"), "missing api key"),
            (None, "missing api key"),
        ] {
            let mut ask = house.ask("POST", &path).json(&key);
            match header {
                Some(header) => ask = ask.key(header),
                None => ask = ask.body("{}"),
            }
            let answer = ask.send().await;
            assert_eq!(
                (answer.status.as_u16(), answer.error().as_str()),
                (401, sentence),
                "{path} {header:?}"
            );
        }
        for wrong in [
            json!({ "api_key": 5 }),
            json!({ "api_key": null }),
            json!({ "api_key": [house.alice.write] }),
            json!({ "api_key": "ä".repeat(32) }),
            json!({ "api_key": "\0".repeat(32) }),
            json!({ "api_key": house.alice.read }),
            json!({ "api_key": house.alice.ping }),
            json!({ "api_key": house.alice.write.to_lowercase() }),
        ] {
            let answer = house.ask("POST", &path).json(&wrong).send().await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path} {wrong}");
        }
        // Not in the address, and not as a bearer.
        let answer = house
            .ask("POST", &format!("{path}?api_key={}", house.alice.write))
            .send()
            .await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        let bearer = format!("Bearer {}", house.alice.write);
        let answer = house
            .ask("POST", &path)
            .header("authorization", &bearer)
            .send()
            .await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    for (method, path) in [("GET", "checks/"), ("DELETE", &*format!("checks/{id}"))] {
        let answer = house
            .ask(method, &format!("/api/v1/{path}"))
            .json(&key)
            .send()
            .await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method}");
    }
    assert_eq!(house.everything().await, before);
}

#[tokio::test]
async fn each_field_refuses_what_it_cannot_be_and_nothing_is_saved() {
    let house = House::new().await;
    let id = house.check_id().await;
    let long = |chars: usize| "é".repeat(chars);
    let mut cases: Vec<(Value, String)> = Vec::new();
    for name in [
        "channels",
        "desc",
        "failure_kw",
        "name",
        "schedule",
        "slug",
        "start_kw",
        "subject",
        "subject_fail",
        "success_kw",
        "tags",
        "tz",
    ] {
        for wrong in [json!(null), json!(5), json!(true), json!([]), json!({})] {
            cases.push((json!({ name: wrong }), format!("{name} is not a string")));
        }
        // What has a rule of its own is refused by that, further down.
        if !["slug", "schedule", "tz"].contains(&name) {
            cases.push((json!({ name: "a\0b" }), format!("{name} holds a zero byte")));
        }
    }
    for name in [
        "filter_body",
        "filter_default_fail",
        "filter_http_body",
        "filter_subject",
        "manual_resume",
    ] {
        for wrong in [json!(null), json!(0), json!(1), json!("true"), json!([])] {
            cases.push((json!({ name: wrong }), format!("{name} is not a boolean")));
        }
    }
    for name in ["timeout", "grace"] {
        for wrong in ["null", "\"60\"", "60.0", "6e1", "1e400", "-0.0", "[]", "{}"] {
            cases.push((json!({ name: raw(wrong) }), format!("{name} is not a number")));
        }
        for small in [
            "0",
            "59",
            "-1",
            "true",
            "false",
            "-9223372036854775809",
            "-99999999999999999999999999",
        ] {
            cases.push((json!({ name: raw(small) }), format!("{name} is too small")));
        }
        for large in [
            "31536001",
            "9223372036854775808",
            "18446744073709551616",
            &"9".repeat(400),
        ] {
            cases.push((json!({ name: raw(large) }), format!("{name} is too large")));
        }
    }
    for (name, chars) in [
        ("name", 101),
        ("slug", 101),
        ("schedule", 101),
        ("start_kw", 201),
        ("success_kw", 201),
        ("failure_kw", 201),
        ("subject", 201),
        ("subject_fail", 201),
        ("tags", 501),
    ] {
        cases.push((json!({ name: long(chars) }), format!("{name} is too long")));
    }
    for slug in ["A", "ü", "a b", "a.b", "a/b", "a\n", "a\0", "日本"] {
        cases.push((json!({ "slug": slug }), "slug does not match pattern".into()));
    }
    for zone in [
        "",
        "utc+1",
        "europe/riga",
        "Europe/Nowhere",
        "../../etc/passwd",
        "UTC\n",
        "UTC\0",
    ] {
        cases.push((json!({ "tz": zone }), "tz is not a valid timezone".into()));
    }
    for schedule in [
        "",
        "* * * *",
        "0 0 31 2 *",
        "@daily",
        "1999-01-01",
        "x x x x x",
        "* * * * *\0",
        "\u{660} * * * *",
    ] {
        let sentence = "schedule is not a valid cron or OnCalendar expression";
        cases.push((json!({ "schedule": schedule }), sentence.into()));
    }
    for methods in [
        json!(null),
        json!("GET"),
        json!("post"),
        json!(5),
        json!(["POST"]),
    ] {
        cases.push((
            json!({ "methods": methods }),
            "methods has unexpected value".into(),
        ));
    }
    for unique in [json!(null), json!("name"), json!({}), json!(5)] {
        cases.push((json!({ "unique": unique }), "unique is not an array".into()));
    }
    for item in [json!("status"), json!(null), json!(["name"]), json!("Name")] {
        let sentence = "an item in 'unique' has unexpected value";
        cases.push((json!({ "name": "x", "unique": ["name", item] }), sentence.into()));
    }
    let before = house.everything().await;
    for path in &posts(&id)[..2] {
        for (fields, sentence) in &cases {
            let answer = house.api("POST", path).json(fields).send().await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path} {fields}");
            assert_eq!(
                answer.error(),
                format!("json validation error: {sentence}"),
                "{path} {fields}"
            );
        }
    }
    assert_eq!(house.everything().await, before);
}

/// A number as it is written, also one that no type of ours holds.
fn raw(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn of_keys_that_stand_twice_the_last_counts_and_unknown_ones_are_ignored() {
    let house = House::new().await;
    let body = r#"{"name": 5, "timeout": 1, "nonsense": {"a": [1e9]}, "name": "last", "timeout": 120, "__proto__": 1}"#;
    let answer = house.api("POST", "checks/").body(body).send().await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    assert_eq!(
        (answer.json()["name"].clone(), answer.json()["timeout"].clone()),
        (json!("last"), json!(120))
    );
}

#[tokio::test]
async fn what_is_strange_but_allowed_comes_back_as_it_was_given() {
    let house = House::new().await;
    let fields = json!({
        "name": "\u{202e}<script>\"'&\u{1}\u{1F600} 日本 \\u0000",
        "tags": "  a \t b\u{a0}c <b> \" \u{1F600}  a ",
        "desc": "line\r\nline\u{2028}\u{feff}",
        "success_kw": ", ,ok,,",
        "slug": "-_-",
    });
    let made = house.check(fields.clone()).await;
    for (name, value) in fields.as_object().unwrap() {
        assert_eq!(&made[name], value, "{name}");
    }
    let empty = house
        .check(json!({ "name": "", "tags": "", "slug": "", "channels": "" }))
        .await;
    assert_eq!((&empty["name"], &empty["slug"]), (&json!(""), &json!("")));
    // Any content type: the body is read as JSON.
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "!",
    ] {
        let ask = house
            .api("POST", "checks/")
            .header("content-type", kind)
            .body(r#"{"name": "y"}"#);
        assert_eq!(ask.send().await.json()["name"], json!("y"), "{kind}");
    }
}

#[tokio::test]
async fn a_window_of_flips_that_makes_no_sense_is_refused() {
    let house = House::new().await;
    let id = house.check_id().await;
    for query in [
        "start=x",
        "end=-1",
        "seconds=31536001",
        "start=10000000001",
        "seconds=1e3",
        "start=1.5",
        "end=99999999999999999999999",
        "seconds=%00",
        "start=&end=&seconds=",
    ] {
        let answer = house
            .api("GET", &format!("checks/{id}/flips/?{query}"))
            .send()
            .await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
    }
    for query in [
        "",
        "seconds=",
        "seconds=0",
        "start=0&end=10000000000&seconds=31536000",
        "x=y",
        "start=20&end=10",
    ] {
        let answer = house
            .api("GET", &format!("checks/{id}/flips/?{query}"))
            .send()
            .await;
        assert_eq!(
            (answer.status, answer.json()),
            (StatusCode::OK, json!({ "flips": [] })),
            "{query}"
        );
    }
}
