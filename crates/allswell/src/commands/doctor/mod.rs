//! `allswell doctor`: looks whether what the server's promises rest on is there, and says what to do where it is not.
//!
//! It changes nothing: no schema, no file but one that it makes and removes, one row that each start of the server writes
//! too. It works beside a running server. A mail relay is talked to and sent nothing.

mod database;
mod disk;
mod keys;
mod machine;
mod mail;
mod outward;
mod report;

use std::process::ExitCode;

use anyhow::Result;

use super::Answer;
use crate::cli::DoctorArguments;
use crate::config::Loaded;
pub use report::Findings;

/// `allswell doctor`. The exit status: 0 when all is well, 1 with warnings, 2 with failures.
pub async fn run(loaded: &Loaded, answer: Answer, wanted: &DoctorArguments) -> Result<ExitCode> {
    let config = &loaded.config;
    let mut findings = Findings::default();
    for warning in &loaded.warnings {
        findings.warn("configuration", warning, "");
    }
    if loaded.warnings.is_empty() {
        let file = loaded.file.as_ref().map(|file| file.display().to_string());
        findings.ok(
            "configuration",
            &format!(
                "{} is valid",
                file.as_deref().unwrap_or("the environment, with defaults,")
            ),
        );
    }
    machine::site(loaded, &mut findings);
    disk::look(config, &mut findings);
    machine::look(config, &mut findings);
    if let Some(store) = database::look(config, &mut findings).await {
        keys::look(config, store, &mut findings).await;
    } else {
        keys::look_at_file(config, &mut findings);
    }
    let goes_out = wanted.url.is_some() || wanted.mail.mail.is_some();
    // One for both, so that what is wrong with it is told once.
    let door = goes_out.then(|| outward::door(config, &mut findings)).flatten();
    if let (Some(url), Some(door)) = (&wanted.url, &door) {
        outward::look(door, wanted.class, url, &mut findings).await;
    }
    if let (Some(url), Some(door)) = (&wanted.mail.mail, &door) {
        mail::look(config, door, url, &wanted.mail, &mut findings).await;
    }
    findings.give(answer)
}

/// What cannot even be configured is a failure of its own.
pub fn configuration_is_broken(answer: Answer, why: &str) -> Result<ExitCode> {
    let mut findings = Findings::default();
    findings.fail(
        "configuration",
        why.trim_end(),
        "mend the settings; `allswell config check` reads them again",
    );
    findings.give(answer)
}
