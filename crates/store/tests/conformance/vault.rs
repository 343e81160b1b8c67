//! What is sealed: unreadable in the file, useless at another place, and closed without the right ring.

use allswell_core::chance::Dice;
use allswell_core::key::KeyKind;
use allswell_core::seal::KeyRing;
use allswell_core::signal::Kind;
use allswell_store::instance::UnlockError;
use allswell_store::{Error, Place, Store};

use crate::kit::{House, NOW, OnDisk, on_each_database, ring, run, unlock};

on_each_database!(
    a_locked_vault_seals_and_opens_nothing,
    unlocking_twice_is_harmless,
    a_data_key_is_made_with_the_first_unlocking,
);

const CANARY: &str = "canary-7f3a19c2-yellow";

/// Whether any file beside the database holds these bytes.
fn is_on_disk(disk: &OnDisk, needle: &str) -> bool {
    let files = std::fs::read_dir(disk.dir.path()).expect("a directory");
    files
        .map(|file| std::fs::read(file.expect("an entry").path()).expect("a file"))
        .any(|bytes| {
            bytes
                .windows(needle.len())
                .any(|window| window == needle.as_bytes())
        })
}

/// Looked for in the database, its log and its index, before and after the log is written back. A name is not sealed:
/// finding it shows that the search finds what is there.
#[test]
fn no_secret_is_in_the_files_in_the_clear() {
    run(async {
        let disk = OnDisk::new();
        let store = disk.open().await;
        let mut house = House::build(&store).await;
        let mut check = house
            .check(house.alice, |check| {
                check.settings.name = "plain-canary".to_owned()
            })
            .await;
        house
            .ping(
                &mut check,
                Kind::Success,
                format!("body {CANARY} ").as_bytes(),
                NOW,
            )
            .await;
        house
            .channel(house.alice, format!("https://{CANARY}.example").as_bytes())
            .await;
        let keys = [
            house.key(house.alice, KeyKind::Ping, 0).await.1,
            house.key(house.alice, KeyKind::ReadWrite, 0).await.1,
        ];
        for round in ["in the log", "in the database"] {
            assert!(
                is_on_disk(&disk, "plain-canary"),
                "the search finds nothing {round}"
            );
            assert!(!is_on_disk(&disk, CANARY), "{round}");
            for key in &keys {
                assert!(!is_on_disk(&disk, key.reveal()), "{round}");
            }
            store.checkpoint().await.expect("a checkpoint");
        }
    });
}

/// Rows that are swapped behind the store's back: between numbers, checks and projects, and between columns.
#[test]
fn a_sealed_value_opens_at_its_own_place_only() {
    run(async {
        let disk = OnDisk::new();
        let store = disk.open().await;
        let mut house = House::build(&store).await;
        let (alice, bob) = (house.alice, house.bob);
        let mut of_alice = house.check(alice, |_| {}).await;
        let mut second = house.check(alice, |_| {}).await;
        let mut of_bob = house.check(bob, |_| {}).await;
        house.ping(&mut of_alice, Kind::Log, b"one", NOW).await;
        house.ping(&mut of_alice, Kind::Log, b"two", NOW).await;
        house.ping(&mut second, Kind::Log, b"one", NOW).await;
        house.ping(&mut of_bob, Kind::Log, b"one", NOW).await;
        let [first_channel, second_channel] =
            [house.channel(alice, b"a").await, house.channel(alice, b"b").await];
        house.key(alice, KeyKind::Ping, 0).await;
        house.key(bob, KeyKind::Ping, 0).await;

        let (scope, check) = (alice.scope(), of_alice.id);
        let body = async || {
            store
                .read(async move |reader| reader.ping_body(scope, check, 1).await)
                .await
        };
        let config = async || {
            let id = first_channel.id;
            store
                .read(async move |reader| reader.channel_config(scope, id).await)
                .await
        };
        let key = async || store.read(async move |reader| reader.ping_key(scope).await).await;
        assert!(body().await.is_ok() && config().await.is_ok() && key().await.is_ok());

        let raw = disk.raw();
        let body_of = |id: allswell_core::id::CheckId, n: i64| -> Vec<u8> {
            let sql = "select sealed from ping_bodies where check_id = ?1 and n = ?2";
            raw.query_row(sql, (id.as_uuid_bytes(), n), |row| row.get(0))
                .expect("a body")
        };
        let own = body_of(check, 1);
        let mut flipped = own.clone();
        *flipped.last_mut().expect("a byte") ^= 1;
        let put = |sealed: &[u8]| {
            let sql = "update ping_bodies set sealed = ?3 where check_id = ?1 and n = ?2";
            assert_eq!(
                raw.execute(sql, (check.as_uuid_bytes(), 1, sealed))
                    .expect("a change"),
                1
            );
        };
        for (what, sealed) in [
            ("of another ping", body_of(check, 2)),
            ("of another check", body_of(second.id, 1)),
            ("of another project", body_of(of_bob.id, 1)),
            ("changed", flipped),
            ("cut", own[..own.len() - 1].to_vec()),
            ("empty", Vec::new()),
        ] {
            put(&sealed);
            let read = body().await;
            assert!(matches!(read, Err(Error::Corrupt(_))), "{what}: {read:?}");
        }
        put(&own);
        assert_eq!(body().await.expect("its own").as_deref(), Some(&b"one"[..]));

        let swap = "update channels set sealed_config = (select sealed_config from channels where id = ?2) where id = ?1";
        raw.execute(
            swap,
            (
                first_channel.id.as_uuid_bytes(),
                second_channel.id.as_uuid_bytes(),
            ),
        )
        .expect("a change");
        assert!(matches!(config().await, Err(Error::Corrupt(_))));
        let swap = "update api_keys set sealed = (select sealed from api_keys where project_id = ?2) where project_id = ?1";
        raw.execute(swap, (alice.project.as_uuid_bytes(), bob.project.as_uuid_bytes()))
            .expect("a change");
        assert!(matches!(key().await, Err(Error::Corrupt(_))));
    });
}

/// A data key that was moved to another project's row does not unwrap there.
#[test]
fn a_data_key_serves_its_own_project_only() {
    run(async {
        let disk = OnDisk::new();
        let store = disk.open().await;
        let mut house = House::build(&store).await;
        let (alice, bob) = (house.alice, house.bob);
        let id = house.channel(alice, b"config").await.id;
        drop(store);
        let raw = disk.raw();
        for sql in [
            "delete from data_keys where project_id = ?2 and ?1 is not null",
            "update data_keys set project_id = ?2 where project_id = ?1",
        ] {
            raw.execute(sql, (alice.project.as_uuid_bytes(), bob.project.as_uuid_bytes()))
                .expect("a change");
        }
        let store = disk.open().await;
        for person in [alice, bob] {
            let scope = person.scope();
            let channel = allswell_store::channels::Channel {
                id: Dice::from_number(5).id(),
                kind: "log".to_owned(),
                name: String::new(),
                tells_down: true,
                tells_up: true,
                created_at: NOW,
            };
            let write = store.write(async move |tx| {
                tx.channel_insert(scope, &channel, b"x", &mut Dice::from_number(1))
                    .await
            });
            assert!(matches!(write.await, Err(Error::Corrupt(_))));
        }
        let scope = alice.scope();
        let read = store
            .read(async move |reader| reader.channel_config(scope, id).await)
            .await;
        assert!(matches!(read, Err(Error::Corrupt(_))), "{read:?}");
    });
}

/// Which ring is tried on a database of `ring()`, and what is said. A second key that is not active is no harm.
#[test]
fn a_ring_that_does_not_fit_is_refused_with_its_name() {
    let text =
        |rings: &[&KeyRing]| -> String { rings.iter().map(|ring| ring.to_text().reveal().clone()).collect() };
    let (right, stranger) = (ring(), KeyRing::generate("root-2", &mut Dice::from_number(8)));
    let impostor = KeyRing::generate("root-1", &mut Dice::from_number(9));
    let both = KeyRing::parse(&text(&[&stranger, &right])).expect("a ring");
    type Refusal = Option<(&'static str, fn(&UnlockError) -> bool)>;
    let missing: Refusal = Some((
        "does not hold it",
        |e| matches!(e, UnlockError::Missing(name) if name == "root-1"),
    ));
    let wrong: Refusal = Some((
        "is not the one",
        |e| matches!(e, UnlockError::Wrong(name) if name == "root-1"),
    ));
    for (tried, refusal) in [
        (right, None),
        (stranger, missing),
        (impostor, wrong),
        (both, None),
    ] {
        run(async {
            let disk = OnDisk::new();
            let store = disk.open().await;
            let mut house = House::build(&store).await;
            let id = house.channel(house.alice, b"config").await.id;
            let scope = house.alice.scope();
            drop(store);

            let store = disk.open_locked().await.expect("a store");
            let unlocked = store.unlock(tried, Dice::from_number(1), NOW).await;
            let read = store
                .read(async move |reader| reader.channel_config(scope, id).await)
                .await;
            match (unlocked, refusal) {
                (Ok(()), None) => assert_eq!(read.expect("it opens").as_deref(), Some(&b"config"[..])),
                (Err(error), Some((words, fits))) => {
                    assert!(fits(&error), "{error:?}");
                    let text = error.to_string();
                    assert!(
                        text.contains(words) && text.contains("ALLSWELL_KEYS_RING_FILE"),
                        "{text}"
                    );
                    assert!(read.is_err(), "the vault stays closed");
                }
                (unlocked, _) => panic!("{unlocked:?}"),
            }
            assert_eq!(
                crate::kit::rows(&store).await["data_keys"],
                4,
                "no new key was made"
            );
        });
    }
}

/// A database whose instance key is gone must not quietly get another: every API key would be void.
#[test]
fn a_lost_instance_key_is_not_replaced() {
    run(async {
        let disk = OnDisk::new();
        let store = disk.open().await;
        House::build(&store).await;
        drop(store);
        assert_eq!(
            disk.raw()
                .execute("delete from data_keys where project_id is null", [])
                .expect("a change"),
            1
        );
        let store = disk.open_locked().await.expect("a store");
        let refused = store.unlock(ring(), Dice::from_number(1), NOW).await;
        assert!(
            matches!(refused, Err(UnlockError::Store(Error::Corrupt(_)))),
            "{refused:?}"
        );
    });
}

async fn a_data_key_is_made_with_the_first_unlocking(store: &Store) {
    assert!(store.has_data_keys().await.expect("a read"));
    let fresh = Store::open(&Place::Memory, NOW).await.expect("a store");
    assert!(
        !fresh.has_data_keys().await.expect("a read"),
        "a ring may be made for this one"
    );
    unlock(&fresh).await;
    assert!(fresh.has_data_keys().await.expect("a read"));
}

async fn unlocking_twice_is_harmless(store: &Store) {
    let mut house = House::build(store).await;
    let (id, scope) = (
        house.channel(house.alice, b"config").await.id,
        house.alice.scope(),
    );
    let before = crate::kit::rows(store).await;
    unlock(store).await;
    assert_eq!(crate::kit::rows(store).await, before);
    let read = store
        .read(async move |reader| reader.channel_config(scope, id).await)
        .await;
    assert_eq!(read.expect("a read").as_deref(), Some(&b"config"[..]));
}

/// A bug of ours, so an error and not a panic or a plain value.
async fn a_locked_vault_seals_and_opens_nothing(store: &Store) {
    let house = House::build(store).await;
    let scope = house.alice.scope();
    let locked = Store::open(&Place::Memory, NOW).await.expect("a store");
    let create = locked
        .write(async move |tx| {
            tx.key_create(scope, KeyKind::ReadWrite, "", &mut Dice::from_number(1), NOW)
                .await
        })
        .await;
    assert!(matches!(create, Err(Error::Internal(_))));
    assert_eq!(crate::kit::rows(&locked).await["api_keys"], 0);
}
