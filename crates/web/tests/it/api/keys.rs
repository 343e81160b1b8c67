//! API keys at the door: expiry, networks, the kind for scrapers, and the note of their last use.

use std::time::Duration;

use allswell_core::cidr::Cidr;
use allswell_core::id::KeyId;
use allswell_core::key::KeyKind;
use allswell_core::time::Span;
use allswell_store::keys::{Key, NewKey};
use http::StatusCode;

use super::house::{House, now};

/// A key of Alice's project that expires in so many seconds, bound to these networks.
async fn key(
    house: &mut House,
    kind: KeyKind,
    expires_in: Option<i64>,
    networks: &[&str],
) -> (KeyId, String) {
    let networks: Vec<Cidr> = networks.iter().map(|text| Cidr::parse(text).unwrap()).collect();
    let (scope, mut dice) = (house.alice.scope(), house.dice.fork());
    let write = house.store.write(async move |tx| {
        let key = NewKey {
            kind,
            name: "the office's",
            expires_at: expires_in.map(|secs| now() + Span::from_secs(secs)),
            networks: &networks,
        };
        tx.key_insert(scope, &key, &mut dice, now() - Span::from_days(1))
            .await
    });
    let (id, text) = write.await.unwrap();
    (id, text.reveal().clone())
}

async fn status(house: &House, key: &str, peer: [u8; 4], forwarded: Option<&str>) -> u16 {
    let mut ask = house.ask("GET", "/api/v3/checks/").key(key).from(peer);
    if let Some(forwarded) = forwarded {
        ask = ask.header("x-forwarded-for", forwarded);
    }
    ask.send().await.status.as_u16()
}

const LOOPBACK: [u8; 4] = [127, 0, 0, 1];

#[tokio::test]
async fn a_key_opens_nothing_from_its_expiry_on() {
    let mut house = House::new().await;
    // The clock of the house is within a second of `now()`.
    for (expires_in, expected) in [(None, 200), (Some(2), 200), (Some(0), 401), (Some(-1), 401)] {
        let (_, text) = key(&mut house, KeyKind::ReadWrite, expires_in, &[]).await;
        assert_eq!(
            status(&house, &text, LOOPBACK, None).await,
            expected,
            "{expires_in:?}"
        );
    }
}

#[tokio::test]
async fn a_key_bound_to_networks_is_wrong_from_elsewhere() {
    let mut house = House::new().await;
    let networks = ["192.0.2.0/24", "2001:db8::/32"];
    let (_, bound) = key(&mut house, KeyKind::ReadWrite, None, &networks).await;
    for (peer, forwarded, expected) in [
        ([192, 0, 2, 9], None, 200),
        ([198, 51, 100, 7], None, 401),
        (LOOPBACK, None, 401),
        // What a trusted proxy says counts, from the right; what a stranger says does not.
        (LOOPBACK, Some("192.0.2.9"), 200),
        (LOOPBACK, Some("2001:db8:1::1"), 200),
        (LOOPBACK, Some("192.0.2.9, 198.51.100.7"), 401),
        (LOOPBACK, Some("nonsense"), 401),
        ([198, 51, 100, 7], Some("192.0.2.9"), 401),
    ] {
        assert_eq!(
            status(&house, &bound, peer, forwarded).await,
            expected,
            "{peer:?} {forwarded:?}"
        );
    }
    // In the body as well, and for the gauges.
    let body = format!(r#"{{"api_key": "{bound}"}}"#);
    let answer = house
        .ask("POST", "/api/v3/checks/")
        .from([198, 51, 100, 7])
        .body(body)
        .send()
        .await;
    assert_eq!(answer.error(), "wrong api key");
    let (_, gauges) = key(&mut house, KeyKind::Metrics, None, &networks).await;
    for (peer, expected) in [([192, 0, 2, 9], 200), ([198, 51, 100, 7], 403)] {
        let ask = house.ask("GET", &format!("/checks/metrics/{gauges}")).from(peer);
        assert_eq!(ask.send().await.status.as_u16(), expected);
    }
}

#[tokio::test]
async fn a_key_for_scrapers_opens_the_gauges_and_nothing_else() {
    let mut house = House::new().await;
    let (_, text) = key(&mut house, KeyKind::Metrics, None, &[]).await;
    assert!(text.starts_with("asm_") && text.len() == 32);
    let bearer = format!("Bearer {text}");
    let gauges = house
        .ask("GET", "/metrics/")
        .header("authorization", &bearer)
        .send()
        .await;
    assert_eq!(gauges.status, StatusCode::OK);
    for (method, path) in [
        ("GET", "checks/"),
        ("POST", "checks/"),
        ("GET", "channels/"),
        ("GET", "badges/"),
    ] {
        let answer = house
            .ask(method, &format!("/api/v3/{path}"))
            .key(&text)
            .send()
            .await;
        assert_eq!(
            (answer.status.as_u16(), answer.error().as_str()),
            (401, "wrong api key"),
            "{method} {path}"
        );
    }
}

async fn keys(house: &House) -> Vec<Key> {
    let scope = house.alice.scope();
    house
        .store
        .read(async move |reader| reader.keys(scope).await)
        .await
        .unwrap()
}

#[tokio::test]
async fn the_use_of_a_key_is_noted_with_the_network_it_came_from_and_not_twice_within_a_minute() {
    let mut house = House::new().await;
    let (id, text) = key(&mut house, KeyKind::ReadOnly, None, &[]).await;
    assert_eq!(status(&house, &text, [203, 0, 113, 9], None).await, 200);
    let noted = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let all = keys(&house).await;
            let key = all.into_iter().find(|key| key.id == id).unwrap();
            if key.last_used_at.is_some() {
                return key;
            }
            tokio::task::yield_now().await;
        }
    });
    let noted = noted.await.expect("the use is noted");
    assert_eq!(noted.last_used_from.as_deref(), Some("203.0.113.0/24"));
    // Wrong keys leave no note, and the next use is too soon for another: the note stays as it is.
    assert_eq!(
        status(&house, &text.to_lowercase(), [198, 51, 100, 7], None).await,
        401
    );
    assert_eq!(status(&house, &text, [198, 51, 100, 7], None).await, 200);
    let all = keys(&house).await;
    assert_eq!(all.iter().find(|key| key.id == id), Some(&noted));
}

#[tokio::test]
async fn a_regenerated_key_and_its_successor_overlap_as_long_as_was_said() {
    let mut house = House::new().await;
    for (overlap_secs, old_status) in [(0, 401), (3_600, 200)] {
        let (id, old) = key(&mut house, KeyKind::ReadWrite, None, &["127.0.0.0/8"]).await;
        let (scope, mut dice) = (house.alice.scope(), house.dice.fork());
        let write = house.store.write(async move |tx| {
            tx.key_regenerate(scope, id, Span::from_secs(overlap_secs), &mut dice, now())
                .await
        });
        let (new_id, new) = write.await.unwrap().expect("the key is there");
        assert_eq!(status(&house, new.reveal(), LOOPBACK, None).await, 200);
        assert_eq!(status(&house, new.reveal(), [198, 51, 100, 7], None).await, 401);
        assert_eq!(status(&house, &old, LOOPBACK, None).await, old_status);
        let all = keys(&house).await;
        let old = all.iter().find(|key| key.id == id).unwrap();
        assert_eq!(old.replaced_by, Some(new_id));
        let new = all.iter().find(|key| key.id == new_id).unwrap();
        assert_eq!((&new.name, &new.networks), (&old.name, &old.networks));
    }
}

#[tokio::test]
async fn charlie_cannot_end_or_renew_a_key_of_alices() {
    let mut house = House::new().await;
    let (id, text) = key(&mut house, KeyKind::ReadWrite, None, &[]).await;
    let (theirs, mut dice) = (house.charlie.scope(), house.dice.fork());
    let write = house.store.write(async move |tx| {
        let revoked = tx.key_revoke(theirs, id, now()).await?;
        let renewed = tx
            .key_regenerate(theirs, id, Span::ZERO, &mut dice, now())
            .await?;
        Ok::<_, allswell_store::Error>((revoked, renewed.is_some()))
    });
    assert_eq!(write.await.unwrap(), (false, false));
    assert_eq!(status(&house, &text, LOOPBACK, None).await, 200);
    // Alice can; what was revoked cannot be renewed.
    let (ours, mut dice) = (house.alice.scope(), house.dice.fork());
    let write = house.store.write(async move |tx| {
        let revoked = tx.key_revoke(ours, id, now()).await?;
        let again = tx.key_revoke(ours, id, now()).await?;
        let renewed = tx.key_regenerate(ours, id, Span::ZERO, &mut dice, now()).await?;
        Ok::<_, allswell_store::Error>((revoked, again, renewed.is_some()))
    });
    assert_eq!(write.await.unwrap(), (true, false, false));
    assert_eq!(status(&house, &text, LOOPBACK, None).await, 401);
}
