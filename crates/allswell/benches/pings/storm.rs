//! The storm: many checks fall silent at one instant, and others are pinged meanwhile.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::load::{Load, Mix, Request};
use crate::report::{Kind, Report, Run, Spent};
use crate::seed::{self, Seeded, Wanted};

/// Connections that ping meanwhile.
const CONNECTIONS: usize = 16;
/// How long all of it may take before it counts as never.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits for the instant, pings until all flips are written, and reports both. The server counts a flip after the
/// transaction that wrote it with its delivery; that both are there is looked at when it has ended.
pub fn meet(
    wanted: Wanted,
    seeded: &Seeded,
    load: &mut Load,
    metrics: SocketAddr,
    report: &mut Report,
) -> Result<()> {
    let left = wanted.late_at - seed::now()?;
    ensure!(
        left.as_micros() > 0,
        "it was over before the server ran: raise --storm-in"
    );
    std::thread::sleep(Duration::from_micros(u64::try_from(left.as_micros())?));
    let (begun, over) = (Instant::now(), AtomicBool::new(false));
    let (written, answers) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let written = wait_for(wanted.late, metrics, begun);
            over.store(true, Ordering::Relaxed);
            written
        });
        let going = |_: Duration| !over.load(Ordering::Relaxed);
        let answers = load.run_while(Mix::new(Request::Ping(0), CONNECTIONS, seeded), going);
        (watch.join(), answers)
    });
    let written = written.map_err(|_| anyhow::anyhow!("the watch broke off"))??;
    report.heading();
    let kind = Kind {
        request: Request::Ping(0),
        connections: CONNECTIONS,
        is_beside: false,
    };
    report.run(Run::of(kind, 0, answers?, Spent::default()));
    report.note("flips and deliveries written after", written, "s");
    Ok(())
}

/// How long it takes until so many checks have been found silent.
fn wait_for(late: usize, metrics: SocketAddr, begun: Instant) -> Result<Duration> {
    loop {
        if missed(metrics)? >= late {
            return Ok(begun.elapsed());
        }
        ensure!(
            begun.elapsed() < PATIENCE,
            "only {} of {late} flips were written",
            missed(metrics)?
        );
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Checks that went down by silence, as the server counts them.
fn missed(metrics: SocketAddr) -> Result<usize> {
    let mut stream = TcpStream::connect(metrics)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let line = answer
        .lines()
        .find_map(|line| line.strip_prefix("allswell_checks_missed_total "));
    Ok(line
        .context("the server counts no missed checks")?
        .trim()
        .parse()?)
}
