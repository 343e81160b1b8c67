//! A door whose other side does as it is told: answers, fails, or keeps a call waiting until the test lets it go.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use allswell_core::exchange::{Answer, End, Outcome, Phases, Request, RetryAfter};
use allswell_core::time::{Span, Timestamp};
use allswell_engine::Due;
use allswell_engine::deliver::{Deliver, Parts, Rules};
use allswell_engine::loops::Step;
use allswell_engine::ports::Outbound;
use tokio::sync::oneshot;

use crate::kit::House;

#[derive(Default)]
struct Inner {
    answers: VecDeque<Outcome>,
    otherwise: Option<Outcome>,
    holds: bool,
    held: VecDeque<(String, oneshot::Sender<Outcome>)>,
    sent: Vec<Sent>,
}

/// A call that was made.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) body: serde_json::Value,
    headers: Vec<(String, String)>,
}

impl Sent {
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map_or("", |(_, value)| value)
    }

    pub(crate) fn seq(&self) -> u64 {
        self.body["seq"].as_u64().unwrap_or(0)
    }
}

/// The script. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Script(Arc<Mutex<Inner>>);

impl Script {
    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().expect("the script")
    }

    /// Gives this for the next call, after those given before.
    pub(crate) fn then(&self, outcome: Outcome) -> &Self {
        self.inner().answers.push_back(outcome);
        self
    }

    /// Gives this whenever nothing else was said; 200 without a word about it.
    pub(crate) fn otherwise(&self, outcome: Outcome) -> &Self {
        self.inner().otherwise = Some(outcome);
        self
    }

    /// Keeps calls waiting.
    pub(crate) fn hold(&self) -> &Self {
        self.inner().holds = true;
        self
    }

    /// Calls that wait, by their URL.
    pub(crate) fn held(&self) -> Vec<String> {
        self.inner().held.iter().map(|(url, _)| url.clone()).collect()
    }

    /// Lets the call go that waits longest.
    pub(crate) fn release(&self, outcome: Outcome) {
        let (_, answer) = self.inner().held.pop_front().expect("a call that waits");
        // Nobody hears it when the engine was dropped meanwhile.
        let _ = answer.send(outcome);
    }

    /// Lets all calls go to this URL.
    pub(crate) fn release_to(&self, url: &str, outcome: &Outcome) {
        let held = std::mem::take(&mut self.inner().held);
        for (other, answer) in held {
            if other == url {
                let _ = answer.send(outcome.clone());
            } else {
                self.inner().held.push_back((other, answer));
            }
        }
    }

    /// All calls so far.
    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.inner().sent.clone()
    }
}

impl Outbound for Script {
    async fn send(&self, request: Request) -> Outcome {
        let url = request.url.reveal().clone();
        let waits = {
            let mut inner = self.inner();
            let headers = request.headers.iter();
            inner.sent.push(Sent {
                body: serde_json::from_slice(&request.body).unwrap_or_default(),
                headers: headers
                    .map(|header| (header.name.clone(), header.value.reveal().clone()))
                    .collect(),
            });
            if inner.holds {
                let (answer, wait) = oneshot::channel();
                inner.held.push_back((url, answer));
                Err(wait)
            } else {
                let scripted = inner.answers.pop_front();
                Ok(scripted
                    .or_else(|| inner.otherwise.clone())
                    .unwrap_or_else(|| status(200)))
            }
        };
        match waits {
            Ok(outcome) => outcome,
            Err(wait) => wait.await.unwrap_or_else(|_| ended(End::NoConnection)),
        }
    }
}

pub(crate) fn ended(end: End) -> Outcome {
    Outcome {
        end,
        phases: Phases {
            connect: Some(Span::from_millis(3)),
            total: Span::from_millis(20),
            ..Phases::default()
        },
        peer: "192.0.2.7:443".parse().ok(),
        detail: String::new(),
    }
}

pub(crate) fn status(status: u16) -> Outcome {
    answered(status, None)
}

pub(crate) fn answered(status: u16, retry_after: Option<RetryAfter>) -> Outcome {
    ended(End::Answered(Answer {
        status,
        retry_after,
        excerpt: b"thank you, token=hunter2".to_vec(),
        truncated: false,
        location: None,
        headers: Vec::new(),
    }))
}

/// An outcome that took this long.
pub(crate) fn after_secs(mut outcome: Outcome, secs: i64) -> Outcome {
    outcome.phases.total = Span::from_secs(secs);
    outcome
}

pub(crate) fn deliver_with(house: &mut House, script: &Script, rules: Rules) -> Deliver<Script> {
    let parts = Parts {
        node: house.dice.id(),
        outbound: script.clone(),
        describe: Arc::new(|check, channels, _| {
            format!("{{\"uuid\":\"{}\",\"channels\":{}}}", check.id, channels.len())
        }),
        dice: house.dice.fork(),
        nudge: Arc::clone(&house.deliver),
        log: house.log.clone(),
        meters: house.meters.clone(),
    };
    Deliver::new(house.store.clone(), rules, parts)
}

/// Runs steps at `now` until nothing more happens but what the script holds back.
pub(crate) async fn quiet(deliver: &Deliver<Script>, script: &Script, now: Timestamp) -> Due {
    for _ in 0..2_000 {
        let due = deliver.step(now).await.expect("a step");
        for _ in 0..3 * deliver.in_flight() + 3 {
            tokio::task::yield_now().await;
        }
        let rests = match due {
            Due::Now => false,
            Due::At(at) => at > now,
            Due::WhenNudged => true,
        };
        let held = script.inner().held.len();
        if rests && deliver.in_flight() as usize == held && deliver.waiting() == 0 {
            return due;
        }
    }
    panic!("it does not come to rest");
}
