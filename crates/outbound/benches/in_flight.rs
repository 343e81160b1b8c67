//! What an attempt costs while it waits: memory per attempt with 10,000 in flight to a server that takes the request and
//! never answers, over http and over https. The server is a process of its own, so that its memory does not count.
//!
//!     cargo bench -p allswell-outbound --bench in_flight [-- COUNT]

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use allswell_core::exchange::{Class, Method, Request};
use allswell_core::policy::{Policies, Policy};
use allswell_outbound::{Client, Settings};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const COUNT: usize = 10_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["sink", count] => runtime().block_on(sink(count.parse().unwrap())),
        ["hold", scheme, count] => hold(scheme, count.parse().unwrap()),
        _ => {
            let count = words.iter().find_map(|it| it.parse().ok()).unwrap_or(COUNT);
            // A process for each: memory that one gave back would hide what the next one takes.
            for scheme in ["http", "https"] {
                let own = std::env::current_exe().unwrap();
                let status = Command::new(own)
                    .args(["hold", scheme, &count.to_string()])
                    .status();
                assert!(status.unwrap().success(), "{scheme} costs too much");
            }
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn hold(scheme: &str, count: usize) {
    let mut sink = Sink::start(count);
    let grown = runtime().block_on(in_flight(&mut sink, scheme, count));
    sink.child.kill().unwrap();
    sink.child.wait().unwrap();
    println!("{scheme}: {count} in flight, {grown} bytes each (bound 65536)");
    assert!(grown <= 65_536, "an attempt may cost 64 KiB while it waits");
}

struct Sink {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    plain: SocketAddr,
    tls: SocketAddr,
    ca: Vec<u8>,
}

impl Sink {
    fn start(count: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["sink", &count.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = || lines.next().unwrap().unwrap();
        let (plain, tls, ca) = (line(), line(), line());
        Sink {
            child,
            plain: plain.parse().unwrap(),
            tls: tls.parse().unwrap(),
            ca: ca.replace('|', "\n").into_bytes(),
            lines,
        }
    }
}

/// Bytes of memory that each attempt took.
async fn in_flight(sink: &mut Sink, scheme: &str, count: usize) -> usize {
    let settings = Settings {
        policies: Policies::new(|_| Policy {
            private: true,
            ..Policy::default()
        }),
        nameservers: vec!["127.0.0.1:53".parse().unwrap()],
        extra_ca_pem: Some(sink.ca.clone()),
        proxy: None,
    };
    let client = Client::new(settings).unwrap();
    let address = if scheme == "http" { sink.plain } else { sink.tls };
    let request = || {
        Request::new(Class::Webhook, Method::Post, format!("{scheme}://{address}/hook"))
            .header("Content-Type", "application/json")
            .body(vec![b'x'; 1_000])
    };
    let before = resident_bytes();
    let attempts: Vec<_> = (0..count)
        .map(|_| {
            let (client, request) = (client.clone(), request());
            tokio::spawn(async move { client.send(request).await })
        })
        .collect();
    let all = sink.lines.next().unwrap().unwrap();
    assert_eq!(all, "all");
    let grown = resident_bytes().saturating_sub(before);
    for attempt in attempts {
        attempt.abort();
    }
    grown / count
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kibibytes: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kibibytes * 1024
}

/// Takes `count` requests over http or https, says "all", and answers none.
async fn sink(count: usize) {
    let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certified.cert.der().clone()],
            PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tls = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", plain.local_addr().unwrap());
    println!("{}", tls.local_addr().unwrap());
    println!(
        "{}",
        certified.cert.pem().trim().replace('\n', "|").replace('\r', "")
    );
    let seen = Arc::new(AtomicUsize::new(0));
    let note = move || {
        if seen.fetch_add(1, Ordering::Relaxed) + 1 == count {
            println!("all");
            std::io::stdout().flush().unwrap();
        }
    };
    let note_tls = note.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = tls.accept().await.unwrap();
            let (acceptor, note) = (acceptor.clone(), note_tls.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    swallow(stream, note).await;
                }
            });
        }
    });
    loop {
        let (stream, _) = plain.accept().await.unwrap();
        tokio::spawn(swallow(stream, note.clone()));
    }
}

async fn swallow(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, note: impl Fn()) {
    let mut buffer = [0; 2_048];
    if matches!(stream.read(&mut buffer).await, Ok(read) if read > 0) {
        note();
    }
    while matches!(stream.read(&mut buffer).await, Ok(read) if read > 0) {}
}
