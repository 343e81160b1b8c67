//! What the native API stands on: pages, the feed of changes, answers given once, signing keys, counts of wrong keys.

use allswell_core::check::Check;
use allswell_core::key::KeyKind;
use allswell_core::scope::ProjectScope;
use allswell_core::signal::Kind;
use allswell_core::time::Timestamp;
use allswell_store::check_pages::Matching;
use allswell_store::feed::What;
use allswell_store::once::{Before, Once};
use allswell_store::pages::Position;
use allswell_store::signing_keys::NewSigningKey;
use allswell_store::{Error, Store, Tx};

use crate::kit::{House, NOW, SYSTEM, after, on_each_database};

/// Runs a transaction that must end well.
async fn run<F>(store: &Store, work: F)
where
    F: for<'t, 'c> AsyncFnOnce(&'t mut Tx<'c>) -> Result<(), Error> + Send + 'static,
{
    store.write(work).await.expect("a transaction");
}

on_each_database!(
    a_page_begins_where_the_one_before_it_ended,
    the_feed_tells_each_change_once_and_in_order,
    neither_a_flip_nor_an_edit_hides_the_other,
    an_answer_is_given_again_to_the_same_request_alone,
    of_two_same_requests_at_once_one_is_carried_out,
    a_nonce_is_good_once_for_each_key,
    a_signing_key_opens_its_project_until_it_ends,
    wrong_keys_count_by_client_and_minute,
);

async fn a_page_begins_where_the_one_before_it_ended(store: &Store) {
    let mut house = House::build(store).await;
    let (alice, bob) = (house.alice, house.bob);
    let scope = alice.scope();
    let mut made = Vec::new();
    for n in 0..5 {
        // Two of each instant: then ids decide.
        made.push(house.check(alice, |check| check.created_at = after(n / 2)).await);
    }
    house.check(bob, |_| {}).await;
    made.sort_by_key(|check| (check.created_at, check.id));
    let mut behind = Position::FIRST;
    let mut seen = Vec::new();
    loop {
        let page = store
            .read(async move |reader| reader.checks_page(scope, &Matching::default(), behind, 2).await)
            .await
            .expect("a page")
            .checks;
        let Some(last) = page.last() else { break };
        behind = Position {
            at: last.created_at,
            id: last.id.as_uuid(),
        };
        seen.extend(page.iter().map(|check| check.id));
    }
    assert_eq!(seen, made.iter().map(|check| check.id).collect::<Vec<_>>());
    let ids = seen.clone();
    let channels = store
        .read(async move |reader| reader.channels_of_checks(scope, &ids).await)
        .await
        .expect("channels");
    assert!(channels.is_empty());
}

async fn the_feed_tells_each_change_once_and_in_order(store: &Store) {
    let mut house = House::build(store).await;
    let alice = house.alice;
    let scope = alice.scope();
    let first = house.check(alice, |_| {}).await;
    let second = house.check(alice, |_| {}).await;
    let (id, gone) = (first.id, second.id);
    run(store, async move |tx| {
        tx.check_delete(scope, gone, NOW).await?;
        let seq = tx.change_next(scope).await?;
        let check = tx.check(scope, id).await?.expect("it is there");
        tx.check_mark_changed(ProjectScope::granted(check.project), &check, seq)
            .await
    })
    .await;
    for limit in [1, 2, 100] {
        let mut told = Vec::new();
        let mut seen = 0;
        loop {
            let (changes, complete) = store
                .read(async move |reader| reader.changes(scope, seen, limit).await)
                .await
                .expect("changes");
            assert!(
                changes
                    .iter()
                    .all(|change| change.seq > seen && change.seq <= complete)
            );
            told.extend(changes);
            if complete == seen {
                break;
            }
            seen = complete;
        }
        let told: Vec<String> = told
            .iter()
            .map(|change| match &change.what {
                What::Flip(told) => format!("flip {}", told.flip.check),
                What::Check(check) => format!("check {}", check.id),
                What::Gone(check) => format!("gone {}", check.id),
            })
            .collect();
        assert_eq!(
            told,
            [format!("gone {gone}"), format!("check {id}")],
            "by {limit}"
        );
    }
    let bob = house.bob.scope();
    let (theirs, _) = store
        .read(async move |reader| reader.changes(bob, 0, 100).await)
        .await
        .expect("changes");
    assert!(theirs.is_empty());
}

async fn neither_a_flip_nor_an_edit_hides_the_other(store: &Store) {
    let mut house = House::build(store).await;
    let scope = house.alice.scope();
    let called = |check: &mut Check| {
        check.settings.name = "Backup".to_owned();
        check.settings.slug = "backup".to_owned();
    };
    let mut check = house.check(house.alice, called).await;
    house
        .ping(&mut check, Kind::Success, b"", NOW)
        .await
        .expect("a flip");
    let (changes, _) = store
        .read(async move |reader| reader.changes(scope, 0, 100).await)
        .await
        .expect("changes");
    let kinds: Vec<(&str, &str, &str)> = changes
        .iter()
        .map(|change| match &change.what {
            What::Flip(told) => ("flip", told.name.as_str(), told.slug.as_str()),
            What::Check(check) => ("check", check.settings.name.as_str(), ""),
            What::Gone(_) => ("gone", "", ""),
        })
        .collect();
    assert_eq!(kinds, [("check", "Backup", ""), ("flip", "Backup", "backup")]);
}

fn once(key: u8, body: u8) -> Once {
    Once {
        id: uuid::Uuid::from_bytes([key; 16]),
        body_hash: [body; 32],
        since: after(-86_400),
    }
}

async fn an_answer_is_given_again_to_the_same_request_alone(store: &Store) {
    let house = House::build(store).await;
    let (alice, bob) = (house.alice.scope(), house.bob.scope());
    let mut dice = allswell_core::chance::Dice::from_number(3);
    run(store, async move |tx| {
        assert_eq!(tx.once_begin(alice, &once(1, 1), NOW).await?, Before::Never);
        tx.once_end(alice, &once(1, 1), 201, b"the answer", &mut dice)
            .await
    })
    .await;
    run(store, async move |tx| {
        let again = Before::Answered(201, b"the answer".to_vec());
        assert_eq!(tx.once_begin(alice, &once(1, 1), after(60)).await?, again);
        assert_eq!(
            tx.once_begin(alice, &once(1, 2), after(60)).await?,
            Before::OtherBody
        );
        assert_eq!(tx.once_begin(bob, &once(2, 1), after(60)).await?, Before::Never);
        // After a day the key may be used for something else.
        let later = Once {
            since: after(1),
            ..once(1, 2)
        };
        assert_eq!(tx.once_begin(alice, &later, after(86_401)).await?, Before::Never);
        Ok(())
    })
    .await;
    run(store, async move |tx| {
        // Bob's is from the first minute, Alice's new one from a day later.
        assert_eq!(tx.once_prune(SYSTEM, after(60), 10).await?, 0);
        assert_eq!(tx.once_prune(SYSTEM, after(61), 10).await?, 1);
        Ok(())
    })
    .await;
}

async fn of_two_same_requests_at_once_one_is_carried_out(store: &Store) {
    let house = House::build(store).await;
    let scope = house.alice.scope();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8_u64 {
        let store = store.clone();
        let mut dice = allswell_core::chance::Dice::from_number(n);
        tasks.spawn(async move {
            store
                .write(
                    async move |tx| match tx.once_begin(scope, &once(7, 7), NOW).await? {
                        Before::Never => {
                            tx.once_end(scope, &once(7, 7), 201, &[n as u8], &mut dice)
                                .await?;
                            Ok::<_, Error>((true, vec![n as u8]))
                        }
                        Before::Answered(_, body) => Ok((false, body)),
                        Before::OtherBody => panic!("the bodies are the same"),
                    },
                )
                .await
                .expect("an answer")
        });
    }
    let answers = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|(carried_out, _)| *carried_out).count(), 1);
    assert!(answers.iter().all(|(_, body)| *body == answers[0].1));
}

fn new(kind: KeyKind, secret: &[u8], expires_at: Option<Timestamp>) -> NewSigningKey<'_> {
    NewSigningKey {
        kind,
        name: "ci",
        secret,
        expires_at,
    }
}

async fn a_nonce_is_good_once_for_each_key(store: &Store) {
    let house = House::build(store).await;
    let scope = house.alice.scope();
    let mut dice = allswell_core::chance::Dice::from_number(3);
    run(store, async move |tx| {
        let mut keys = Vec::new();
        for _ in 0..2 {
            let secret = b"secret".as_slice();
            keys.push(
                tx.signing_key_insert(scope, &new(KeyKind::ReadWrite, secret, None), &mut dice, NOW)
                    .await?,
            );
        }
        assert!(tx.nonce_take(SYSTEM, keys[0], "n1", NOW).await?);
        assert!(!tx.nonce_take(SYSTEM, keys[0], "n1", after(1)).await?);
        assert!(tx.nonce_take(SYSTEM, keys[1], "n1", NOW).await?);
        assert!(tx.nonce_take(SYSTEM, keys[0], "n2", after(5)).await?);
        assert_eq!(tx.nonce_count(SYSTEM, keys[0], 10).await?, 2);
        assert_eq!(tx.nonce_count(SYSTEM, keys[0], 1).await?, 1);
        assert_eq!(tx.nonces_prune(SYSTEM, after(1), 10).await?, 2);
        assert_eq!(tx.nonce_count(SYSTEM, keys[0], 10).await?, 1);
        Ok(())
    })
    .await;
}

async fn a_signing_key_opens_its_project_until_it_ends(store: &Store) {
    let house = House::build(store).await;
    let (alice, bob) = (house.alice.scope(), house.bob.scope());
    let mut dice = allswell_core::chance::Dice::from_number(3);
    run(store, async move |tx| {
        let secret = b"a secret that signs".as_slice();
        let id = tx
            .signing_key_insert(
                alice,
                &new(KeyKind::ReadOnly, secret, Some(after(60))),
                &mut dice,
                NOW,
            )
            .await?;
        let named = tx.signing_key(SYSTEM, id, NOW).await?.expect("it is good");
        assert_eq!((named.project, named.kind), (alice.project(), KeyKind::ReadOnly));
        assert_eq!(named.secret.reveal(), secret);
        assert!(tx.signing_key(SYSTEM, id, after(60)).await?.is_none());
        assert!(!tx.signing_key_revoke(bob, id, NOW).await?);
        assert!(tx.signing_key_revoke(alice, id, NOW).await?);
        assert!(!tx.signing_key_revoke(alice, id, NOW).await?);
        assert!(tx.signing_key(SYSTEM, id, NOW).await?.is_none());
        assert!(tx.signing_keys(bob).await?.is_empty());
        assert_eq!(tx.signing_keys(alice).await?.len(), 1);
        assert!(!tx.requires_hmac(alice).await?);
        tx.project_require_hmac(alice, true).await?;
        assert!(tx.requires_hmac(alice).await? && !tx.requires_hmac(bob).await?);
        Ok(())
    })
    .await;
}

async fn wrong_keys_count_by_client_and_minute(store: &Store) {
    run(store, async move |tx| {
        for expected in 1..=3 {
            assert_eq!(tx.wrong_key_count(SYSTEM, "192.0.2.7", 100, 1).await?, expected);
        }
        assert_eq!(tx.wrong_key_count(SYSTEM, "192.0.2.7", 100, 40).await?, 43);
        assert_eq!(tx.wrong_key_count(SYSTEM, "192.0.2.8", 100, 1).await?, 1);
        assert_eq!(tx.wrong_key_count(SYSTEM, "192.0.2.7", 101, 1).await?, 1);
        assert_eq!(tx.wrong_keys_prune(SYSTEM, 101, 10).await?, 2);
        assert_eq!(tx.wrong_key_count(SYSTEM, "192.0.2.7", 101, 1).await?, 2);
        Ok(())
    })
    .await;
}
