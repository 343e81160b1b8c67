//! The server's own check: who is told, and when nobody is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use allswell_core::exchange::{Answer as Said, Class, End, Outcome, Phases, Request};
use allswell_core::id::NodeId;
use allswell_core::schedule::Zones;
use allswell_core::secret::Secret;
use allswell_core::time::Span;
use allswell_engine::Due;
use allswell_engine::ingest::{Inbox, InboxLimits, Ingest};
use allswell_engine::loops::Step;
use allswell_engine::sweep::Sweep;
use allswell_engine::watchdog::Watchdog;
use std::time::Duration;

use crate::kit::{House, NOW, SYSTEM, after};

struct Watch {
    house: House,
    node: NodeId,
    inbox: Inbox,
    sweep: Sweep,
    calls: Arc<AtomicUsize>,
}

impl Watch {
    /// A house whose ingest runs, or hangs.
    async fn new(ingest_runs: bool) -> Self {
        Self::of(House::in_memory().await, ingest_runs).await
    }

    async fn of(mut house: House, ingest_runs: bool) -> Self {
        let node = house.dice.id();
        let limits = InboxLimits {
            capacity: 10,
            patience: Duration::ZERO,
            batch_max: 10,
        };
        let (inbox, ingest) = Ingest::new(
            house.store.clone(),
            limits,
            house.dice.fork(),
            Zones::Bundled,
            house.deliver.clone(),
            house.meters.clone(),
        );
        if ingest_runs {
            tokio::spawn(ingest.run(|| NOW));
        } else {
            // Held, so that the inbox takes pings that nobody empties.
            tokio::spawn(async move {
                let _held = ingest;
                std::future::pending::<()>().await;
            });
        }
        let sweep = Sweep::new(
            house.store.clone(),
            node,
            house.dice.fork(),
            Zones::Bundled,
            inbox.pending(),
            house.deliver.clone(),
            house.meters.clone(),
        );
        Watch {
            house,
            node,
            inbox,
            sweep,
            calls: Arc::default(),
        }
    }

    fn watchdog(&self) -> impl Step + use<> {
        self.watchdog_that(|| {})
    }

    fn watchdog_that(&self, lives: fn()) -> impl Step + use<> {
        let calls = Arc::clone(&self.calls);
        let call = move |request: Request| {
            assert_eq!(request.class, Class::Operator);
            assert_eq!(request.url.reveal(), "https://elsewhere/ping/x");
            calls.fetch_add(1, Ordering::Relaxed);
            async {
                Outcome {
                    end: End::Answered(Said {
                        status: 200,
                        retry_after: None,
                        excerpt: Vec::new(),
                        truncated: false,
                        location: None,
                        headers: Vec::new(),
                    }),
                    phases: Phases::default(),
                    peer: None,
                    detail: String::new(),
                }
            }
        };
        let url = Some(Secret::new("https://elsewhere/ping/x".to_owned()));
        Watchdog::new(
            self.house.store.clone(),
            self.node,
            self.inbox.clone(),
            url,
            call,
            lives,
        )
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

fn at(secs: i64, millis: i64) -> Due {
    Due::At(after(secs) + Span::from_millis(millis))
}

#[tokio::test]
async fn somebody_is_told_each_minute_after_the_sweep_has_seen_our_ping() {
    let watch = Watch::new(true).await;
    let watchdog = watch.watchdog();
    for minute in 0..3 {
        let secs = minute * 60;
        let told = usize::try_from(minute).expect("small");
        assert_eq!(watchdog.step(after(secs)).await.expect("a ping"), at(secs, 200));
        assert_eq!(
            watchdog.step(after(secs + 1)).await.expect("a look"),
            at(secs + 1, 200)
        );
        assert_eq!(watch.calls(), told, "nothing is swept yet");
        watch.sweep.step(after(secs + 1)).await.expect("a sweep");
        assert_eq!(
            watchdog.step(after(secs + 2)).await.expect("a look"),
            at(secs + 60, 0)
        );
        assert_eq!(watch.calls(), told + 1);
        assert_eq!(
            watchdog.step(after(secs + 30)).await.expect("a rest"),
            at(secs + 60, 0)
        );
        assert_eq!(watch.calls(), told + 1);
    }
    // No project knows of it, and pings are counted without it.
    let counts = watch
        .house
        .store
        .read(async |reader| reader.instance_counts(SYSTEM).await);
    assert_eq!(counts.await.expect("counts").pings, 0);
}

#[tokio::test]
async fn nobody_is_told_while_the_sweep_stands_still() {
    let watch = Watch::new(true).await;
    let watchdog = watch.watchdog();
    for minute in 0..3 {
        for secs in [0, 1, 10, 30, 31, 59] {
            watchdog.step(after(minute * 60 + secs)).await.expect("a step");
        }
    }
    assert_eq!(watch.calls(), 0);
    // It goes on: the next round is told of.
    watchdog.step(after(180)).await.expect("a ping");
    watch.sweep.step(after(181)).await.expect("a sweep");
    watchdog.step(after(182)).await.expect("a look");
    assert_eq!(watch.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_while_pings_are_not_stored() {
    let watch = Watch::new(false).await;
    let watchdog = watch.watchdog();
    for minute in 0..3 {
        assert_eq!(
            watchdog
                .step(after(minute * 60))
                .await
                .expect("a step that comes back"),
            at(minute * 60 + 60, 0)
        );
        watch.sweep.step(after(minute * 60 + 1)).await.expect("a sweep");
    }
    assert_eq!(watch.calls(), 0);
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_silence_us() {
    let watch = Watch::new(true).await;
    let watchdog = watch.watchdog();
    let day = 86_400;
    watchdog.step(after(day)).await.expect("a ping");
    watch.sweep.step(after(day)).await.expect("a sweep");
    watchdog.step(after(day + 1)).await.expect("a look");
    assert_eq!(watch.calls(), 1);
    watchdog.step(after(0)).await.expect("a ping");
    watchdog.step(after(1)).await.expect("a look");
    assert_eq!(watch.calls(), 1, "what was swept is of another round");
    watch.sweep.step(after(1)).await.expect("a sweep");
    watchdog.step(after(1)).await.expect("a look");
    assert_eq!(watch.calls(), 2);
}

static LIVES: AtomicUsize = AtomicUsize::new(0);

/// The service manager would end us otherwise, and starting again brings no database back.
#[tokio::test]
async fn a_database_that_goes_away_within_a_round_ends_it_and_we_live() {
    let watch = Watch::of(House::on_disk().await, true).await;
    let watchdog = watch.watchdog_that(|| {
        LIVES.fetch_add(1, Ordering::Relaxed);
    });
    watchdog.step(after(0)).await.expect("a ping");
    let raw = watch.house.raw();
    raw.execute_batch("alter table instance rename to elsewhere")
        .expect("a change");
    assert_eq!(
        watchdog.step(after(1)).await.expect("a step that comes back"),
        at(60, 0)
    );
    assert_eq!((LIVES.load(Ordering::Relaxed), watch.calls()), (1, 0));
    raw.execute_batch("alter table elsewhere rename to instance")
        .expect("a change");
    watchdog.step(after(60)).await.expect("a ping");
    watch.sweep.step(after(61)).await.expect("a sweep");
    watchdog.step(after(62)).await.expect("a look");
    assert_eq!((LIVES.load(Ordering::Relaxed), watch.calls()), (2, 1));
}
