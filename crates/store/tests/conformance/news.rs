//! Flips of many checks at once, with the deliveries that they owe.

use allswell_core::chance::Dice;
use allswell_core::check::{Check, Event, Status, decide};
use allswell_core::delivery::{self, Route};
use allswell_core::flip::Flip;
use allswell_core::schedule::Zones;
use allswell_core::scope::SystemScope;
use allswell_core::signal::{Cause, Kind, Signal};
use allswell_store::news::{News, Promise};
use allswell_store::{Store, Tx};
use allswell_testkit::Cluster;

use crate::kit::{House, NOW, Person, after, on_each_database, postgres_place, rows, run, unlock};

on_each_database!(
    flips_in_a_crowd_open_and_close_their_incidents,
    a_promise_in_a_crowd_is_made_once,
);

/// What a crowd of checks does at once: each its next flip.
struct Crowd {
    checks: Vec<Check>,
    flips: Vec<Flip>,
}

/// Seven checks of two projects, all but one with a channel that tells everything.
async fn crowd(house: &mut House<'_>) -> Crowd {
    let (alice, bob) = (house.alice, house.bob);
    let (hers, his) = (house.channel(alice, b"").await, house.channel(bob, b"").await);
    let mut checks = Vec::new();
    for n in 0..7 {
        let (person, channel): (Person, _) = if n % 2 == 0 { (alice, &hers) } else { (bob, &his) };
        let check = house.check(person, |check| check.state.status = Status::Up).await;
        if n != 4 {
            house.tell(&check, &[channel]).await.expect("a channel");
        }
        checks.push(check);
    }
    checks.sort_by_key(|check| (check.project, check.id));
    Crowd {
        checks,
        flips: Vec::new(),
    }
}

impl Crowd {
    /// Every check is told the same.
    fn hear(&mut self, kind: Kind, secs: i64) {
        let event = |_: &Check| Event::Signal {
            signal: Signal {
                kind,
                cause: Cause::Address,
            },
            rid: None,
        };
        self.flips.clear();
        for check in &mut self.checks {
            let plan = check.settings.plan(&Zones::Bundled).expect("a plan");
            let decision = decide(&plan, &check.state, event(check), after(secs));
            check.state = decision.state;
            self.flips.push(decision.flip.expect("a flip"));
        }
    }

    /// Writes it down, at once or one by one, and promises what it owes.
    async fn write(&self, store: &Store, at_once: bool, secs: i64) {
        let (checks, flips) = (self.checks.clone(), self.flips.clone());
        let write = async move |tx: &mut Tx<'_>| {
            let mut dice = Dice::from_number(40);
            let news: Vec<News<'_>> = checks
                .iter()
                .zip(&flips)
                .map(|(check, flip)| News {
                    check,
                    flip,
                    noticed_at: after(secs),
                })
                .collect();
            let mut promises = Vec::new();
            if at_once {
                tx.flips_insert(SystemScope::engine(), &news).await?;
                let ids: Vec<_> = checks.iter().map(|check| check.id).collect();
                let routes = tx.routes_of(SystemScope::engine(), &ids).await?;
                for news in news {
                    let routes: &[Route] = routes.get(&news.check.id).map_or(&[], Vec::as_slice);
                    for owed in delivery::owed(news.flip, routes, news.noticed_at) {
                        let id = dice.id_at(news.noticed_at);
                        promises.push(Promise { news, owed, id });
                    }
                }
                return tx.deliveries_insert(SystemScope::engine(), &promises).await;
            }
            for news in news {
                tx.flip_insert(SystemScope::engine(), news.check, news.flip, news.noticed_at)
                    .await?;
                let routes = tx.routes(SystemScope::engine(), news.check.id).await?;
                for owed in delivery::owed(news.flip, &routes, news.noticed_at) {
                    let id = dice.id_at(news.noticed_at);
                    tx.delivery_insert(SystemScope::engine(), &Promise { news, owed, id })
                        .await?;
                }
            }
            Ok(())
        };
        store.write(write).await.expect("it is written");
    }
}

async fn flips_in_a_crowd_open_and_close_their_incidents(store: &Store) {
    let mut house = House::build(store).await;
    let mut crowd = crowd(&mut house).await;
    crowd.hear(Kind::Fail, 10);
    crowd.write(store, true, 10).await;
    let counted = rows(store).await;
    let of = |table: &str| counted[table];
    assert_eq!((of("flips"), of("incidents"), of("prune_due")), (7, 7, 7));
    assert_eq!((of("deliveries"), of("delivery_flips")), (6, 6));
    crowd.hear(Kind::Success, 20);
    crowd.write(store, true, 20).await;
    let counted = rows(store).await;
    assert_eq!((counted["flips"], counted["incidents"]), (14, 7));
    for check in &crowd.checks {
        let (project, id) = (check.project, check.id);
        let (flips, incidents) = store
            .read(async move |reader| {
                let scope = allswell_core::scope::ProjectScope::granted(project);
                Ok::<_, allswell_store::Error>((
                    reader.flips(scope, id, 9).await?,
                    reader.incidents(scope, id, 9).await?,
                ))
            })
            .await
            .expect("a read");
        assert_eq!(flips.iter().map(|flip| flip.seq).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(incidents.len(), 1);
        assert_eq!(
            (incidents[0].opened_at, incidents[0].closed_at),
            (after(10), Some(after(20)))
        );
    }
}

async fn a_promise_in_a_crowd_is_made_once(store: &Store) {
    let mut house = House::build(store).await;
    let mut crowd = crowd(&mut house).await;
    crowd.hear(Kind::Fail, 10);
    crowd.write(store, true, 10).await;
    let (check, flip) = (crowd.checks[0].clone(), crowd.flips[0].clone());
    store
        .write(async move |tx| {
            let routes = tx.routes(SystemScope::engine(), check.id).await?;
            let news = News {
                check: &check,
                flip: &flip,
                noticed_at: after(10),
            };
            let owed = delivery::owed(&flip, &routes, after(10)).remove(0);
            let id = Dice::from_number(41).id();
            tx.deliveries_insert(SystemScope::engine(), &[Promise { news, owed, id }])
                .await
        })
        .await
        .expect("a second promise");
    assert_eq!(rows(store).await["deliveries"], 6);
}

/// Two databases with the same dice: one is written to flip by flip, the other at once. Every row must be the same, in
/// every column, also in those that are not there yet.
#[test]
fn a_crowd_leaves_the_rows_that_its_members_would() {
    run(async {
        let cluster = Cluster::shared();
        let mut sums = Vec::new();
        for at_once in [false, true] {
            let name = cluster.database().await;
            let store = Store::open(&postgres_place(cluster, &name), NOW)
                .await
                .expect("a store");
            unlock(&store).await;
            let mut house = House::build(&store).await;
            let mut crowd = crowd(&mut house).await;
            for (kind, secs) in [(Kind::Fail, 10), (Kind::Success, 20), (Kind::Fail, 30)] {
                crowd.hear(kind, secs);
                crowd.write(&store, at_once, secs).await;
            }
            let mut of_tables = Vec::new();
            for table in [
                "checks",
                "flips",
                "incidents",
                "prune_due",
                "deliveries",
                "delivery_flips",
                "project_changes",
            ] {
                let text = format!(
                    "select ('x' || left(md5(string_agg(t::text, '|' order by t::text)), 15))::bit(60)::bigint
                     from {table} t"
                );
                of_tables.push((table, cluster.number(&name, &text).await));
            }
            sums.push(of_tables);
            drop(store);
            cluster.remove(&name).await;
        }
        assert_eq!(sums[0], sums[1]);
    });
}
