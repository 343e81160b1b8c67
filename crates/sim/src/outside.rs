//! The world outside: receivers of webhooks in all their moods, and the door of a node that leads to them.
//!
//! A call is answered when the world's clock comes to the instant that its receiver's mood gives, or never. What the
//! receivers saw and said is kept for the rules.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use allswell_core::chance::Dice;
use allswell_core::exchange::{Answer, End, Outcome, Phase, Phases, Request, RetryAfter};
use allswell_core::id::{CheckId, DeliveryId};
use allswell_core::time::{Span, Timestamp};
use allswell_engine::ports::Outbound;
use serde_json::Value;
use tokio::sync::oneshot;

/// The engine cuts a call off that does not end after this long.
const CUT_OFF: Span = Span::from_secs(33);
/// The budget of a call, which the real door keeps.
const BUDGET: Span = Span::from_secs(30);

/// How a receiver is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Answers in this very instant.
    Prompt,
    /// Answers within half a second.
    Healthy,
    /// Answers anything: success with garbage, failure, a redirect, half an answer.
    Lying,
    /// Answers after 5 to 30 s, or a little too late.
    Slow,
    /// Begins an answer that has no end.
    Endless,
    /// Takes no connection.
    Refusing,
    /// Says that the request is wrong.
    Declining,
    /// Says that it is gone for good.
    Gone,
    /// Asks for patience.
    Busy,
    /// Takes the connection and says nothing.
    Silent,
    /// Like silent, behind a door that does not keep its budget.
    Deaf,
}

impl Mood {
    /// Those between which receivers change.
    pub(crate) const ALL: [Mood; 10] = [
        Mood::Healthy,
        Mood::Lying,
        Mood::Slow,
        Mood::Endless,
        Mood::Refusing,
        Mood::Declining,
        Mood::Gone,
        Mood::Busy,
        Mood::Silent,
        Mood::Deaf,
    ];
}

/// A call as its receiver saw it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) number: u64,
    /// The node that made it, by its number at the database.
    pub(crate) node: usize,
    /// Which receiver.
    pub(crate) receiver: usize,
    /// The delivery by the header of Standard Webhooks; `None` if the other marks say something else.
    pub(crate) delivery: Option<DeliveryId>,
    pub(crate) n: u64,
    pub(crate) check: Option<CheckId>,
    pub(crate) seq: u64,
    pub(crate) status: String,
    /// The numbers of the flips that it tells besides.
    pub(crate) missed: Vec<u64>,
    /// When it ends, and how.
    pub(crate) ends_at: Timestamp,
    pub(crate) outcome: Outcome,
}

/// What happened outside.
pub(crate) enum Heard {
    Begun(Box<Call>),
    /// It has ended: by this number.
    Ended(u64),
}

struct Open {
    answer: oneshot::Sender<Outcome>,
    ends_at: Timestamp,
    /// `None`: nobody will ever answer.
    outcome: Option<Outcome>,
    ended: bool,
}

struct Inner {
    now: Timestamp,
    dice: Dice,
    moods: Vec<Mood>,
    open: BTreeMap<u64, Open>,
    next: u64,
    heard: Vec<Heard>,
}

/// Everybody who may be called. Clones are the same.
#[derive(Clone)]
pub(crate) struct Outside(Arc<Mutex<Inner>>);

/// Where the receiver of this number is. Two of them share an origin.
pub(crate) fn url(receiver: usize) -> String {
    format!("https://hooks-{}.example/{receiver}", receiver / 2)
}

impl Outside {
    pub(crate) fn new(receivers: usize, dice: Dice, now: Timestamp) -> Self {
        Outside(Arc::new(Mutex::new(Inner {
            now,
            dice,
            moods: vec![Mood::Prompt; receivers],
            open: BTreeMap::new(),
            next: 0,
            heard: Vec::new(),
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("nobody panics outside")
    }

    /// The door of a node.
    pub(crate) fn door(&self, node: usize) -> Door {
        Door {
            outside: self.clone(),
            node,
        }
    }

    pub(crate) fn set_mood(&self, receiver: usize, mood: Mood) {
        self.inner().moods[receiver] = mood;
    }

    pub(crate) fn mood(&self, receiver: usize) -> Mood {
        self.inner().moods[receiver]
    }

    /// The next instant at which a call ends.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        let inner = self.inner();
        let open = inner
            .open
            .values()
            .filter(|open| !open.ended && !open.answer.is_closed());
        open.map(|open| open.ends_at).min()
    }

    /// Answers what is to be answered by now.
    pub(crate) fn answer(&self, now: Timestamp) {
        let mut inner = self.inner();
        inner.now = now;
        // Broken off by the caller, or cut off in time.
        inner
            .open
            .retain(|_, open| !open.answer.is_closed() || !open.ended);
        let ended: Vec<u64> = inner
            .open
            .iter()
            .filter(|(_, open)| !open.ended && open.ends_at <= now)
            .map(|(number, _)| *number)
            .collect();
        for number in ended {
            let open = inner.open.get_mut(&number).expect("just seen");
            open.ended = true;
            if let Some(outcome) = open.outcome.take() {
                let open = inner.open.remove(&number).expect("just seen");
                // Whoever crashed meanwhile hears nothing.
                drop(open.answer.send(outcome));
            }
            inner.heard.push(Heard::Ended(number));
        }
    }

    /// What happened since the last call.
    pub(crate) fn take(&self) -> Vec<Heard> {
        std::mem::take(&mut self.inner().heard)
    }

    /// Whether somebody still waits for an answer to this call.
    pub(crate) fn is_open(&self, number: u64) -> bool {
        let inner = self.inner();
        let open = inner.open.get(&number);
        open.is_some_and(|open| !open.answer.is_closed())
    }

    /// A call that goes on though it should have been cut off long ago.
    pub(crate) fn endless(&self, now: Timestamp) -> Option<u64> {
        let inner = self.inner();
        let mut open = inner.open.iter();
        let late =
            open.find(|(_, open)| !open.answer.is_closed() && now > open.ends_at + Span::from_secs(1))?;
        Some(*late.0)
    }

    fn receive(&self, node: usize, request: &Request) -> oneshot::Receiver<Outcome> {
        let mut inner = self.inner();
        let (number, receiver) = (inner.next, receiver_of(request.url.reveal()));
        inner.next += 1;
        let mood = inner.moods[receiver];
        let now = inner.now;
        let outcome = outcome(mood, now, &mut inner.dice);
        let ends_at = now + outcome.phases.total;
        inner.heard.push(Heard::Begun(Box::new(Call {
            number,
            node,
            receiver,
            ends_at,
            outcome: outcome.clone(),
            ..read(request)
        })));
        let (answer, wait) = oneshot::channel();
        let open = Open {
            answer,
            ends_at,
            outcome: (mood != Mood::Deaf).then_some(outcome),
            ended: false,
        };
        inner.open.insert(number, open);
        wait
    }
}

fn receiver_of(url: &str) -> usize {
    let last = url.rsplit_once('/').and_then(|(_, last)| last.parse().ok());
    last.expect("a receiver of this world")
}

/// What a request says of itself.
fn read(request: &Request) -> Call {
    let header = |name: &str| {
        let mut headers = request.headers.iter();
        let found = headers.find(|header| header.name.eq_ignore_ascii_case(name));
        found
            .map(|header| header.value.reveal().clone())
            .unwrap_or_default()
    };
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let id = header("webhook-id");
    let agrees = header("Idempotency-Key") == format!("\"{id}\"") && text("id") == id;
    let missed = body["missed"].as_array().map(Vec::as_slice).unwrap_or_default();
    Call {
        number: 0,
        node: 0,
        receiver: 0,
        delivery: id.parse().ok().filter(|_| agrees),
        n: header("X-Allswell-Attempt").parse().unwrap_or(0),
        check: text("check").parse().ok(),
        seq: body["seq"].as_u64().unwrap_or(0),
        status: text("status"),
        missed: missed.iter().filter_map(|flip| flip["seq"].as_u64()).collect(),
        ends_at: Timestamp::default(),
        outcome: ended(End::NoConnection, Span::ZERO),
    }
}

fn ended(end: End, total: Span) -> Outcome {
    Outcome {
        end,
        phases: Phases {
            total,
            ..Phases::default()
        },
        peer: None,
        detail: String::new(),
    }
}

fn answered(status: u16, retry_after: Option<RetryAfter>, excerpt: &[u8]) -> End {
    End::Answered(Answer {
        status,
        retry_after,
        excerpt: excerpt.to_vec(),
        truncated: excerpt.len() > 1_000,
        location: (300..400)
            .contains(&status)
            .then(|| "https://elsewhere.example/".to_owned()),
        headers: Vec::new(),
    })
}

/// How a call ends that begins now.
fn outcome(mood: Mood, now: Timestamp, dice: &mut Dice) -> Outcome {
    let mut millis = |from: i64, below: u32| Span::from_millis(from + i64::from(dice.below(below)));
    let timed_out = |phase, status| End::TimedOut { phase, status };
    match mood {
        Mood::Prompt => ended(answered(200, None, b""), Span::ZERO),
        Mood::Healthy => {
            let total = millis(1, 500);
            let status = [200, 201, 202, 204][dice.below(4) as usize];
            ended(answered(status, None, b"ok"), total)
        }
        Mood::Lying => {
            let total = millis(1, 2_000);
            let end = match dice.below(6) {
                0 | 1 => answered(500, None, b"{\"ok\":true}"),
                2 => answered(200, None, b"\xff\xfe\0 error"),
                3 => answered(302, None, b""),
                4 => End::Broken {
                    phase: Phase::Body,
                    status: Some(200),
                },
                _ => answered(200, None, &[b'x'; 4_096]),
            };
            ended(end, total)
        }
        Mood::Slow => {
            let total = millis(5_000, 30_000);
            if total >= BUDGET {
                ended(timed_out(Phase::FirstByte, None), BUDGET)
            } else {
                ended(answered(200, None, b""), total)
            }
        }
        Mood::Endless => match dice.below(3) {
            0 => ended(End::TooLarge { status: Some(200) }, Span::from_millis(80)),
            _ => ended(timed_out(Phase::Body, Some(200)), BUDGET),
        },
        Mood::Refusing => {
            let total = millis(0, 50);
            let end = [End::NoConnection, End::NoAddress, End::NoTls];
            ended(end[dice.below(3) as usize].clone(), total)
        }
        Mood::Declining => {
            let total = millis(1, 300);
            let status = [400, 403, 404, 422][dice.below(4) as usize];
            ended(answered(status, None, b"no"), total)
        }
        Mood::Gone => {
            let total = millis(1, 300);
            ended(answered(410, None, b"gone"), total)
        }
        Mood::Busy => {
            let total = millis(1, 300);
            let status = [429, 503][dice.below(2) as usize];
            let ask = [0, 1, 30, 120, 600, 5_000, u32::MAX][dice.below(7) as usize];
            let wish = match dice.below(3) {
                0 => Some(RetryAfter::At(now + Span::from_secs(i64::from(ask) - 60))),
                _ => Some(RetryAfter::Seconds(ask)),
            };
            ended(answered(status, wish, b"later"), total)
        }
        Mood::Silent => ended(timed_out(Phase::FirstByte, None), BUDGET),
        Mood::Deaf => ended(timed_out(Phase::FirstByte, None), CUT_OFF),
    }
}

/// The way outward of one node.
pub(crate) struct Door {
    outside: Outside,
    node: usize,
}

impl Outbound for Door {
    async fn send(&self, request: Request) -> Outcome {
        let answer = self.outside.receive(self.node, &request);
        match answer.await {
            Ok(outcome) => outcome,
            Err(_) => std::future::pending().await,
        }
    }
}
