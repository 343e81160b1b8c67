//! What our accept loop costs: requests per second of an empty handler over it, beside `axum::serve`.
//!
//!     cargo run --release --example serve_load
//!     cargo run --release --example serve_load -- memory
//!
//! Each server is a process of its own with one worker thread, so that its CPU time and memory can be read from
//! the system; the load, keep-alive connections that ask again as soon as they are answered, comes from this
//! process. Rounds alternate, since the machine's speed changes from minute to minute. `memory` opens many
//! connections instead and prints what each adds to the server's resident memory.

#![allow(
    clippy::disallowed_methods,
    reason = "a load client connects to loopback and measures"
)]

use std::io::{BufRead, BufReader, Error, Result};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use allswell_web::serve::{Gauges, ServeLimits, serve};
use axum::Router;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nuser-agent: load\r\n\r\n";
const ROUND: Duration = Duration::from_secs(4);
const ROUNDS: usize = 3;
const CROWD: usize = 4000;

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("server") => server(std::env::args().nth(2).as_deref() == Some("ours")),
        Some("memory") => one_thread()?.block_on(memory()),
        _ => one_thread()?.block_on(load()),
    }
}

fn one_thread() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Prints its port and serves until its standard input closes.
fn server(ours: bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.spawn(async move {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("{}", listener.local_addr()?.port());
        let app = Router::new().route("/healthz", get(|| async { "ok\n" }));
        if ours {
            let limits = ServeLimits {
                connections: 10_000,
                connections_per_address: 10_000,
                header_secs: 60,
                header_bytes: 16 * 1024,
                idle_secs: 60,
                write_stall_secs: 30,
                shutdown_secs: 1,
            };
            serve(
                listener,
                app,
                limits,
                allswell_web::Network::new(|_| false),
                Arc::new(Gauges::default()),
                std::future::pending::<()>(),
            )
            .await;
            Ok(())
        } else {
            axum::serve(listener, app).await
        }
    });
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

struct Server {
    process: Child,
    address: SocketAddr,
    _until_dropped: Option<ChildStdin>,
}

impl Server {
    fn start(which: &str) -> Result<Server> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["server", which])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = process.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let port: u16 = line.trim().parse().map_err(Error::other)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let until_dropped = process.stdin.take();
        Ok(Server {
            process,
            address,
            _until_dropped: until_dropped,
        })
    }

    /// User and system time so far.
    fn cpu(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let after_name = stat.rsplit(") ").next().unwrap_or_default();
        let ticks: u64 = after_name
            .split(' ')
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Resident memory in KiB.
    fn resident(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse().map_err(Error::other)
    }

    fn stop(mut self) -> Result<()> {
        self._until_dropped = None;
        self.process.wait().map(|_| ())
    }
}

async fn load() -> Result<()> {
    println!(
        "{:>11}  {:<6} {:>10} {:>12} {:>9} {:>9}",
        "connections", "loop", "requests/s", "CPU us/req", "p50 ms", "p99 ms"
    );
    for connections in [64, 256] {
        let mut cpu = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (which, name) in ["axum", "ours"].into_iter().enumerate() {
                let server = Server::start(name)?;
                cpu[which].push(round(&server, name, connections).await?);
                server.stop()?;
            }
        }
        let [axum, ours] = cpu.map(|mut rounds| {
            rounds.sort_by(f64::total_cmp);
            rounds[ROUNDS / 2]
        });
        println!(
            "{connections:>11}  CPU per request, ours to axum::serve, medians: {:.2}",
            ours / axum
        );
    }
    Ok(())
}

/// One measurement; returns the server's CPU microseconds per request.
async fn round(server: &Server, name: &str, connections: usize) -> Result<f64> {
    let mut streams = Vec::new();
    for _ in 0..connections {
        streams.push(connect(server.address).await?);
    }
    let (cpu, began) = (server.cpu()?, Instant::now());
    let clients: Vec<_> = streams
        .into_iter()
        .map(|stream| tokio::spawn(client(stream, began + ROUND)))
        .collect();
    let mut latencies = Vec::new();
    for client in clients {
        latencies.extend(client.await??);
    }
    let (cpu, seconds) = (server.cpu()? - cpu, began.elapsed().as_secs_f64());
    latencies.sort_unstable();
    let requests = latencies.len();
    let at = |share: f64| f64::from(latencies[(requests as f64 * share) as usize]) / 1000.0;
    let per_request = cpu.as_secs_f64() * 1e6 / requests as f64;
    println!(
        "{connections:>11}  {name:<6} {:>10.0} {per_request:>12.2} {:>9.2} {:>9.2}",
        requests as f64 / seconds,
        at(0.5),
        at(0.99),
    );
    Ok(per_request)
}

async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Asks until the time is over; returns how long each answer took, in microseconds.
async fn client(mut stream: TcpStream, until: Instant) -> Result<Vec<u32>> {
    let mut latencies = Vec::new();
    while Instant::now() < until {
        let asked = Instant::now();
        ask(&mut stream).await?;
        latencies.push(asked.elapsed().as_micros() as u32);
    }
    Ok(latencies)
}

/// One request and its answer, which must be the empty handler's.
async fn ask(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(REQUEST).await?;
    let mut answer = [0; 512];
    let mut filled = 0;
    while !answer[..filled].ends_with(b"\r\n\r\nok\n") {
        let bytes = stream.read(&mut answer[filled..]).await?;
        if bytes == 0 {
            return Err(Error::other("the server closed the connection"));
        }
        filled += bytes;
    }
    if answer.starts_with(b"HTTP/1.1 200 ") {
        Ok(())
    } else {
        Err(Error::other("not a 200"))
    }
}

async fn memory() -> Result<()> {
    println!("{CROWD} connections, bytes of resident memory each");
    for name in ["axum", "ours"] {
        for (what, first, asks) in [
            ("silent", &b""[..], false),
            ("half a head", &b"GET /healthz HTTP/1.1\r\nx: "[..], false),
            ("idle after a request", &b""[..], true),
        ] {
            let server = Server::start(name)?;
            ask(&mut connect(server.address).await?).await?;
            let before = server.resident()?;
            let crowd = crowd(server.address, first, asks).await?;
            let after = server.resident()?;
            println!("{name:<6} {what:<52} {:>7}", each(before, after));
            if asks {
                // By now ours are parked. What they gave back stays with the allocator, so it shows here.
                tokio::time::sleep(Duration::from_secs(4)).await;
                let before = server.resident()?;
                let _second = self::crowd(server.address, first, asks).await?;
                let after = server.resident()?;
                println!(
                    "{name:<6} {:<52} {:>7}",
                    "as many again while the first have long been idle",
                    each(before, after)
                );
            }
            drop(crowd);
            server.stop()?;
        }
    }
    Ok(())
}

fn each(before: u64, after: u64) -> u64 {
    after.saturating_sub(before) * 1024 / CROWD as u64
}

async fn crowd(address: SocketAddr, first: &[u8], asks: bool) -> Result<Vec<TcpStream>> {
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let mut stream = connect(address).await?;
        stream.write_all(first).await?;
        if asks {
            ask(&mut stream).await?;
        }
        crowd.push(stream);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(crowd)
}
