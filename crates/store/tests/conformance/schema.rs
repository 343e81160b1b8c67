//! The schema: every statement fits it, and a database of another form is refused with a sentence.

use allswell_core::signal::Kind;
use allswell_store::{Error, Place, Store};

use crate::kit::{House, NOW, OnDisk, after, on_each_database, rows, run};

on_each_database!(every_statement_can_be_prepared);

async fn every_statement_can_be_prepared(store: &Store) {
    let broken = store.prepare_everything().await.expect("the database answers");
    assert_eq!(broken, [] as [String; 0]);
}

/// Statements of the moment when a crowd falls silent. Its rows come within seconds into tables of which PostgreSQL's
/// planner knows nothing yet, and plans made while those are empty stay. So each must go by the first column of an index
/// whatever the planner believes of their size.
#[test]
fn plans_for_empty_tables_are_good_for_full_ones() {
    run(async {
        let cluster = allswell_testkit::Cluster::shared();
        let name = cluster.database().await;
        let store = Store::open(&crate::kit::postgres_place(cluster, &name), NOW)
            .await
            .expect("a store");
        let nouns = ["batch", "news", "outbox/claim", "outbox/record", "outbox/telling"];
        let found = store.whole_scans(&nouns).await.expect("the database answers");
        assert_eq!(found, WHOLE_ON_PURPOSE);
        drop(store);
        cluster.remove(&name).await;
    });
}

/// What the only server, or this one, has leased, at its start and end; one row of an index in its order.
const WHOLE_ON_PURPOSE: [&str; 3] = [
    "outbox/claim RELEASE_ALL: ->  Index Scan using deliveries_leased on deliveries",
    "outbox/claim RELEASE_MINE: ->  Index Scan using deliveries_leased on deliveries",
    "outbox/claim NEXT_LAPSE: ->  Index Only Scan using deliveries_leased on deliveries",
];

fn schema(disk: &OnDisk) -> Vec<(String, Option<String>)> {
    let raw = disk.raw();
    let mut read = raw
        .prepare("select name, sql from sqlite_schema order by name")
        .expect("a statement");
    let rows = read
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .expect("rows");
    rows.collect::<Result<_, _>>().expect("a schema")
}

/// As a server of an earlier version writes them while servers are updated one by one.
const TAG_WITHOUT_ITS_TIME: &str = "insert into check_tags (check_id, tag, project_id)
    select id, 'old', project_id from checks";

#[test]
fn a_tag_without_the_time_that_pages_go_by_is_refused() {
    run(async {
        let disk = OnDisk::new();
        let store = disk.open().await;
        let mut house = House::build(&store).await;
        house.check(house.alice, |_| {}).await;
        let refused = disk.raw().execute(TAG_WITHOUT_ITS_TIME, []);
        let why = refused.expect_err("a refusal").to_string();
        assert!(why.contains("check_tags.created_at"), "{why}");
    });
    run(async {
        let cluster = allswell_testkit::Cluster::shared();
        let name = cluster.database().await;
        let store = Store::open(&crate::kit::postgres_place(cluster, &name), NOW)
            .await
            .expect("a store");
        crate::kit::unlock(&store).await;
        let mut house = House::build(&store).await;
        house.check(house.alice, |_| {}).await;
        let refused = cluster.try_run(&name, TAG_WITHOUT_ITS_TIME).await;
        let refused = refused.expect_err("a refusal");
        let why = refused.as_db_error().expect("of the database").message();
        assert!(why.contains("\"created_at\""), "{why}");
        drop(store);
        cluster.remove(&name).await;
    });
}

#[test]
fn opening_a_database_again_changes_nothing() {
    run(async {
        let disk = OnDisk::new();
        let store = disk.open().await;
        let mut house = House::build(&store).await;
        let mut check = house.check(house.alice, |_| {}).await;
        house.ping(&mut check, Kind::Success, b"body", NOW).await;
        let (first, counted) = (schema(&disk), rows(&store).await);
        let ledger = || -> (i64, i64) {
            let sql = "select count(*), max(applied_at) from schema_versions";
            disk.raw()
                .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
                .expect("the ledger")
        };
        let applied = ledger();
        drop(store);
        for _ in 0..2 {
            let again = Store::open(&disk.place(), after(99))
                .await
                .expect("it opens again");
            crate::kit::unlock(&again).await;
            assert_eq!(
                (schema(&disk), rows(&again).await, ledger()),
                (first.clone(), counted.clone(), applied)
            );
            let id = check.id;
            let read = again
                .read(async move |reader| reader.check_any(crate::kit::SYSTEM, id).await)
                .await;
            assert_eq!(read.expect("a read").as_ref(), Some(&check));
        }
    });
}

/// What was done to the file, and what the refusal says.
#[test]
fn a_database_of_another_form_is_refused_and_left_alone() {
    for (change, words) in [
        (
            "insert into schema_versions values (998, 'later', '', 0)",
            ["version 998", "newer Allswell"],
        ),
        (
            "insert into schema_versions values (999, 'later', '', 0)",
            ["version 999", "newer Allswell"],
        ),
        (
            "update schema_versions set sha256 = 'x' where version = 1",
            ["migration 1 (start)", "another text"],
        ),
    ] {
        run(async {
            let disk = OnDisk::new();
            drop(disk.open().await);
            disk.raw().execute(change, []).expect("a change");
            let before = schema(&disk);
            let refused = disk.open_locked().await.err().expect("a refusal");
            let Error::Corrupt(why) = &refused else {
                panic!("{refused:?}")
            };
            for word in words {
                assert!(why.contains(word), "{why}");
            }
            assert_eq!(schema(&disk), before);
        });
    }
}

#[test]
fn what_is_not_a_database_is_refused_and_left_alone() {
    run(async {
        let disk = OnDisk::new();
        let text = "shopping list\n".repeat(1_000);
        std::fs::write(&disk.path, &text).expect("a file");
        let refused = disk.open_locked().await.err();
        assert!(matches!(refused, Some(Error::Corrupt(_))), "{refused:?}");
        assert_eq!(std::fs::read_to_string(&disk.path).expect("the file"), text);

        let nowhere = Place::File(disk.path.join("no such directory").join("db"));
        let refused = Store::open(&nowhere, NOW).await.err();
        assert!(matches!(refused, Some(Error::Unavailable(_))), "{refused:?}");
    });
}
