//! The task of one connection: hyper's work, one timer for whatever is being waited for, and the end.
//!
//! A connection between requests is parked: hyper and its two buffers (16 KiB) are dropped until the next byte
//! comes. So are those that have never sent anything, which is what floods are made of.
//!
//! hyper's own `header_read_timeout` is off. It also runs between requests, so it would close idle connections
//! after `header_secs`, and a head that begins late would get only what is left of it; and it closes without
//! the 408 that a slow client deserves.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use super::connection::{Connection, Standing};
use super::registry::{Registry, Ticket};
use super::service::Requests;
use super::watched::Watched;
use super::{Peer, ServeLimits};

/// hyper accepts no smaller buffer.
const BUFFER_BYTES_MIN: usize = 8192;
/// How long hyper's buffers are kept for the next request.
const PARK_AFTER: Duration = Duration::from_secs(2);
/// Read at once from a connection that was parked; hyper reads the rest.
const FIRST_READ_BYTES: usize = 1024;
/// After our last word: how long, and how many bytes, we go on reading. A socket closed with bytes unread
/// resets the connection, and the peer may then never see the answer.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1 << 20;

const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// What all connections of a listener share.
pub(super) struct Served {
    app: Router,
    http: http1::Builder,
    registry: Arc<Registry>,
}

impl Served {
    pub(super) fn new(app: Router, registry: Arc<Registry>) -> Self {
        let mut http = http1::Builder::new();
        http.half_close(true)
            .header_read_timeout(None)
            .max_buf_size(registry.limits.header_bytes.max(BUFFER_BYTES_MIN))
            .max_header_size(registry.limits.header_bytes);
        // `with_state` lays the routes out once instead of for every request.
        Served {
            app: app.with_state(()),
            http,
            registry,
        }
    }
}

type Http<S> = http1::Connection<TokioIo<Watched<S>>, Requests>;

/// Why hyper was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// hyper is done and has closed its side.
    Over,
    /// Nothing happens: do without hyper until the next byte.
    Park,
    /// The peer has had its time between requests, or the loop is ending.
    Idle,
    /// The head did not come in time.
    SlowHead,
    /// The peer neither reads nor sends.
    Stalled,
}

/// Serves one connection to its end. The ticket comes first so that it is dropped last, after the socket.
pub(super) async fn run<S>(mut ticket: Ticket, mut stream: S, peer: Peer, served: Arc<Served>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let registry = &served.registry;
    let mut pace = Pace::new(&registry.limits, Instant::now());
    let connection = ticket.connection().clone();
    if !ticket.is_seated() {
        registry.wait(&connection, Instant::now());
        if timeout_at(pace.parked_until(), ticket.sit()).await.is_err() {
            registry.gauges.connections_timed_out.fetch_add(1, Relaxed);
            return;
        }
        registry.seated(&connection);
    }
    let mut timer = pin!(sleep_until(pace.parked_until()));
    let mut ahead = Bytes::new();
    loop {
        if ahead.is_empty() {
            timer.as_mut().reset(pace.parked_until());
            match parked(&mut stream, timer.as_mut(), &connection, registry).await {
                Some(bytes) => ahead = bytes,
                None => return,
            }
        }
        pace.head_begins();
        let requests = Requests {
            app: served.app.clone(),
            peer,
            connection: connection.clone(),
            registry: registry.clone(),
        };
        let watched = Watched::new(stream, ahead, connection.clone());
        let mut http = Box::new(served.http.serve_connection(TokioIo::new(watched), requests));
        let left =
            poll_fn(|cx| poll_http(&mut http, timer.as_mut(), &mut pace, &connection, registry, cx)).await;
        let parts = http.into_parts();
        stream = parts.io.into_inner().into_inner();
        ahead = parts.read_buf;
        match left {
            Left::Park => continue,
            Left::Idle => return,
            Left::Stalled => {
                registry.gauges.connections_timed_out.fetch_add(1, Relaxed);
                return;
            }
            Left::SlowHead => {
                registry.gauges.connections_timed_out.fetch_add(1, Relaxed);
                let _ = timeout_at(Instant::now() + LINGER, refuse_slow(&mut stream)).await;
            }
            Left::Over => {}
        }
        // From here on the connection is one that waits: its place can be had.
        registry.wait(&connection, Instant::now());
        let _ = timeout_at(Instant::now() + LINGER, linger(&mut stream)).await;
        return;
    }
}

/// Polls hyper, then keeps the timer at the deadline of whatever the connection now waits for.
fn poll_http<S>(
    http: &mut Http<S>,
    mut timer: Pin<&mut Sleep>,
    pace: &mut Pace,
    connection: &Connection,
    registry: &Registry,
    cx: &mut Context<'_>,
) -> Poll<Left>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // hyper's errors are the peer's doing; hyper has answered what can be answered.
    if Pin::new(http).poll(cx).is_ready() {
        return Poll::Ready(Left::Over);
    }
    let (deadline, left) = match pace.look(connection, registry) {
        Look::Busy => return Poll::Pending,
        Look::Close => return Poll::Ready(Left::Idle),
        Look::Until(deadline, left) => (deadline, left),
    };
    // A deadline that has only moved away is not told to the timer: it rings early and is set again then.
    if timer.deadline() > deadline || timer.is_elapsed() {
        timer.as_mut().reset(deadline);
    }
    loop {
        ready!(timer.as_mut().poll(cx));
        if timer.deadline() >= deadline {
            return Poll::Ready(left);
        }
        timer.as_mut().reset(deadline);
    }
}

/// Waits without hyper for the next bytes. None: the peer has gone or its time is over.
async fn parked<S: AsyncRead + Unpin>(
    stream: &mut S,
    mut timer: Pin<&mut Sleep>,
    connection: &Connection,
    registry: &Registry,
) -> Option<Bytes> {
    poll_fn(|cx| {
        let mut space = [0; FIRST_READ_BYTES];
        let mut buf = ReadBuf::new(&mut space);
        match Pin::new(&mut *stream).poll_read(cx, &mut buf) {
            Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                connection.read(buf.filled().len());
                Poll::Ready(Some(Bytes::copy_from_slice(buf.filled())))
            }
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending if connection.is_unplaced() && registry.wait(connection, Instant::now()) => {
                Poll::Ready(None)
            }
            Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
        }
    })
    .await
}

async fn refuse_slow<S: AsyncWrite + Unpin>(stream: &mut S) {
    poll_fn(|cx| {
        // One try: a peer that is slow and does not read either gets no more of our time.
        let _ = Pin::new(&mut *stream).poll_write(cx, TOO_SLOW);
        Poll::Ready(())
    })
    .await;
    let _ = poll_fn(|cx| Pin::new(&mut *stream).poll_shutdown(cx)).await;
}

/// Reads and throws away what the peer still sends, within bounds, until it closes.
async fn linger<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<()> {
    let mut read = 0;
    while read < LINGER_BYTES {
        let bytes = poll_fn(|cx| {
            let mut space = [0; BUFFER_BYTES_MIN];
            let mut buf = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf))?;
            Poll::Ready(Ok::<_, io::Error>(buf.filled().len()))
        })
        .await?;
        if bytes == 0 {
            break;
        }
        read += bytes;
    }
    Ok(())
}

enum Look {
    /// In a request: how long that takes is for the handler to bound.
    Busy,
    /// Asked to close.
    Close,
    /// Waiting, until then, and what it means when nothing has come.
    Until(Instant, Left),
}

/// The deadlines of one connection.
struct Pace {
    header: Duration,
    idle: Duration,
    write_stall: Duration,
    /// Since when there has been no request.
    waiting_since: Instant,
    /// Bytes received when the waiting began: more than that means that a head has begun.
    received: u64,
    head_until: Option<Instant>,
    /// No request has come yet: then the head's time runs from the accept.
    is_first: bool,
    /// Bytes moved, and when we saw it, while a write is stuck.
    stuck: Option<(u64, Instant)>,
}

impl Pace {
    fn new(limits: &ServeLimits, now: Instant) -> Self {
        Pace {
            header: Duration::from_secs(limits.header_secs),
            idle: Duration::from_secs(limits.idle_secs),
            write_stall: Duration::from_secs(limits.write_stall_secs),
            waiting_since: now,
            received: 0,
            head_until: None,
            is_first: true,
            stuck: None,
        }
    }

    /// How long a connection without hyper may stay silent.
    fn parked_until(&self) -> Instant {
        self.waiting_since + if self.is_first { self.header } else { self.idle }
    }

    fn head_begins(&mut self) {
        let begun = if self.is_first {
            self.waiting_since
        } else {
            Instant::now()
        };
        self.head_until = Some(begun + self.header);
    }

    /// What the connection waits for, seen after hyper has done all it can for now.
    fn look(&mut self, connection: &Connection, registry: &Registry) -> Look {
        if connection.is_write_blocked() {
            let moved = connection.moved();
            let since = match self.stuck {
                Some((then, since)) if then == moved => since,
                _ => Instant::now(),
            };
            self.stuck = Some((moved, since));
            return Look::Until(since + self.write_stall, Left::Stalled);
        }
        self.stuck = None;
        if connection.is_active() {
            return Look::Busy;
        }
        let ended = connection.standing() == Standing::Busy;
        if ended {
            self.request_ended(connection);
        }
        if (ended || connection.is_unplaced()) && registry.wait(connection, self.waiting_since) {
            return Look::Close;
        }
        if self.head_until.is_none() && connection.received() > self.received {
            self.head_begins();
        }
        match self.head_until {
            Some(until) => Look::Until(until, Left::SlowHead),
            None if PARK_AFTER < self.idle => Look::Until(self.waiting_since + PARK_AFTER, Left::Park),
            None => Look::Until(self.waiting_since + self.idle, Left::Idle),
        }
    }

    fn request_ended(&mut self, connection: &Connection) {
        self.waiting_since = Instant::now();
        self.received = connection.received();
        self.head_until = None;
        self.is_first = false;
    }
}
