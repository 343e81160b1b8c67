//! The loop around a step, on a clock that stands still until everybody sleeps. The steps here do nothing, so no thread
//! of a store is waited for.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use allswell_core::time::{Span, Timestamp};
use allswell_engine::Due;
use allswell_engine::loops::{self, Step};
use allswell_engine::meters::Meters;
use allswell_store::{Error, Result};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::kit::Log;

/// Says each time that it ran; answers what it was told to, and then that it waits for a nudge.
struct Told {
    ran: mpsc::UnboundedSender<Timestamp>,
    runs: AtomicUsize,
    answers: Mutex<VecDeque<Result<Due>>>,
}

impl Step for Told {
    const NAME: &'static str = "told";

    async fn step(&self, now: Timestamp) -> Result<Due> {
        self.ran.send(now).expect("the test listens");
        // A loop that spins lets nobody else run, the test's own end of time included.
        let runs = self.runs.fetch_add(1, Ordering::Relaxed);
        assert!(runs < 200_000, "it spins");
        let answer = self.answers.lock().expect("the answers").pop_front();
        answer.unwrap_or(Ok(Due::WhenNudged))
    }
}

struct Running {
    ran: mpsc::UnboundedReceiver<Timestamp>,
    nudge: Arc<Notify>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    meters: Meters,
}

fn run(answers: impl IntoIterator<Item = Result<Due>>) -> Running {
    let (sender, ran) = mpsc::unbounded_channel();
    let (stop, stopped) = watch::channel(false);
    let (nudge, meters) = (Arc::new(Notify::new()), Meters::default());
    let step = Told {
        ran: sender,
        runs: AtomicUsize::new(0),
        answers: Mutex::new(answers.into_iter().collect()),
    };
    let task = tokio::spawn(loops::run(step, Arc::clone(&nudge), stopped, meters.clone()));
    Running {
        ran,
        nudge,
        stop,
        task,
        meters,
    }
}

impl Running {
    /// How often the step runs within this time.
    async fn runs_within(&mut self, millis: u64) -> usize {
        let mut runs = 0;
        let count = async {
            while self.ran.recv().await.is_some() {
                runs += 1;
            }
        };
        let _ = timeout(Duration::from_millis(millis), count).await;
        runs
    }
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_waits_for_a_nudge_looks_once_a_second_anyway() {
    let mut running = run([]);
    assert_eq!(running.runs_within(999).await, 1);
    assert_eq!(running.runs_within(2).await, 1);
    assert_eq!(running.runs_within(10_000).await, 10);
}

#[tokio::test(start_paused = true)]
async fn a_nudge_wakes_it_at_once_and_is_not_lost_while_it_works() {
    let mut running = run([]);
    assert_eq!(running.runs_within(10).await, 1);
    running.nudge.notify_one();
    assert_eq!(running.runs_within(10).await, 1);
    // One that comes before the loop listens.
    let mut running = run([]);
    running.nudge.notify_one();
    assert_eq!(running.runs_within(10).await, 2);
}

#[tokio::test(start_paused = true)]
async fn stop_ends_a_loop_at_once() {
    let cases: [(&str, Vec<Result<Due>>); 4] = [
        ("waiting for a nudge", vec![]),
        (
            "waiting for an instant",
            vec![Ok(Due::At(loops::now() + Span::from_secs(3_600)))],
        ),
        (
            "waiting after an error",
            vec![Err(Error::Internal("x".to_owned()))],
        ),
        ("with work", (0..100_000).map(|_| Ok(Due::Now)).collect()),
    ];
    for (what, answers) in cases {
        let mut running = run(answers);
        running.ran.recv().await.expect("it runs");
        running.stop.send(true).expect("it listens");
        let ended = timeout(Duration::from_millis(10), &mut running.task).await;
        assert!(matches!(ended, Ok(Ok(()))), "{what}");
        assert!(running.runs_within(10).await < 10, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_is_stopped_before_it_begins_does_nothing() {
    let mut running = run([]);
    running.stop.send(true).expect("it listens");
    assert_eq!(running.runs_within(10_000).await, 0);
    running.task.await.expect("it ends");
}

/// Whoever could have stopped it is gone. It must not run on for ever, and least of all without any sleep.
#[tokio::test(start_paused = true)]
async fn a_loop_that_nobody_can_stop_ends() {
    let mut running = run([]);
    assert_eq!(running.runs_within(10).await, 1);
    drop(running.stop);
    let ended = timeout(Duration::from_millis(10), running.task).await;
    assert!(matches!(ended, Ok(Ok(()))));
}

#[tokio::test(start_paused = true)]
async fn an_error_is_logged_once_and_survived() {
    let (log, _guard) = Log::listen();
    let mut running = run([Err(Error::Unavailable("no disk".to_owned())), Ok(Due::Now)]);
    assert_eq!(running.runs_within(999).await, 1, "not again at once");
    assert_eq!(running.runs_within(2).await, 2, "and then as ever");
    assert_eq!(log.lines_with("told failed and runs again soon").len(), 1);
    let mut registry = prometheus_client::registry::Registry::default();
    running.meters.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
    assert!(text.contains("step_errors_total{step=\"told\"} 1"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_keeps_failing_says_so_once_a_minute() {
    let (log, _guard) = Log::listen();
    let mut running = run((0..150).map(|_| Err(Error::Unavailable("no disk".to_owned()))));
    assert_eq!(running.runs_within(150_000).await, 150);
    let lines = log.lines_with("told failed and runs again soon");
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[1].contains("(60 times since the last line)"), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn more_work_is_done_without_a_pause() {
    let mut running = run((0..50).map(|_| Ok(Due::Now)));
    assert_eq!(running.runs_within(1).await, 51);
}

/// The clock of the loop is the system's, that of its sleep is the test's: hence the wide margins.
#[tokio::test(start_paused = true)]
async fn a_loop_sleeps_until_it_is_due_and_never_longer_than_a_second() {
    let mut running = run([Ok(Due::At(loops::now() + Span::from_millis(900)))]);
    assert_eq!(running.runs_within(200).await, 1);
    assert_eq!(running.runs_within(701).await, 1);
    let mut running = run([Ok(Due::At(loops::now() + Span::from_days(9)))]);
    assert_eq!(running.runs_within(999).await, 1);
    assert_eq!(running.runs_within(2).await, 1);
}

/// A step that is always due again at an instant already past takes a breath of a millisecond each time.
#[tokio::test(start_paused = true)]
async fn an_instant_in_the_past_does_not_make_it_spin() {
    let mut running = run((0..10_000).map(|_| Ok(Due::At(Timestamp::from_secs(0)))));
    let runs = running.runs_within(100).await;
    assert!((50..=101).contains(&runs), "{runs}");
}
