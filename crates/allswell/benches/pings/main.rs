//! `make bench`: pings per second and CPU per ping, beside the empty handler of the same stack; with `--storm`, how long
//! it takes to write down that many checks that fall silent at one instant, and how long pings wait meanwhile.
//!
//! The real binary serves a database of its own on a free port of loopback. One thread of ours loads it: `/healthz`,
//! then pings of random checks with and without a body, in turns and several rounds, so that whatever else the machine
//! does meets all of them. At the end each check must have counted exactly the pings that were answered with 200; only
//! that decides the exit status, never slowness. What the figures mean stands in docs/performance.md.

#![allow(
    clippy::disallowed_methods,
    reason = "a load generator reads the clock, connects to what it measures, and rolls dice of its own"
)]

mod load;
mod report;
mod seed;
mod server;
mod storm;

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use allswell_core::time::Span;
use allswell_store::Place;
use allswell_testkit::Cluster;
use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use tempfile::TempDir;

use crate::load::{Load, Mix, Request};
use crate::report::{Kind, Report, Run, Spent};
use crate::seed::{Seeded, Wanted};
use crate::server::Server;

/// Bytes of the flushed append, and how many of them are timed.
const FLUSH_BYTES: usize = 4096;
const FLUSHES: usize = 101;

/// What keeps the data.
#[derive(Copy, Clone, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Database {
    Sqlite,
    /// A cluster of its own that flushes each commit, on the same machine.
    Postgres,
}

/// Loads the server with pings and prints what they cost.
#[derive(Parser)]
struct Options {
    /// Checks in the database.
    #[arg(long, default_value_t = 10_000)]
    checks: usize,
    /// The database.
    #[arg(long, default_value = "sqlite")]
    database: Database,
    /// Instead of the measurements below: so many further checks, with a channel each, go down at one instant, while 16
    /// connections ping the others.
    #[arg(long, default_value_t = 0)]
    storm: usize,
    /// Seconds from the beginning to that instant. The database must be full and the server must run by then.
    #[arg(long, default_value_t = 30)]
    storm_in: i64,
    /// Connections that are kept alive, one measurement each.
    #[arg(long, value_delimiter = ',', default_value = "1,64,256")]
    connections: Vec<usize>,
    /// Bodies of pings in bytes, one measurement each.
    #[arg(long, value_delimiter = ',', default_value = "0,1024")]
    bodies: Vec<usize>,
    /// Rounds; the figures are their medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 1.5)]
    secs: f64,
    /// Which checks are pinged, in which order.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Writes all figures into this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Measures this binary instead of the one that was just built.
    #[arg(long)]
    server: Option<PathBuf>,
    /// Measures this binary too, on a database of its own, in turns with the other: both meet the same minutes. Its lines
    /// have a `*`. Short turns and many rounds tell more than long ones.
    #[arg(long, conflicts_with = "storm")]
    beside: Option<PathBuf>,
    /// A setting of the server, as in its environment without the prefix: LIMITS_BATCH=256.
    #[arg(long = "set")]
    settings: Vec<String>,
    /// A line for the cluster's postgresql.conf: "shared_buffers = 2GB".
    #[arg(long = "postgres-set")]
    cluster_settings: Vec<String>,
    /// PostgreSQL is reached over its socket, not over TCP on loopback.
    #[arg(long)]
    socket: bool,
    /// Where the database is made, and removed at the end. Its disk is the one that is measured.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// What cargo adds by itself.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    ensure!(
        options.checks > 0 && options.rounds > 0,
        "--checks and --rounds begin at 1"
    );
    ensure!(
        !options.socket || options.database == Database::Postgres,
        "--socket is for --database postgres"
    );
    let mut report = Report::new(options.checks);
    let wanted = Wanted {
        checks: options.checks,
        late: options.storm,
        late_at: seed::now()? + Span::from_secs(options.storm_in),
        seed: options.seed,
    };
    let mut sides = vec![Side::open(
        &options,
        options.server.as_deref(),
        wanted,
        &mut report,
    )?];
    if let Some(beside) = &options.beside {
        sides.push(Side::open(&options, Some(beside), wanted, &mut report)?);
    }
    if let ([side], true) = (&mut sides[..], options.storm > 0) {
        storm::meet(wanted, &side.seeded, &mut side.load, side.metrics, &mut report)?;
    } else {
        measure(&options, &mut sides, &mut report)?;
    }
    for side in sides {
        side.close(&mut report)?;
    }
    report.print();
    if let Some(path) = &options.json {
        let mut file = File::create(path).with_context(|| format!("could not make {}", path.display()))?;
        writeln!(file, "{:#}", report.json())?;
    }
    Ok(())
}

/// A server under measurement, its database, and what loads it.
struct Side {
    // The server is ended before its database is removed.
    server: Server,
    metrics: SocketAddr,
    load: Load,
    seeded: Seeded,
    cluster: Option<Cluster>,
    place: TempDir,
}

impl Side {
    /// Fills a new database, starts the server on it, and pings once.
    fn open(options: &Options, binary: Option<&Path>, wanted: Wanted, report: &mut Report) -> Result<Self> {
        let place = match &options.dir {
            Some(dir) => tempfile::tempdir_in(dir)?,
            None => tempfile::tempdir()?,
        };
        seed::make_data_dir(place.path())?;
        let begun = Instant::now();
        let cluster = (options.database == Database::Postgres).then(|| cluster(&options.cluster_settings));
        let (database, url) = match &cluster {
            None => (Place::File(place.path().join("data/allswell.db")), None),
            Some(cluster) => {
                let url = if options.socket {
                    cluster.socket_url("postgres")
                } else {
                    cluster.url("postgres")
                };
                let server = allswell_store::Server::from_url(&url).map_err(anyhow::Error::msg)?;
                (Place::Postgres(Box::new(server)), Some(url))
            }
        };
        let seeded = seed::fill(place.path(), &database, wanted)?;
        report.note("seeded in", begun.elapsed(), "s");
        let metrics = SocketAddr::from(([127, 0, 0, 1], allswell_testkit::free_port()));
        let server = Server::start(place.path(), binary, &options.settings, url.as_deref(), metrics)?;
        let mut load = Load::new(server.address, options.seed, seeded.checks());
        load.first_ping(&seeded)?;
        report.note("first answered ping after the start", server.age(), "ms");
        report.memory("when idle", server.resident_kib()?);
        Ok(Side {
            server,
            metrics,
            load,
            seeded,
            cluster,
            place,
        })
    }

    /// The time that the server took so far, and that of its database, where that has processes of its own.
    fn cpu(&self) -> Result<(Duration, Duration)> {
        let database = match &self.cluster {
            Some(cluster) => server::family_cpu(cluster.server_pid())?,
            None => Duration::ZERO,
        };
        Ok((self.server.cpu()?, database))
    }

    /// Ends the server, and compares what it stored with what it answered.
    fn close(mut self, report: &mut Report) -> Result<()> {
        report.memory("after the load", self.server.resident_kib()?);
        if self.cluster.is_none() {
            report.wal(&self.place.path().join("data/allswell.db-wal"));
        }
        self.server.stop()?;
        let begun = Instant::now();
        compare(&self.seeded, &self.load)?;
        report.note("stored pings compared in", begun.elapsed(), "s");
        Ok(())
    }
}

/// PostgreSQL as an operator would have it, and no flush left out.
fn cluster(more: &[String]) -> Cluster {
    let settings = [
        "synchronous_commit = on",
        "shared_buffers = 1GB",
        "max_wal_size = 4GB",
        "checkpoint_timeout = 5min",
        "autovacuum = on",
    ];
    Cluster::start(allswell_testkit::Options {
        settings: settings
            .map(str::to_owned)
            .into_iter()
            .chain(more.iter().cloned())
            .collect(),
        durable: true,
        ..allswell_testkit::Options::default()
    })
}

/// All rounds of all measurements.
fn measure(options: &Options, sides: &mut [Side], report: &mut Report) -> Result<()> {
    let requests: Vec<Request> = std::iter::once(Request::Empty)
        .chain(options.bodies.iter().map(|bytes| Request::Ping(*bytes)))
        .collect();
    for side in &mut *sides {
        // The first pings of a process meet an empty cache and an unwritten log.
        let warm = Mix::new(Request::Ping(0), 16, &side.seeded);
        side.load.run(warm, Duration::from_millis(500))?;
    }
    report.heading();
    for connections in &options.connections {
        for round in 0..options.rounds {
            report.flush(flush_time(sides[0].place.path())?);
            for request in &requests {
                for turn in 0..sides.len() {
                    // Each is first in every other round.
                    let number = (turn + round) % sides.len();
                    let side = &mut sides[number];
                    let ((cpu, database), own) = (side.cpu()?, server::own_cpu()?);
                    let mix = Mix::new(*request, *connections, &side.seeded);
                    let answers = side.load.run(mix, Duration::from_secs_f64(options.secs))?;
                    let (cpu_now, database_now) = side.cpu()?;
                    let spent = Spent {
                        server: cpu_now - cpu,
                        database: database_now.saturating_sub(database),
                        load: server::own_cpu()? - own,
                    };
                    let kind = Kind {
                        request: *request,
                        connections: *connections,
                        is_beside: number == 1,
                    };
                    report.run(Run::of(kind, round, answers, spent));
                }
            }
        }
    }
    Ok(())
}

/// The median time in which this disk takes 4 kB at the end of a file for good.
fn flush_time(place: &Path) -> Result<Duration> {
    let path = place.join("flush");
    let mut file = File::options().create(true).append(true).open(&path)?;
    let mut times = Vec::with_capacity(FLUSHES);
    for _ in 0..FLUSHES {
        let begun = Instant::now();
        file.write_all(&[7; FLUSH_BYTES])?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    std::fs::remove_file(&path)?;
    times.sort();
    Ok(times[FLUSHES / 2])
}

/// Every check must have counted the pings that were answered, no more and no fewer.
fn compare(seeded: &Seeded, load: &Load) -> Result<()> {
    let (stored, rows) = seeded.stored()?;
    let wrong: Vec<String> = stored
        .iter()
        .zip(load.answered())
        .enumerate()
        .filter(|(_, (stored, answered))| **stored != u64::from(**answered))
        .map(|(check, (stored, answered))| format!("check {check}: {answered} answered, {stored} stored"))
        .collect();
    if let Some(first) = wrong.first() {
        bail!(
            "{} checks hold another number of pings than were answered; {first}",
            wrong.len()
        );
    }
    let sum: u64 = stored.iter().sum();
    ensure!(
        rows == sum || stored.iter().any(|count| *count > seed::PINGS_KEPT),
        "{sum} pings were counted, and {rows} rows are stored"
    );
    Ok(())
}
