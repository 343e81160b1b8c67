//! The audit log.

use allswell_core::chance::Dice;
use allswell_store::audit::Act;
use allswell_store::{Error, Store};

use crate::kit::{House, NOW, SYSTEM, after, on_each_database};

on_each_database!(acts_come_back_newest_first, an_act_goes_with_its_transaction);

fn act(target: &str, secs: i64) -> Act {
    Act {
        at: after(secs),
        project: None,
        actor: "operator".to_owned(),
        action: "check.pause",
        target: target.to_owned(),
        data: r#"{"name":"backup"}"#.to_owned(),
    }
}

async fn acts_come_back_newest_first(store: &Store) {
    let house = House::build(store).await;
    let alice = house.alice.project;
    let mut dice = Dice::from_number(2);
    store
        .write(async move |tx| {
            for (target, secs) in [("second", 2), ("third", 3), ("first", 1)] {
                let act = Act {
                    project: Some(alice),
                    ..act(target, secs)
                };
                tx.audit(dice.id_at(after(secs)), &act).await?;
            }
            Ok::<_, Error>(())
        })
        .await
        .expect("acts");
    let acts = store
        .read(async |reader| reader.acts(SYSTEM, 2).await)
        .await
        .expect("a read");
    let seen = |target: &str, secs| {
        (
            after(secs),
            "operator".to_owned(),
            "check.pause".to_owned(),
            target.to_owned(),
        )
    };
    assert_eq!(acts, [seen("third", 3), seen("second", 2)]);
}

async fn an_act_goes_with_its_transaction(store: &Store) {
    let failed = store
        .write(async |tx| {
            tx.audit(Dice::from_number(3).id_at(NOW), &act("x", 0)).await?;
            Err::<(), _>(Error::Internal("what it tells of failed".to_owned()))
        })
        .await;
    assert!(failed.is_err());
    let acts = store
        .read(async |reader| reader.acts(SYSTEM, 9).await)
        .await
        .expect("a read");
    assert_eq!(acts, []);
}
