//! `make sim`: tells stories of fresh seeds, one after the other on each core, until the time is over.

#[expect(
    clippy::disallowed_methods,
    reason = "a bound on real time, which no story sees"
)]
mod clock {
    /// How long the program has run.
    pub(crate) struct Stopwatch(std::time::Instant);

    impl Stopwatch {
        pub(crate) fn start() -> Self {
            Stopwatch(std::time::Instant::now())
        }

        pub(crate) fn secs(&self) -> u64 {
            self.0.elapsed().as_secs()
        }
    }
}

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What was asked for.
struct Wanted {
    /// The first seed; each core then takes the next one.
    seed: u64,
    /// How many seeds at most.
    seeds: u64,
    /// Seconds after which no new story begins.
    secs: u64,
    happenings: u64,
    threads: u64,
    quiet: bool,
    /// A broken rule does not end the others.
    go_on: bool,
}

const HELP: &str =
    "make sim ARGS='[--seed N] [--seeds N] [--secs N] [--happenings N] [--threads N] [--quiet] [--go-on]'
  --seed        the first seed; without --seeds it is the only one (default: a fresh one, and more of them)
  --seeds       how many seeds, one after the other (default: as many as fit into the time)
  --secs        seconds after which no new story begins (default 60)
  --happenings  length of each story (default 3000)
  --threads     stories at the same time (default 2)
  --quiet       no line for each story
  --go-on       tell the others too when a story breaks a rule";

fn wanted(args: impl Iterator<Item = String>) -> Result<Wanted, String> {
    let mut wanted = Wanted {
        seed: allswell_sim::fresh_seed(),
        seeds: u64::MAX,
        secs: 60,
        happenings: 3_000,
        threads: 2,
        quiet: false,
        go_on: false,
    };
    let mut counted = false;
    let mut args = args.skip(1);
    while let Some(name) = args.next() {
        if name == "--quiet" {
            wanted.quiet = true;
            continue;
        }
        if name == "--go-on" {
            wanted.go_on = true;
            continue;
        }
        let mut number = || -> Result<u64, String> {
            let value = args.next().unwrap_or_default();
            value
                .parse()
                .map_err(|_| format!("{name} wants a number\n{HELP}"))
        };
        match name.as_str() {
            "--seed" => {
                wanted.seed = number()?;
                if !counted {
                    wanted.seeds = 1;
                }
            }
            "--seeds" => {
                wanted.seeds = number()?;
                counted = true;
            }
            "--secs" => wanted.secs = number()?,
            "--happenings" => wanted.happenings = number()?,
            "--threads" => wanted.threads = number()?.max(1),
            _ => return Err(HELP.to_owned()),
        }
    }
    Ok(wanted)
}

fn main() -> ExitCode {
    let wanted = match wanted(std::env::args()) {
        Ok(wanted) => wanted,
        Err(help) => {
            eprintln!("{help}");
            return ExitCode::from(2);
        }
    };
    let watch = clock::Stopwatch::start();
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let printing = Mutex::new(());
    let told = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..wanted.threads {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= wanted.seeds
                        || (n > 0 && watch.secs() >= wanted.secs)
                        || (!wanted.go_on && failed.load(Ordering::Relaxed))
                    {
                        return;
                    }
                    let seed = wanted.seed.wrapping_add(n);
                    let story = allswell_sim::tell(seed, wanted.happenings);
                    let _one_at_a_time = printing.lock();
                    match story {
                        Ok(report) => {
                            told.fetch_add(1, Ordering::Relaxed);
                            if !wanted.quiet {
                                println!("seed {seed}: {report}");
                            }
                        }
                        Err(failure) => {
                            failed.store(true, Ordering::Relaxed);
                            println!("{failure}\nseed {seed} breaks the rule: {}", failure.broken.rule);
                        }
                    }
                }
            });
        }
    });
    let told = told.into_inner();
    println!(
        "{told} stories in {} s kept every rule, from seed {} on",
        watch.secs(),
        wanted.seed
    );
    if failed.into_inner() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
