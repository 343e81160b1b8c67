//! A served app to talk to, over TCP or over pipes, and a client that knows just enough HTTP to be rude.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use allswell_web::serve::body::{BodyError, read_cut, read_whole};
use allswell_web::serve::{Gauges, Listener, Peer, ServeLimits, serve};
use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::{any, get, post};
use axum::{Extension, Router};
use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

pub const LIMITS: ServeLimits = ServeLimits {
    connections: 1000,
    connections_per_address: 1000,
    header_secs: 10,
    header_bytes: 16 * 1024,
    idle_secs: 60,
    write_stall_secs: 30,
    shutdown_secs: 20,
};

pub const KEEP: usize = 1000;
pub const DRAIN: usize = 9000;
pub const WHOLE: usize = 5000;

/// Holds requests to `/gate` until the test lets them go.
#[derive(Clone)]
pub struct Gate {
    entered: Arc<Semaphore>,
    let_go: Arc<Semaphore>,
    /// The body of `/endless` was dropped.
    pub endless_dropped: Arc<Semaphore>,
}

impl Gate {
    /// Waits until one more request stands at the gate.
    pub async fn entered(&self) {
        within(self.entered.acquire()).await.unwrap().forget();
    }

    pub fn let_go(&self, requests: usize) {
        self.let_go.add_permits(requests);
    }
}

fn app(gate: Gate) -> Router {
    let within = Duration::from_secs(5);
    Router::new()
        .route("/ok", any(|| async { "ok" }))
        .route(
            "/peer",
            get(|Extension(Peer(peer)): Extension<Peer>| async move { peer.to_string() }),
        )
        .route("/panic", get(panics))
        .route("/panic-later", get(panics_later))
        .route(
            "/cut",
            any(move |body: Body| async move {
                match read_cut(body, KEEP, DRAIN, within).await {
                    Ok(cut) => {
                        let kept = cut.bytes.len();
                        format!("kept={kept} total={} finished={}", cut.total, cut.finished).into_response()
                    }
                    Err(error) => refusal(&error).into_response(),
                }
            }),
        )
        .route(
            "/whole",
            post(move |body: Body| async move {
                match read_whole(body, WHOLE, within).await {
                    Ok(bytes) => format!("whole={}", bytes.len()).into_response(),
                    Err(error) => refusal(&error).into_response(),
                }
            }),
        )
        .route(
            "/gate",
            get(|State(gate): State<Gate>| async move {
                gate.entered.add_permits(1);
                gate.let_go.acquire().await.unwrap().forget();
                "gone through"
            }),
        )
        .route(
            "/endless",
            get(|State(gate): State<Gate>| async move {
                Body::new(Endless {
                    dropped: gate.endless_dropped,
                })
            }),
        )
        .with_state(gate)
}

async fn panics() -> &'static str {
    panic!("planted, as text")
}

async fn panics_later() -> &'static str {
    tokio::task::yield_now().await;
    std::panic::panic_any(7_u8)
}

fn refusal(error: &BodyError) -> (StatusCode, String) {
    let status = match error {
        BodyError::TimedOut => StatusCode::REQUEST_TIMEOUT,
        BodyError::Broken(_) => StatusCode::BAD_REQUEST,
        BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
    };
    (status, error.to_string())
}

/// A body without end, 1 KiB at a time.
struct Endless {
    dropped: Arc<Semaphore>,
}

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'.'; 1024])))))
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.dropped.add_permits(1);
    }
}

/// A running loop. End it with `end`, which also looks that nothing is left.
pub struct House<C> {
    pub door: C,
    pub gauges: Arc<Gauges>,
    pub gate: Gate,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

fn house<L: Listener + Send + 'static, C>(listener: L, door: C, limits: ServeLimits) -> House<C> {
    let none = || Arc::new(Semaphore::new(0));
    let gate = Gate {
        entered: none(),
        let_go: none(),
        endless_dropped: none(),
    };
    let gauges = Arc::new(Gauges::default());
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(serve(
        listener,
        app(gate.clone()),
        limits,
        // Nobody is a proxy, so the cap of an address holds for loopback too.
        allswell_web::Network::new(|_| false),
        gauges.clone(),
        stopped,
    ));
    House {
        door,
        gauges,
        gate,
        stop,
        task,
    }
}

impl<C> House<C> {
    /// Asks the loop to end; the returned task is ready when it has.
    pub fn stop(self) -> (JoinHandle<()>, Arc<Gauges>, Gate) {
        self.stop.send(()).expect("the loop runs");
        (self.task, self.gauges, self.gate)
    }

    pub async fn end(self) {
        let (task, gauges, _) = self.stop();
        within(task).await.expect("the loop did not panic");
        assert_eq!(gauges.connections_open.load(Relaxed), 0);
    }

    /// Drops the loop's future without asking it to end.
    pub async fn kill(self) {
        self.task.abort();
        assert!(within(self.task).await.unwrap_err().is_cancelled());
    }

    pub fn open(&self) -> u64 {
        self.gauges.connections_open.load(Relaxed)
    }
}

/// Where TCP clients knock.
pub struct Tcp(pub SocketAddr);

pub async fn tcp_house(limits: ServeLimits) -> House<Tcp> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a free port");
    let address = listener.local_addr().expect("its address");
    house(listener, Tcp(address), limits)
}

impl House<Tcp> {
    /// A client from 127.0.0.1.
    pub async fn client(&self) -> Client<TcpStream> {
        self.client_from(1).await
    }

    /// A client from 127.0.0.`last`.
    pub async fn client_from(&self, last: u8) -> Client<TcpStream> {
        let socket = TcpSocket::new_v4().expect("a socket");
        let from = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0);
        socket.bind(from).expect("a loopback address");
        Client::new(within(socket.connect(self.door.0)).await.expect("a connection"))
    }
}

/// Where pipes are handed in, and errors of `accept` with them.
pub struct Pipes(mpsc::UnboundedSender<io::Result<DuplexStream>>);

struct PipeListener(Mutex<mpsc::UnboundedReceiver<io::Result<DuplexStream>>>);

impl Listener for PipeListener {
    type Stream = DuplexStream;

    async fn accept(&self) -> io::Result<(DuplexStream, SocketAddr)> {
        match self.0.lock().await.recv().await {
            Some(accepted) => Ok((accepted?, SocketAddr::from((Ipv4Addr::LOCALHOST, 1)))),
            None => std::future::pending().await,
        }
    }
}

pub fn pipe_house(limits: ServeLimits) -> House<Pipes> {
    let (sender, receiver) = mpsc::unbounded_channel();
    house(PipeListener(Mutex::new(receiver)), Pipes(sender), limits)
}

impl House<Pipes> {
    pub fn client(&self) -> Client<DuplexStream> {
        let (ours, theirs) = duplex(4096);
        self.door.0.send(Ok(theirs)).expect("the loop runs");
        Client::new(ours)
    }

    pub fn accept_fails(&self, error: io::Error) {
        self.door.0.send(Err(error)).expect("the loop runs");
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: String,
}

pub struct Client<S> {
    pub stream: S,
    unread: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    fn new(stream: S) -> Self {
        Client {
            stream,
            unread: Vec::new(),
        }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("the server reads");
    }

    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        within(self.stream.write_all(bytes.as_ref())).await
    }

    /// Sends a GET and returns its answer.
    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: t\r\n\r\n")).await;
        self.answer().await
    }

    /// The next answer, which must carry a length.
    pub async fn answer(&mut self) -> Answer {
        self.try_answer().await.expect("an answer")
    }

    pub async fn try_answer(&mut self) -> Option<Answer> {
        let end = loop {
            match self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None if self.read_more().await => {}
                None => return None,
            }
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        let head = String::from_utf8(head).expect("a head of text").to_lowercase();
        let status: u16 = head
            .get(9..12)
            .and_then(|digits| digits.parse().ok())
            .expect("a status");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |digits| digits.parse().expect("a length"));
        while self.unread.len() < length {
            assert!(self.read_more().await, "the body of {head} ends early");
        }
        let body: Vec<u8> = self.unread.drain(..length).collect();
        Some(Answer {
            status,
            head,
            body: String::from_utf8(body).expect("a body of text"),
        })
    }

    /// True if the server closes without another byte.
    pub async fn is_closed_silently(&mut self) -> bool {
        self.unread.is_empty() && !self.read_more().await
    }

    /// True if the next thing is the end: no further byte, and no reset either.
    pub async fn is_closed_cleanly(&mut self) -> bool {
        let read = within(self.stream.read_buf(&mut self.unread)).await;
        self.unread.is_empty() && matches!(read, Ok(0))
    }

    /// Reads once more; false at the end or after a reset.
    pub async fn read_more(&mut self) -> bool {
        let read = within(self.stream.read_buf(&mut self.unread)).await;
        read.is_ok_and(|bytes| bytes > 0)
    }
}

/// Fails instead of hanging. Real seconds for TCP; with a paused clock, more than any limit.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), future)
        .await
        .expect("it takes for ever")
}

/// With a paused clock: lets everything settle, then lets that much time pass. Nothing really sleeps.
pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Small numbers that look random and are the same each time.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        (self.roll() >> 11) % end
    }
}
