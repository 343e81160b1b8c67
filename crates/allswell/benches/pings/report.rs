//! What was measured, as a table for people and as JSON.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::load::{Answers, Request};

/// What is measured.
#[derive(Copy, Clone, PartialEq, Eq)]
pub struct Kind {
    pub request: Request,
    pub connections: usize,
    /// On the server that is measured in turns with the first one.
    pub is_beside: bool,
}

impl Kind {
    fn name(self) -> String {
        let mark = if self.is_beside { " *" } else { "" };
        match self.request {
            Request::Empty => format!("empty{mark}"),
            Request::Ping(bytes) => format!("ping {bytes} B{mark}"),
        }
    }
}

/// User and system time during a measurement.
#[derive(Copy, Clone, Default)]
pub struct Spent {
    pub server: Duration,
    /// Of a database with processes of its own, all of them.
    pub database: Duration,
    pub load: Duration,
}

/// One measurement.
pub struct Run {
    kind: Kind,
    round: usize,
    per_sec: f64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    /// Microseconds of the server's time for each answer.
    cpu_us: f64,
    /// The same of the database's processes.
    database_us: f64,
    /// What the load generator took, as a part of all time of one core.
    own_cpu_share: f64,
    answers: usize,
    refused: usize,
}

impl Run {
    pub fn of(kind: Kind, round: usize, answers: Answers, spent: Spent) -> Self {
        let count = answers.latencies.len();
        let at = |share: f64| {
            let place = (count as f64 * share) as usize;
            let micros = answers.latencies.get(place.min(count.saturating_sub(1)));
            f64::from(micros.copied().unwrap_or(0)) / 1e3
        };
        let each = |time: Duration| time.as_secs_f64() * 1e6 / (count + answers.refused).max(1) as f64;
        Run {
            kind,
            round,
            per_sec: count as f64 / answers.took.as_secs_f64(),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            max_ms: at(1.0),
            cpu_us: each(spent.server),
            database_us: each(spent.database),
            own_cpu_share: spent.load.as_secs_f64() / answers.took.as_secs_f64(),
            answers: count,
            refused: answers.refused,
        }
    }
}

/// All of it.
pub struct Report {
    checks: usize,
    runs: Vec<Run>,
    flushes: Vec<f64>,
    notes: Vec<(String, f64, &'static str)>,
}

/// Medians over the rounds of one kind of request, and how they stand to the empty requests of the same round.
struct Summary {
    kind: Kind,
    per_sec: f64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    cpu_us: f64,
    database_us: f64,
    throughput_ratio: f64,
    cpu_ratio: f64,
    own_cpu_share: f64,
    refused: usize,
}

impl Report {
    pub fn new(checks: usize) -> Self {
        println!("{checks} checks");
        Report {
            checks,
            runs: Vec::new(),
            flushes: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn tell(&mut self, what: &str, value: f64, unit: &'static str) {
        println!("{what}: {value:.1} {unit}");
        self.notes.push((what.to_owned(), value, unit));
    }

    /// A length of time beside the runs, in the unit `ms` or `s`.
    pub fn note(&mut self, what: &str, time: Duration, unit: &'static str) {
        let secs = time.as_secs_f64();
        self.tell(what, if unit == "ms" { secs * 1e3 } else { secs }, unit);
    }

    pub fn memory(&mut self, when: &str, kib: u64) {
        self.tell(&format!("resident memory {when}"), kib as f64 / 1024.0, "MiB");
    }

    /// The size of the write-ahead log that is left.
    pub fn wal(&mut self, path: &Path) {
        let bytes = path.metadata().map_or(0, |file| file.len());
        self.tell("write-ahead log", bytes as f64 / (1024.0 * 1024.0), "MiB");
    }

    pub fn flush(&mut self, time: Duration) {
        self.flushes.push(time.as_secs_f64() * 1e3);
    }

    pub fn heading(&self) {
        println!(
            "\n{:>5} {:<12} {:>5} {:>10} {:>8} {:>8} {:>8} {:>11} {:>9} {:>9} {:>8}",
            "conns",
            "request",
            "round",
            "answers/s",
            "p50 ms",
            "p99 ms",
            "max ms",
            "CPU us/req",
            "database",
            "own CPU",
            "refused"
        );
    }

    pub fn run(&mut self, run: Run) {
        println!(
            "{:>5} {:<12} {:>5} {:>10.0} {:>8.2} {:>8.2} {:>8.2} {:>11.1} {:>9.1} {:>8.0}% {:>8}",
            run.kind.connections,
            run.kind.name(),
            run.round + 1,
            run.per_sec,
            run.p50_ms,
            run.p99_ms,
            run.max_ms,
            run.cpu_us,
            run.database_us,
            run.own_cpu_share * 100.0,
            run.refused
        );
        self.runs.push(run);
    }

    fn flush_ms(&self) -> f64 {
        median(self.flushes.iter().copied())
    }

    fn summaries(&self) -> Vec<Summary> {
        let mut kinds: Vec<Kind> = Vec::new();
        for run in &self.runs {
            if !kinds.contains(&run.kind) {
                kinds.push(run.kind);
            }
        }
        kinds.into_iter().map(|kind| self.summary(kind)).collect()
    }

    fn summary(&self, kind: Kind) -> Summary {
        let of = |kind: Kind| self.runs.iter().filter(move |run| run.kind == kind);
        let empty = Kind {
            request: Request::Empty,
            ..kind
        };
        let figure = |figure: fn(&Run) -> f64| median(of(kind).map(figure));
        let ratio = |figure: fn(&Run) -> f64| {
            median(
                of(kind)
                    .zip(of(empty))
                    .map(|(run, empty)| figure(run) / figure(empty)),
            )
        };
        Summary {
            kind,
            per_sec: figure(|run| run.per_sec),
            p50_ms: figure(|run| run.p50_ms),
            p99_ms: figure(|run| run.p99_ms),
            max_ms: of(kind).map(|run| run.max_ms).fold(0.0, f64::max),
            cpu_us: figure(|run| run.cpu_us),
            database_us: figure(|run| run.database_us),
            throughput_ratio: ratio(|run| run.per_sec),
            cpu_ratio: ratio(|run| run.cpu_us),
            own_cpu_share: figure(|run| run.own_cpu_share),
            refused: of(kind).map(|run| run.refused).sum(),
        }
    }

    /// The medians, and the ratios that the figures are about.
    pub fn print(&self) {
        println!(
            "\nMedians of the rounds (max: of all), ratios to the empty handler of the same round.\n\
             Flush of the disk (4 kB appended and fdatasync): {:.2} ms\n\n\
             {:>5} {:<12} {:>10} {:>6} {:>11} {:>6} {:>9} {:>8} {:>8} {:>8} {:>12}",
            self.flush_ms(),
            "conns",
            "request",
            "answers/s",
            "ratio",
            "CPU us/req",
            "ratio",
            "database",
            "p50 ms",
            "p99 ms",
            "max ms",
            "p50/flush"
        );
        for row in self.summaries() {
            println!(
                "{:>5} {:<12} {:>10.0} {:>6.3} {:>11.1} {:>6.2} {:>9.1} {:>8.2} {:>8.2} {:>8.2} {:>12.2}",
                row.kind.connections,
                row.kind.name(),
                row.per_sec,
                row.throughput_ratio,
                row.cpu_us,
                row.cpu_ratio,
                row.database_us,
                row.p50_ms,
                row.p99_ms,
                row.max_ms,
                row.p50_ms / self.flush_ms()
            );
        }
        println!("\nEvery check counted exactly the pings that were answered.");
    }

    pub fn json(&self) -> Value {
        let runs = self.runs.iter().map(|run| {
            json!({
                "request": run.kind.name(), "connections": run.kind.connections, "round": run.round + 1,
                "per_sec": run.per_sec, "p50_ms": run.p50_ms, "p99_ms": run.p99_ms, "max_ms": run.max_ms,
                "cpu_us": run.cpu_us, "database_us": run.database_us, "own_cpu_share": run.own_cpu_share, "answers": run.answers,
                "refused": run.refused,
            })
        });
        let medians = self.summaries().into_iter().map(|row| {
            json!({
                "request": row.kind.name(), "connections": row.kind.connections, "per_sec": row.per_sec,
                "throughput_ratio": row.throughput_ratio, "cpu_us": row.cpu_us, "cpu_ratio": row.cpu_ratio, "database_us": row.database_us,
                "p50_ms": row.p50_ms, "p99_ms": row.p99_ms, "max_ms": row.max_ms,
                "own_cpu_share": row.own_cpu_share, "refused": row.refused,
            })
        });
        let notes = self
            .notes
            .iter()
            .map(|(what, value, unit)| json!({ "what": what, "value": value, "unit": unit }));
        json!({
            "checks": self.checks, "flush_ms": self.flush_ms(), "medians": medians.collect::<Vec<_>>(),
            "runs": runs.collect::<Vec<_>>(), "notes": notes.collect::<Vec<_>>(),
        })
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (below, above) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    match (values.get(below), values.get(above)) {
        (Some(below), Some(above)) => f64::midpoint(*below, *above),
        _ => f64::NAN,
    }
}
