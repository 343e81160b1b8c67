//! `allswell run` and the relay it may leave behind: settings read here, the work done in crate `runner`.
//!
//! Nothing here may keep the job from running. Mistakes in flags are refused, since somebody is there who typed them;
//! whatever else is wrong is said, and the job runs unreported.

mod settings;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use allswell_runner::{Plan, Proxies, Report, TAIL_BYTES_DEFAULT, WAIT_SECS_DEFAULT};

use crate::cli::RunArguments;
use crate::system;

pub use settings::VARIABLES;
use settings::{Layer, Settings};

/// Runs the job and gives its exit status; where it was ended by a signal, this process ends by the same.
pub fn run(arguments: RunArguments, config: Option<&Path>) -> ExitCode {
    let RunArguments { flags, command, .. } = arguments;
    let variables = environment();
    let (settings, complaints) = Settings::load(Layer::of_flags(flags), config, &variables);
    for complaint in complaints {
        eprintln!("allswell run: {complaint}");
    }
    let ended = match settings.and_then(|settings| report(settings, &variables)) {
        Ok((report, say)) => allswell_runner::run(Plan { command, report, say }),
        Err(problem) => {
            eprintln!("allswell run: {problem}; the job runs unreported");
            allswell_runner::run_unreported(&command)
        }
    };
    ended.exit_code()
}

/// Passes on what a daemon writes that outlived its job.
pub fn relay() -> ExitCode {
    allswell_runner::relay();
    ExitCode::SUCCESS
}

/// How to report, and whether to say what could not be reported.
fn report(settings: Settings, variables: &BTreeMap<OsString, OsString>) -> Result<(Report, bool), String> {
    let tail_bytes = settings.tail_bytes.unwrap_or(TAIL_BYTES_DEFAULT);
    let variable = |name: &str| variables.get(&OsString::from(name))?.clone().into_string().ok();
    let report = Report {
        address: settings.address,
        ping_key: settings.ping_key,
        create: settings.create,
        wish: settings.wish,
        start: settings.start,
        alive_every: settings.alive_secs.map(Duration::from_secs),
        within: Duration::from_secs(settings.wait_secs.unwrap_or(WAIT_SECS_DEFAULT)),
        tail_bytes: if settings.output { tail_bytes } else { 0 },
        proxies: Proxies::of(variable),
        dice: system::dice().map_err(|error| format!("{error:#}"))?,
    };
    Ok((report, !settings.quiet))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the environment of a client is read here, once, and passed down"
)]
fn environment() -> BTreeMap<OsString, OsString> {
    std::env::vars_os().collect()
}
