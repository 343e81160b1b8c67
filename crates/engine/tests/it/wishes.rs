//! Checks that are made as a ping wishes them.

use allswell_core::check::{Fault, TimingKind, Wish};
use allswell_core::schedule::Zones;
use allswell_core::secret::Secret;
use allswell_core::time::Span;
use allswell_engine::ingest::{Address, Answer, Arrival, Wished};
use allswell_store::checks::Found;

use crate::kit::House;

fn wishing(house: &House, slug: &str, parameters: &[(&str, &'static str)]) -> Arrival {
    let given = |name: &str| {
        parameters
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| *value)
    };
    let wished = Wished {
        key: house.ping_key.clone(),
        slug: slug.to_owned(),
        wish: Wish::judge(slug, given, &Zones::Bundled),
    };
    Arrival {
        address: Address::Wished(Box::new(wished)),
        ..house.by_slug(slug, true)
    }
}

async fn found(house: &House, slug: &'static str) -> Found {
    let scope = house.scope();
    let read = house
        .store
        .read(async move |reader| reader.check_by_slug(scope, slug).await);
    read.await.expect("a look")
}

#[tokio::test]
async fn a_check_is_made_as_it_is_wished() {
    let mut house = House::in_memory().await;
    let ops = house.channel("log", true, true).await;
    house.channel("silent", true, true).await;
    let parameters = [
        ("name", "Nightly"),
        ("tags", "prod db"),
        ("schedule", "5 3 * * *"),
        ("tz", "Europe/Riga"),
        ("grace", "900"),
        ("channels", "log"),
    ];
    let ping = wishing(&house, "nightly", &parameters);
    assert_eq!(house.in_one_batch(vec![ping]).await, [Ok(Answer::Created)]);
    let Found::One(check) = found(&house, "nightly").await else {
        panic!("one check")
    };
    let settings = &check.settings;
    assert_eq!(
        (settings.name.as_str(), settings.tags.as_str()),
        ("Nightly", "prod db")
    );
    assert_eq!(
        (
            settings.timing.kind,
            settings.timing.zone.as_str(),
            settings.grace
        ),
        (TimingKind::Expression, "Europe/Riga", Span::from_secs(900))
    );
    assert!(check.deadline.is_some(), "and it was pinged");
    let (scope, id) = (house.scope(), check.id);
    let channels = house
        .store
        .read(async move |reader| reader.check_channels(scope, id).await)
        .await;
    assert_eq!(channels.expect("channels"), [ops.id]);
    // Once it is there, what is wished counts for nothing, right or wrong.
    for parameters in [&[("grace", "60")][..], &[("grace", "5")]] {
        let ping = wishing(&house, "nightly", parameters);
        assert_eq!(house.in_one_batch(vec![ping]).await, [Ok(Answer::Stored)]);
    }
    let Found::One(after) = found(&house, "nightly").await else {
        panic!("one check")
    };
    assert_eq!(after.settings, check.settings);
}

#[tokio::test]
async fn a_wish_that_cannot_be_understood_makes_nothing() {
    let mut house = House::in_memory().await;
    // They are called by their kinds.
    for kind in ["silent", "log", "log"] {
        house.channel(kind, true, true).await;
    }
    for (parameters, named) in [
        (&[("grace", "5")][..], "grace"),
        (&[("schedule", "x")], "schedule"),
        (&[("channels", "nobody")], "channels"),
        (&[("channels", "silent,log")], "channels"),
    ] {
        let ping = wishing(&house, "nightly", parameters);
        assert_eq!(
            house.in_one_batch(vec![ping]).await,
            [Ok(Answer::BadParameter(named))]
        );
        assert_eq!(found(&house, "nightly").await, Found::None);
    }
    assert_eq!((house.count("checks").await, house.count("pings").await), (0, 0));
}

/// In one batch each ping has its own answer, whatever another one asked for.
#[tokio::test]
async fn pings_of_one_slug_are_judged_one_by_one() {
    let mut house = House::in_memory().await;
    let bad = [("grace", "5")];
    let batch = vec![
        house.by_slug("nightly", false),
        wishing(&house, "nightly", &bad),
        wishing(&house, "nightly", &[("grace", "120")]),
        wishing(&house, "nightly", &bad),
        house.by_slug("nightly", false),
    ];
    assert_eq!(
        house.in_one_batch(batch).await,
        [
            Ok(Answer::NotFound),
            Ok(Answer::BadParameter("grace")),
            Ok(Answer::Created),
            Ok(Answer::Stored),
            Ok(Answer::Stored)
        ]
    );
    let mut foreign = wishing(&house, "nightly", &bad);
    if let Address::Wished(wished) = &mut foreign.address {
        wished.key = Secret::new("nobody's".to_owned());
        assert!(matches!(
            wished.wish,
            Err(Fault {
                parameter: "grace",
                ..
            })
        ));
    }
    assert_eq!(house.in_one_batch(vec![foreign]).await, [Ok(Answer::NotFound)]);
}
