//! What happened and why: flips, incidents, pings and their bodies.

use allswell_core::delivery::Class;
use allswell_core::id::{ChannelId, CheckId};
use allswell_core::scope::SystemScope;
use allswell_core::time::Span;
use allswell_store::outbox::{End, Found, Next, Recorded, Wanted};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api::house::{Ask, House, now};

fn v1<'h>(house: &'h House, path: &str) -> Ask<'h> {
    house.ask("GET", &format!("/v1/{path}")).key(&house.alice.write)
}

async fn items(house: &House, path: &str) -> Vec<Value> {
    let answer = v1(house, path).send().await;
    assert!(answer.status.is_success(), "{path}: {}", answer.text());
    answer.json()["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn each_flip_says_why() {
    let house = House::new().await;
    let id = house.check_id().await;
    house.ping(&id, "").await;
    house.ping(&format!("{id}/3"), "").await;
    house.ping(&id, "").await;
    for path in ["flips".to_owned(), format!("flips?check={id}")] {
        let flips = items(&house, &path).await;
        let told: Vec<_> = flips
            .iter()
            .map(|flip| (flip["from"].as_str().unwrap(), flip["to"].as_str().unwrap()))
            .collect();
        assert_eq!(told, [("down", "up"), ("up", "down"), ("new", "up")], "{path}");
        assert_eq!(flips[1]["reason"]["code"], "fail");
        assert_eq!(
            flips[1]["reason"]["data"],
            json!({ "ping": 2, "cause": { "exit_status": 3 } })
        );
        assert!(
            flips[1]["reason"]["sentence"]
                .as_str()
                .unwrap()
                .contains("exit status 3")
        );
    }
    for path in ["incidents".to_owned(), format!("incidents?check={id}")] {
        let incidents = items(&house, &path).await;
        assert_eq!(incidents.len(), 1, "{path}");
        assert_eq!(
            (&incidents[0]["opened_by_flip"], &incidents[0]["closed_by_flip"]),
            (&json!(2), &json!(3))
        );
    }
    let wrong = v1(&house, "flips?check=5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a70")
        .send()
        .await;
    assert_eq!(
        (wrong.status.as_u16(), &wrong.json()["field"]),
        (422, &json!("check"))
    );
}

#[tokio::test]
async fn histories_come_in_pages() {
    let house = House::new().await;
    let id = house.check_id().await;
    for _ in 0..5 {
        house.ping(&id, "").await;
        house.ping(&format!("{id}/fail"), "").await;
    }
    for list in ["flips", "incidents"] {
        for query in [String::new(), format!("&check={id}")] {
            let whole = items(&house, &format!("{list}?limit=500{query}")).await;
            let mut seen = Vec::new();
            let mut path = format!("{list}?limit=2{query}");
            loop {
                let page = v1(&house, &path).send().await.json();
                seen.extend(page["items"].as_array().unwrap().clone());
                match page["next"].as_str() {
                    Some(next) => path = format!("{list}?limit=2{query}&cursor={next}"),
                    None => break,
                }
            }
            assert_eq!(seen, whole, "{list}{query}");
            assert!(whole.len() >= 4);
        }
    }
}

#[tokio::test]
async fn the_log_is_paged_and_searched() {
    let house = House::new().await;
    let id = house.check_id().await;
    for n in 1..=6 {
        house
            .ping(
                &id,
                if n % 2 == 0 {
                    "all fine"
                } else {
                    "disk almost full"
                },
            )
            .await;
    }
    let numbers = |items: &[Value]| {
        items
            .iter()
            .map(|ping| ping["n"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    let page = v1(&house, &format!("checks/{id}/pings?limit=4"))
        .send()
        .await
        .json();
    assert_eq!(numbers(page["items"].as_array().unwrap()), [6, 5, 4, 3]);
    let next = page["next"].as_str().unwrap();
    let rest = items(&house, &format!("checks/{id}/pings?limit=4&cursor={next}")).await;
    assert_eq!(numbers(&rest), [2, 1]);
    let found = items(&house, &format!("checks/{id}/pings?q=almost")).await;
    assert_eq!(numbers(&found), [5, 3, 1]);
    let two = v1(&house, &format!("checks/{id}/pings?q=almost&limit=2"))
        .send()
        .await
        .json();
    assert_eq!(numbers(two["items"].as_array().unwrap()), [5, 3]);
    let next = two["next"].as_str().unwrap();
    assert_eq!(
        numbers(
            &items(
                &house,
                &format!("checks/{id}/pings?q=almost&limit=2&cursor={next}")
            )
            .await
        ),
        [1]
    );
    let body = v1(&house, &format!("checks/{id}/pings/5/body")).send().await;
    assert_eq!(body.text(), "disk almost full");
    assert_eq!(body.header("content-disposition"), "attachment");
}

/// Does with what is due to a channel as if its receiver had answered 404 and been given up.
async fn give_up(house: &mut House, channel: ChannelId) {
    let wanted = Wanted {
        class: Class::Alert,
        project: house.alice.scope().project(),
        channel,
        limit: 9,
        attempts_below: 99,
    };
    let (owner, mut dice) = (house.dice.id(), house.dice.fork());
    // The clock of the house goes on with each look at it.
    let later = now() + Span::from_secs(3_600);
    let write = house.store.write(async move |tx| {
        let (scope, lease) = (SystemScope::engine(), Span::from_secs(60));
        let claimed = tx.deliveries_claim(scope, &wanted, later, owner, lease).await?;
        let recorded = claimed.into_iter().map(|claimed| Recorded {
            claimed,
            found: Some(Found {
                started_at: now(),
                duration: Span::from_millis(7),
                outcome: "http_status".to_owned(),
                http_status: Some(404),
                phases: Some(
                    r#"{"dns":null,"connect":1200,"tls":null,"first_byte":5000,"body":800}"#.to_owned(),
                ),
                detail: br#"{"excerpt":"token t0p","peer":"10.0.0.1:80","warnings":["broken_json"]}"#
                    .to_vec(),
            }),
            next: Next::Ended(End::Exhausted),
            outcome: "http_status 404".to_owned(),
        });
        let recorded: Vec<_> = recorded.collect();
        tx.deliveries_record(SystemScope::engine(), &recorded, owner, later, &mut dice)
            .await
    });
    assert_eq!(write.await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_delivery_is_explained_and_sent_again() {
    let mut house = House::new().await;
    let check = house.check_id().await;
    let channel = house.channel("hook").await;
    let id: CheckId = check.parse().unwrap();
    let scope = house.alice.scope();
    let write = house
        .store
        .write(async move |tx| tx.check_set_channels(scope, id, &[channel]).await);
    write.await.unwrap();
    house.ping(&check, "").await;
    house.ping(&format!("{check}/fail"), "").await;
    let delivery = items(&house, "deliveries").await[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("deliveries/{delivery}/again");
    let again = || house.ask("POST", &format!("/v1/{path}")).key(&house.alice.write);
    assert_eq!(again().send().await.status.as_u16(), 409, "it has not ended");

    give_up(&mut house, channel).await;
    let answer = v1(&house, &format!("deliveries/{delivery}")).send().await;
    assert!(!answer.text().contains("t0p") && !answer.text().contains("10.0.0.1"));
    assert_eq!(
        answer.json()["tries"],
        json!([{
            "n": 1,
            "started_at": now().to_rfc3339_micros(),
            "duration_ms": 7,
            "outcome": "http_status",
            "http_status": 404,
            "phases_us": { "dns": null, "connect": 1200, "tls": null, "first_byte": 5000, "body": 800 },
            "warnings": ["broken_json"],
        }])
    );

    let again = || house.ask("POST", &format!("/v1/{path}")).key(&house.alice.write);
    for replayed in [false, true] {
        let answer = again().header("Idempotency-Key", "once").send().await;
        assert_eq!(answer.status.as_u16(), 202, "{}", answer.text());
        assert_eq!(answer.json(), json!({ "delivery": delivery }));
        assert_eq!(answer.headers.contains_key("idempotent-replay"), replayed);
    }
    let shown = v1(&house, &format!("deliveries/{delivery}")).send().await.json();
    assert_eq!(
        (&shown["state"], &shown["finished_at"]),
        (&json!("ready"), &json!(null))
    );
    let acts = house
        .store
        .read(async |reader| reader.acts(SystemScope::engine(), 99).await)
        .await
        .unwrap();
    assert_eq!(acts.iter().filter(|act| act.2 == "delivery.again").count(), 1);

    // News that wait are enough to keep older ones back.
    house.ping(&check, "").await;
    let answer = again().send().await;
    assert_eq!(answer.status.as_u16(), 409, "{}", answer.text());
    assert!(
        answer
            .text()
            .contains("was told of a newer flip of this check, or is about to be"),
        "{}",
        answer.text()
    );
}

/// The rule: which channels there are, and what checks are called in addresses, is for read-write keys, in every view.
#[tokio::test]
async fn a_read_only_key_learns_no_channel_and_no_ping_address_anywhere() {
    let mut house = House::new().await;
    let check = house.check_id().await;
    let channel = house.channel("hook").await;
    let id: CheckId = check.parse().unwrap();
    let scope = house.alice.scope();
    let write = house
        .store
        .write(async move |tx| tx.check_set_channels(scope, id, &[channel]).await);
    write.await.unwrap();
    house.ping(&check, "").await;
    house.ping(&format!("{check}/fail"), "").await;
    let delivery = items(&house, "deliveries").await[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let unique_key = house
        .ask("GET", "/v1/checks")
        .key(&house.alice.read)
        .send()
        .await
        .json()["items"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    for path in [
        "checks".to_owned(),
        format!("checks/{unique_key}"),
        "flips".to_owned(),
        "incidents".to_owned(),
        "deliveries".to_owned(),
        format!("deliveries?check={unique_key}"),
        format!("deliveries/{delivery}"),
    ] {
        let path = format!("/v1/{path}");
        let answer = house.ask("GET", &path).key(&house.alice.read).send().await;
        let text = answer.text();
        assert!(answer.status.is_success(), "{path}: {text}");
        assert!(!text.contains(&channel.to_string()), "{path}: {text}");
        assert!(!text.contains(&check), "{path}: {text}");
        assert!(!text.contains("\"channel"), "{path}: {text}");
    }
    assert_eq!(
        items(&house, "deliveries").await[0]["channel"],
        channel.to_string()
    );
}

#[tokio::test]
async fn a_test_delivery_is_about_no_check() {
    let mut house = House::new().await;
    let channel = house.channel("hook").await;
    let path = format!("/v1/channels/{channel}/test");
    let answer = house
        .ask("POST", &path)
        .key(&house.alice.write)
        .json(&json!({}))
        .send()
        .await;
    assert!(answer.status.is_success(), "{}", answer.text());
    let delivery = &items(&house, "deliveries").await[0];
    assert_eq!(delivery["check"], Value::Null);
    let shown = v1(
        &house,
        &format!("deliveries/{}", delivery["id"].as_str().unwrap()),
    )
    .send()
    .await
    .json();
    assert_eq!(
        (&shown["check"], &shown["class"]),
        (&Value::Null, &delivery["class"])
    );
}

/// One that overtook others tells of theirs too.
#[tokio::test]
async fn a_delivery_names_the_flips_that_it_tells_of() {
    let mut house = House::new().await;
    let check = house.check_id().await;
    let channel = house.channel("hook").await;
    let (id, scope): (CheckId, _) = (check.parse().unwrap(), house.alice.scope());
    let write = house
        .store
        .write(async move |tx| tx.check_set_channels(scope, id, &[channel]).await);
    write.await.unwrap();
    house.ping(&format!("{check}/fail"), "").await;
    house.ping(&check, "").await;
    let deliveries = items(&house, "deliveries").await;
    let id = |flip: u64| {
        let of_flip = deliveries.iter().find(|delivery| delivery["flip"] == flip);
        of_flip.unwrap()["id"].as_str().unwrap().to_owned()
    };
    let (older, newer) = (id(1), id(2));
    let flips = async |id: &str| v1(&house, &format!("deliveries/{id}")).send().await.json()["flips"].clone();
    assert_eq!(
        (flips(&older).await, flips(&newer).await),
        (json!([1]), json!([2]))
    );
    let (project, now) = (house.alice.scope().project(), now() + Span::from_secs(60));
    let overtaken = house.store.write(async move |tx| {
        let wanted = Wanted {
            class: Class::Alert,
            project,
            channel,
            limit: 1,
            attempts_below: 99,
        };
        tx.deliveries_overtake(SystemScope::engine(), &wanted, now, now, 0, 9)
            .await
    });
    assert_eq!(overtaken.await.unwrap(), 1);
    assert_eq!(
        (flips(&older).await, flips(&newer).await),
        (json!([1]), json!([1, 2]))
    );
}

#[tokio::test]
async fn a_project_tests_its_channels_thirty_times_a_minute() {
    let mut house = House::new().await;
    let channel = house.channel("hook").await;
    let path = format!("/v1/channels/{channel}/test");
    let mut statuses = Vec::new();
    let test = |key: String| {
        let ask = house.ask("POST", &path).key(&house.alice.write);
        ask.header("Idempotency-Key", &key).json(&json!({}))
    };
    // What is not there costs nothing.
    let nobody = format!("/v1/channels/{}/test", Uuid::nil());
    let ask = house.ask("POST", &nobody).key(&house.alice.write);
    assert_eq!(ask.json(&json!({})).send().await.status, 404);
    for n in 0..31 {
        statuses.push(test(n.to_string()).send().await);
    }
    let repeated = test("29".to_owned()).send().await;
    assert_eq!(repeated.status, 202, "a repeat gets the first answer");
    let refused = statuses.pop().expect("an answer");
    // What came of them is not tried again by another way.
    let delivery = items(&house, "deliveries").await[0]["id"].clone();
    let again = format!("/v1/deliveries/{}/again", delivery.as_str().unwrap());
    let ask = house.ask("POST", &again).key(&house.alice.write);
    let answer = ask.json(&json!({ "force": true })).send().await;
    assert_eq!(answer.status, 409);
    assert!(
        answer.text().contains("was a test of its channel"),
        "{}",
        answer.text()
    );
    assert!(statuses.iter().all(|answer| answer.status == 202));
    assert_eq!(refused.status, 429, "{}", refused.text());
    assert_eq!(refused.json()["type"], "urn:allswell:problem:too-many");
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(items(&house, "deliveries").await.len(), 30);
}
