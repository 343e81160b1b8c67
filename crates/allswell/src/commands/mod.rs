//! The commands, one file per noun. Each opens the store beside a running server and ends.

mod api_key;
mod backup;
mod channel;
mod check;
mod delivery;
mod doctor;
mod keys;
mod keys_rotate;
mod migrate;
mod outbound;
mod project;
mod routes;
pub mod run;
mod schedule;
mod secret;
pub mod start_link;
mod user;
mod watchdog;

use std::process::ExitCode;

use allswell_core::id::ProjectId;
use allswell_core::scope::{ProjectScope, SystemScope};
use allswell_engine::channels::Fault;
#[cfg(debug_assertions)]
use allswell_engine::failpoint::{self, failpoint};
use allswell_store::audit::Act;
use allswell_store::{Error, Reader};
use anyhow::{Result, anyhow};

use crate::cli::{
    ApiKeyCommand, Arguments, CheckCommand, Command, ConfigCommand, DoctorArguments, KeysCommand, OnOff,
    ProjectCommand, ScheduleCommand, UserCommand,
};
use crate::config::{Config, Loaded, config_check, config_example, config_show};
use crate::{readers, serve, system, tzdata};

/// How a command answers.
#[derive(Copy, Clone)]
pub struct Answer {
    json: bool,
}

impl Answer {
    /// Whether JSON was asked for.
    const fn is_json(self) -> bool {
        self.json
    }

    /// Prints the answer: as JSON, or as lines for people.
    fn give(self, value: &serde_json::Value, lines: &str) -> Result<()> {
        if self.json {
            system::print(&format!("{}\n", json_for_terminals(value)))
        } else {
            system::print(lines)
        }
    }
}

/// Rows for a terminal under their headings, each column as wide as its widest text. What is empty shows as `-`.
fn table<const N: usize>(headings: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut rows: Vec<[String; N]> = rows.collect();
    rows.insert(0, headings.map(str::to_owned));
    let wide = |text: &str| text.chars().count();
    let widths: [usize; N] =
        std::array::from_fn(|n| rows.iter().map(|row| wide(&row[n]).max(1)).max().unwrap_or(1));
    let mut lines = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(text, width)| {
            let shown = if text.is_empty() { "-" } else { text };
            format!("{shown}{}", " ".repeat(width - wide(shown)))
        });
        lines.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        lines.push('\n');
    }
    lines
}

/// JSON whose strings hold no control characters as they are: some terminals obey those above ASCII too.
fn json_for_terminals(value: &serde_json::Value) -> String {
    let text = value.to_string();
    let escape = |c: char| match c {
        '\u{7f}'..='\u{9f}' => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    if text.chars().any(|c| matches!(c, '\u{7f}'..='\u{9f}')) {
        text.chars().map(escape).collect()
    } else {
        text
    }
}

/// Faults of what was typed, field by field.
#[derive(Debug)]
struct Faulty(Vec<Fault>);

impl std::fmt::Display for Faulty {
    /// Whoever runs the binary may know what was refused and what would allow it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let line = |fault: &Fault| format!("{}: {}", printable(&fault.field), printable(told(fault)));
        f.write_str(&self.0.iter().map(line).collect::<Vec<_>>().join("\n"))
    }
}

impl std::error::Error for Faulty {}

fn told(fault: &Fault) -> &str {
    fault.for_administrators.as_deref().unwrap_or(&fault.sentence)
}

/// Says on standard error why a command failed: in words, or in JSON where that was asked for.
pub fn say_failure(error: &anyhow::Error, json: bool) {
    if !json {
        eprintln!("allswell: {error:#}");
        return;
    }
    let mut value = serde_json::json!({ "error": format!("{error:#}") });
    if let Some(Faulty(faults)) = error.downcast_ref() {
        let fields = faults.iter().map(
            |fault| serde_json::json!({ "field": fault.field, "rule": fault.rule, "detail": told(fault) }),
        );
        value["errors"] = fields.collect();
    }
    eprintln!("{}", json_for_terminals(&value));
}

/// Runs what was typed; gives the status to end with.
pub fn run(arguments: Arguments) -> Result<ExitCode> {
    if let Command::Doctor(wanted) = &arguments.command {
        return run_doctor(&arguments, wanted);
    }
    run_and_succeed(arguments).map(|()| ExitCode::SUCCESS)
}

/// The one command whose answer is also its status.
fn run_doctor(arguments: &Arguments, wanted: &DoctorArguments) -> Result<ExitCode> {
    let answer = Answer { json: arguments.json };
    match load(arguments) {
        Ok(loaded) => runtime()?.block_on(doctor::run(&loaded, answer, wanted)),
        Err(error) => doctor::configuration_is_broken(answer, &format!("{error:#}")),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

fn run_and_succeed(arguments: Arguments) -> Result<()> {
    let answer = Answer { json: arguments.json };
    // These need no configuration.
    match &arguments.command {
        Command::Config(ConfigCommand::Example) => return system::print(&config_example()),
        Command::Routes => return routes::print(answer),
        Command::Keys(KeysCommand::Generate { name }) => return keys::generate(name),
        _ => {}
    }
    let loaded = load(&arguments)?;
    match arguments.command {
        Command::Config(ConfigCommand::Check) => {
            readers::try_all(&loaded.config)?;
            return system::print(&config_check(&loaded));
        }
        Command::Schedule(ScheduleCommand::Next {
            expr,
            tz,
            after,
            count,
            stdin,
        }) => {
            let (zones, count) = (tzdata::zones(&loaded.config)?, usize::from(count));
            return if stdin {
                schedule::next_of_lines(count, &zones)
            } else {
                schedule::next(
                    &expr.unwrap_or_default(),
                    &tz,
                    after.as_deref(),
                    count,
                    &zones,
                    answer,
                )
            };
        }
        Command::Config(_) => return system::print(&config_show(&loaded, answer.json)),
        Command::Backup { file } => return backup::run(&loaded.config, answer, &file),
        _ => {}
    }
    runtime()?.block_on(async move {
        let config = &loaded.config;
        match arguments.command {
            Command::Serve => serve::run(loaded).await,
            Command::Watchdog => watchdog::run(config, answer).await,
            Command::Migrate => migrate::run(config, answer).await,
            Command::Keys(KeysCommand::Rotate { name, retire }) => {
                keys_rotate::rotate(config, answer, name, retire).await
            }
            Command::Keys(KeysCommand::Retire { name }) => keys_rotate::retire(config, answer, &name).await,
            Command::Keys(_) => keys::list(config, answer).await,
            Command::User(UserCommand::Create {
                email,
                admin,
                password_file,
                check_limit,
            }) => user::create(config, answer, &email, admin, &password_file, check_limit).await,
            Command::Project(ProjectCommand::Create { owner, name }) => {
                project::create(config, answer, owner, name).await
            }
            Command::Project(ProjectCommand::List) => project::list(config, answer).await,
            Command::Project(ProjectCommand::RequireHmac { project, required }) => {
                project::require_hmac(config, answer, project, required == OnOff::On).await
            }
            Command::Project(ProjectCommand::RequirePingKey { project, required }) => {
                project::require_ping_key(config, answer, project, required == OnOff::On).await
            }
            Command::ApiKey(command @ ApiKeyCommand::Create { .. }) => {
                api_key::create(config, answer, command).await
            }
            Command::ApiKey(ApiKeyCommand::List { project }) => api_key::list(config, answer, project).await,
            Command::ApiKey(ApiKeyCommand::Revoke(one)) => api_key::revoke(config, answer, one).await,
            Command::ApiKey(ApiKeyCommand::Regenerate { key, overlap }) => {
                api_key::regenerate(config, answer, key, overlap).await
            }
            Command::Check(command @ CheckCommand::Create { .. }) => {
                check::create(config, answer, command).await
            }
            Command::Check(CheckCommand::List { project }) => check::list(config, answer, project).await,
            Command::Check(CheckCommand::Update(edit)) => check::update(config, answer, *edit).await,
            Command::Check(CheckCommand::Show(one)) => check::show(config, answer, one).await,
            Command::Check(CheckCommand::Ping { one, n }) => check::ping(config, answer, one, n).await,
            Command::Check(CheckCommand::Pause { one, until }) => {
                check::pause(config, answer, one, until).await
            }
            Command::Check(CheckCommand::Resume(one)) => check::resume(config, answer, one).await,
            Command::Channel(command) => channel::run(config, answer, command).await,
            Command::Delivery(command) => delivery::run(config, answer, command).await,
            Command::Secret(command) => secret::run(config, answer, command).await,
            Command::Outbound(command) => outbound::check(config, answer, command).await,
            Command::StartLink => start_link::print(&loaded, answer).await,
            Command::Backup { .. }
            | Command::Config(_)
            | Command::Doctor(_)
            | Command::Routes
            | Command::Schedule(_)
            | Command::Run(_) => {
                unreachable!("answered above")
            }
        }
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is where the environment is read, once"
)]
fn load(arguments: &Arguments) -> Result<Loaded> {
    // Only a debug build has failpoints; in any other the name is unknown, as it should be.
    #[cfg(debug_assertions)]
    if let Ok(wanted) = std::env::var(crate::config::FAILPOINT_VARIABLE) {
        failpoint::arm(&wanted).map_err(|why| anyhow!("{}: {why}", crate::config::FAILPOINT_VARIABLE))?;
        allswell_outbound::on_request_written(|| failpoint("after_request_written"));
    }
    Config::load(arguments.config.as_deref(), std::env::vars_os()).map_err(|errors| anyhow!("{errors}"))
}

/// The scope of a project that exists. The operator may see them all.
async fn scope_of(reader: &mut Reader<'_>, project: ProjectId) -> Result<ProjectScope> {
    let found = reader.project(SystemScope::operator(), project).await?;
    found
        .map(|project| ProjectScope::granted(project.id))
        .ok_or_else(|| {
            anyhow!("--project: there is no project {project}; `allswell project list` shows those there are")
        })
}

/// An act of whoever runs the binary.
fn operators_act(
    at: allswell_core::time::Timestamp,
    project: Option<ProjectId>,
    action: &'static str,
    target: String,
) -> Act {
    Act {
        at,
        project,
        actor: "operator".to_owned(),
        action,
        target,
        data: String::new(),
    }
}

/// A name that people read: not empty, not too long, without control characters.
fn name_for_people(flag: &str, name: &str) -> Result<String> {
    let name = name.trim();
    let bound = allswell_core::limits::NAME_CHARS_MAX;
    if name.is_empty() {
        return Err(anyhow!("{flag} is empty"));
    }
    if name.chars().count() > bound {
        return Err(anyhow!("{flag} is longer than {bound} characters"));
    }
    if name.chars().any(char::is_control) {
        return Err(anyhow!("{flag} holds control characters"));
    }
    Ok(name.to_owned())
}

/// Text in a column of a table for terminals: control characters escaped.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect()
}

/// So many of something, in words that fit one as well.
fn counted(count: i64, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}

/// A conflict in the store means that somebody was first; the sentence says with what.
fn conflict_means(error: Error, sentence: String) -> anyhow::Error {
    match error {
        Error::Conflict(_) => anyhow!(sentence),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = [["1", "ü", "x"], ["22", "", ""]].map(|row| row.map(str::to_owned));
        assert_eq!(
            table(["n", "name", "more"], rows.into_iter()),
            "n   name  more\n1   ü     x\n22  -     -\n"
        );
    }

    #[test]
    fn json_moves_no_cursor() {
        let value = serde_json::json!({ "ua": "a\u{9b}31m\u{7f}é" });
        let text = json_for_terminals(&value);
        assert_eq!(text, r#"{"ua":"a\u009b31m\u007fé"}"#);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).expect("JSON"),
            value
        );
    }
}
