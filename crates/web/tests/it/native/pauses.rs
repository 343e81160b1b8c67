//! Pauses with an end, signs of life, and the last success, as the native API tells them.

use allswell_core::time::{Span, Timestamp};
use serde_json::{Value, json};

use crate::api::house::{Answer, House, now};

async fn pause(house: &House, id: &str, fields: Value) -> Answer {
    house
        .ask("POST", &format!("/v1/checks/{id}/pause"))
        .key(&house.alice.write)
        .json(&fields)
        .send()
        .await
}

async fn shown(house: &House, id: &str) -> Value {
    let path = format!("/v1/checks/{id}");
    house
        .ask("GET", &path)
        .key(&house.alice.write)
        .send()
        .await
        .json()
}

fn after(secs: i64) -> String {
    (now() + Span::from_secs(secs)).to_rfc3339_micros()
}

#[tokio::test]
async fn a_pause_may_have_an_end_and_loses_it_to_another_pause() {
    let house = House::new().await;
    let id = house.check_id().await;
    let until = after(3_600);
    let paused = pause(&house, &id, json!({ "until": until })).await.json();
    assert_eq!(
        (&paused["status"], &paused["paused_until"]),
        (&json!("paused"), &json!(until))
    );
    assert_eq!(shown(&house, &id).await["paused_until"], until);
    // In another zone it is the same instant.
    let elsewhere = after(86_400 + 7_200).replace("+00:00", "+02:00");
    let offset = pause(&house, &id, json!({ "until": elsewhere })).await;
    assert_eq!(offset.json()["paused_until"], after(86_400), "{}", offset.text());
    let forever = pause(&house, &id, json!({})).await.json();
    assert_eq!(
        (&forever["status"], &forever["paused_until"]),
        (&json!("paused"), &Value::Null)
    );
    pause(&house, &id, json!({ "until": until })).await;
    let compatible = house.api("POST", &format!("checks/{id}/pause")).send().await;
    assert_eq!(compatible.json()["status"], "paused");
    assert_eq!(shown(&house, &id).await["paused_until"], Value::Null);
}

#[tokio::test]
async fn an_end_that_is_none_is_refused_and_changes_nothing() {
    let house = House::new().await;
    let id = house.check_id().await;
    for until in [
        json!("08:00"),
        json!("tomorrow"),
        json!(5),
        json!(null),
        json!(after(-1)),
        json!(after(367 * 86_400)),
    ] {
        let refused = pause(&house, &id, json!({ "until": until })).await;
        assert_eq!(refused.status.as_u16(), 422, "{until}: {}", refused.text());
        assert_eq!(refused.json()["field"], "until", "{until}");
    }
    assert_eq!(
        pause(&house, &id, json!({ "til": after(5) })).await.json()["field"],
        "til"
    );
    assert_eq!(shown(&house, &id).await["status"], "new");
}

#[tokio::test]
async fn a_sign_of_life_is_told_as_such_and_is_no_success() {
    let house = House::new().await;
    let id = house.check_id().await;
    for suffix in ["", "/start", "/alive"] {
        house.ping(&format!("{id}{suffix}"), "").await;
    }
    house
        .ping(&format!("{}/nightly/alive", house.alice.ping), "")
        .await;
    let check = shown(&house, &id).await;
    // The second sign of life of a run renews it and is no ping more.
    assert_eq!(
        (&check["ping_count"], &check["started"]),
        (&json!(3), &json!(true))
    );
    let instant = |name: &str| Timestamp::parse_rfc3339(check[name].as_str().unwrap()).unwrap();
    assert!(instant("last_success_at") < instant("last_start_at"));
    assert!(instant("last_start_at") < instant("last_alive_at"));
    assert_eq!(
        instant("deadline"),
        instant("last_alive_at") + Span::from_secs(3_600)
    );
    let log = house
        .ask("GET", &format!("/v1/checks/{id}/pings"))
        .key(&house.alice.write)
        .send()
        .await
        .json();
    assert_eq!(log["items"][0]["kind"], "alive");
    let compatible = house
        .api("GET", &format!("checks/{id}/pings/"))
        .send()
        .await
        .json();
    assert_eq!(compatible["pings"][0]["type"], "log");
    house.ping(&format!("{id}/fail"), "").await;
    let failed = shown(&house, &id).await;
    assert_eq!(failed["last_success_at"], check["last_success_at"]);
    assert_eq!(failed["last_alive_at"], Value::Null);
}
