//! What is told of a job: a start, and an end with the exit status and the end of the output.
//!
//! A thread of its own sends both, in this order and never at once: an end that overtook its start would leave the check
//! started for ever. A start that does not get through is given up as soon as the job has ended. Everything is tried
//! again with growing pauses, and all of it has an end.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use allswell_core::chance::Dice;
use allswell_core::secret::Secret;

use crate::BODY_BYTES_UNTOLD;
use crate::clock::Deadline;
use crate::http::{self, Answer, Failure};
use crate::job::Event;
use crate::proxy::Proxies;
use crate::tail::Tail;
use crate::url::Url;

/// One try of a start. Short, since the end may have to wait for it.
const START_TRY: Duration = Duration::from_secs(5);
/// How long a start is tried again while the job runs.
const START_WITHIN: Duration = Duration::from_secs(60);
/// One try of an end.
const END_TRY: Duration = Duration::from_secs(10);
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
const REDIRECTS_MAX: usize = 3;

/// Where and how to report.
pub struct Report {
    /// The check's ping address, to which `/start` or an exit status is added.
    pub address: Url,
    /// The ping key of its project, for servers that ask for it beside an id. It goes to the server of `address` alone.
    pub ping_key: Option<Secret<String>>,
    /// Make the check if there is none of that name.
    pub create: bool,
    /// What such a check is to be: parameters of the address, by their names.
    pub wish: Vec<(&'static str, String)>,
    /// Tell the start too.
    pub start: bool,
    /// How often to say that the job still runs; `None`: never.
    pub alive_every: Option<Duration>,
    /// How long the end of the job waits for its report.
    pub within: Duration,
    /// Bytes of the end of the output that are sent at most.
    pub tail_bytes: usize,
    /// Proxies on the way.
    pub proxies: Proxies,
    /// For the run's id and the pauses.
    pub dice: Dice,
}

/// The job has ended.
pub(crate) struct End {
    pub(crate) status: u8,
    pub(crate) tail: Arc<Mutex<Tail>>,
    /// A line behind the output.
    pub(crate) note: String,
    pub(crate) by: Deadline,
}

/// What became of one report.
enum Told {
    Yes {
        body_limit: Option<usize>,
    },
    No {
        why: String,
        may_pass: bool,
        wait: Option<Duration>,
    },
}

pub(crate) struct Reporter {
    report: Report,
    rid: uuid::Uuid,
}

impl Reporter {
    pub(crate) fn new(mut report: Report) -> Self {
        let rid = report.dice.id();
        Reporter { report, rid }
    }

    /// There was none.
    pub(crate) fn leave_out_start(&mut self) {
        self.report.start = false;
    }

    /// Tells the start, waits for the end, tells it, and says what became of it: a sentence if it did not arrive.
    pub(crate) fn work(mut self, ends: &Receiver<End>, events: &Sender<Event>) {
        let (mut limit, mut start_lost, mut ended) = (BODY_BYTES_UNTOLD, None, None);
        if self.report.start {
            match self.start(ends) {
                (Ok(body_limit), end) => {
                    limit = body_limit.unwrap_or(usize::MAX);
                    ended = end;
                }
                (Err(why), end) => {
                    start_lost = Some(why);
                    ended = end;
                }
            }
        }
        let (end, alive_lost) = match ended {
            Some(end) => (Some(end), None),
            None => self.wait(ends, &mut start_lost, &mut limit),
        };
        let Some(end) = end else {
            return;
        };
        let complaint = match self.end(&end, limit) {
            Err(why) => Some(format!("the end of the job was not reported: {why}")),
            Ok(()) => start_lost
                .map(|why| format!("the start of the job was not reported: {why}"))
                .or_else(|| alive_lost.map(|why| format!("that the job still ran was not reported: {why}"))),
        };
        // Nobody listens if the job's end no longer waits.
        let _ = events.send(Event::Reported(complaint));
    }

    /// Waits for the end, and says meanwhile that the job still runs. One such word that does not arrive is followed by the next;
    /// a server that takes none is left alone, and why is told. Of a run that did not begin there no word is taken for one:
    /// as long as the start is lost, it is told in its place.
    fn wait(
        &mut self,
        ends: &Receiver<End>,
        start_lost: &mut Option<String>,
        limit: &mut usize,
    ) -> (Option<End>, Option<String>) {
        let mut lost = None;
        let (start, alive) = (self.address("start"), self.address("alive"));
        loop {
            let every = self.report.alive_every.filter(|_| lost.is_none());
            let Some(every) = every else {
                return (ends.recv().ok(), lost);
            };
            match ends.recv_timeout(every) {
                Ok(end) => return (Some(end), lost),
                Err(RecvTimeoutError::Disconnected) => return (None, lost),
                Err(RecvTimeoutError::Timeout) => {}
            }
            // Short, since the end may come while it is under way.
            let url = if start_lost.is_some() { &start } else { &alive };
            match self.tell(url, &[], Deadline::after(START_TRY)) {
                Told::Yes { body_limit } if start_lost.take().is_some() => {
                    *limit = body_limit.unwrap_or(usize::MAX);
                }
                Told::No {
                    why, may_pass: false, ..
                } => lost = Some(why),
                Told::Yes { .. } | Told::No { .. } => {}
            }
        }
    }

    /// The limit of bodies that the server named, or why the start did not arrive; and the end, if it came meanwhile.
    fn start(&mut self, ends: &Receiver<End>) -> (Result<Option<usize>, String>, Option<End>) {
        let url = self.address("start");
        let give_up = Deadline::after(START_WITHIN);
        let mut pause = PAUSE_FIRST;
        loop {
            let (why, may_pass, wait) = match self.tell(&url, &[], give_up.or_after(START_TRY)) {
                Told::Yes { body_limit } => return (Ok(body_limit), None),
                Told::No { why, may_pass, wait } => (why, may_pass, wait),
            };
            let pause_now = self.pause(&mut pause, wait);
            if !may_pass || pause_now >= give_up.left() {
                return (Err(why), None);
            }
            match ends.recv_timeout(pause_now) {
                Ok(end) => return (Err(why), Some(end)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return (Err(why), None),
            }
        }
    }

    fn end(&mut self, end: &End, limit: usize) -> Result<(), String> {
        let url = self.address(&end.status.to_string());
        let mut pause = PAUSE_FIRST;
        let room = limit.saturating_sub(end.note.len());
        let mut body = {
            let tail = end.tail.lock().unwrap_or_else(PoisonError::into_inner);
            tail.last(room.min(self.report.tail_bytes))
        };
        if !end.note.is_empty() && room > 0 {
            body.extend_from_slice(end.note.as_bytes());
        }
        loop {
            let (why, may_pass, wait) = match self.tell(&url, &body, end.by.or_after(END_TRY)) {
                Told::Yes { .. } => return Ok(()),
                Told::No { why, may_pass, wait } => (why, may_pass, wait),
            };
            let pause_now = self.pause(&mut pause, wait);
            if !may_pass || pause_now >= end.by.left() {
                return Err(why);
            }
            rest(pause_now);
        }
    }

    /// The pause before the next try: twice the last one, a quarter more or less, and not less than the server asked for.
    fn pause(&mut self, pause: &mut Duration, asked: Option<Duration>) -> Duration {
        let percent = 75 + self.report.dice.below(51);
        let now = *pause * percent / 100;
        *pause = (*pause * 2).min(PAUSE_MAX);
        now.max(asked.unwrap_or_default())
    }

    fn address(&self, suffix: &str) -> Url {
        let url = self.report.address.below(suffix);
        let url = if self.report.create {
            let wish = self.report.wish.iter();
            wish.fold(url.with_parameter("create", "1"), |url, (name, value)| {
                url.with_parameter(name, &encoded(value))
            })
        } else {
            url
        };
        url.with_parameter("rid", &self.rid.to_string())
    }

    /// One try, with redirects.
    fn tell(&self, url: &Url, body: &[u8], by: Deadline) -> Told {
        let mut url = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let place = url.place();
            let proxy = match self.report.proxies.for_url(&url) {
                Ok(proxy) => proxy,
                Err(why) => return Told::finally(why),
            };
            let is_ours = place == self.report.address.place();
            let key = self.report.ping_key.as_ref().filter(|_| is_ours);
            let answer = match http::post(&url, proxy.as_ref(), key, body, by) {
                Ok(answer) => answer,
                Err(failure) => return Told::of_failure(&place, &failure),
            };
            let to = answer
                .location
                .as_deref()
                .filter(|_| (300..400).contains(&answer.status));
            match to.map(|location| url.redirected(location)) {
                None => return Told::of_answer(&place, &answer),
                Some(Some(to)) => url = to,
                Some(None) => {
                    return Told::finally(format!("{place} answered {} and points elsewhere", answer.status));
                }
            }
        }
        Told::finally(format!("{} points on and on", url.place()))
    }
}

/// A value as a query takes it (RFC 3986 section 2.3: what is not unreserved is encoded).
fn encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// What a server said, fit for a terminal.
fn printable(text: &str) -> String {
    text.chars()
        .take(200)
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

impl Told {
    fn finally(why: String) -> Self {
        Told::No {
            why,
            may_pass: false,
            wait: None,
        }
    }

    fn of_failure(place: &str, failure: &Failure) -> Self {
        Told::No {
            why: format!("{place}: {failure}"),
            may_pass: !matches!(failure, Failure::Final(_)),
            wait: None,
        }
    }

    fn of_answer(place: &str, answer: &Answer) -> Self {
        let status = answer.status;
        match status {
            // Healthchecks before its version 3 says so in the text alone.
            200 if answer.text.starts_with("OK (not found)") => {
                Told::finally(format!("{place} knows no such check"))
            }
            200 if answer.text.starts_with("OK (rate limited)") => Told::No {
                why: format!("{place} takes no more pings of this check for now"),
                may_pass: true,
                wait: answer.retry_after,
            },
            200..300 => Told::Yes {
                body_limit: answer.body_limit,
            },
            408 | 425 | 429 | 500.. => Told::No {
                why: format!("{place} answered {status}"),
                may_pass: true,
                wait: answer.retry_after,
            },
            403 if answer.text.contains("X-Ping-Key") => Told::finally(format!(
                "{place} wants the ping key of the check's project, and it did not come or is wrong (403)"
            )),
            400 if answer.text.starts_with("invalid ") => {
                Told::finally(format!("{place} answered 400: {}", printable(&answer.text)))
            }
            404 => Told::finally(format!(
                "{place} knows no such check, or is not the beginning of ping addresses (404)"
            )),
            409 => Told::finally(format!("{place} has several checks of this name (409)")),
            _ => Told::finally(format!("{place} answered {status}")),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the wrapper's own thread waits before it tries again, within its bound"
)]
fn rest(pause: Duration) {
    std::thread::sleep(pause);
}
