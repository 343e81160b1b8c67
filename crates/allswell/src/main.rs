//! The binary: reads the configuration, wires the rooms together, and offers the command line.
//!
//! Only here are the environment and configuration files read, and only here does randomness of the operating system
//! enter the program.

mod cli;
mod commands;
mod config;
mod house;
mod keyring;
mod notify;
mod outward;
mod readers;
mod serve;
mod system;
mod telemetry;
mod tzdata;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // What `run` leaves behind for a daemon that outlived its job. Nobody types it, so no typo should lead to it.
    if std::env::args_os().skip(1).eq(["relay"]) {
        return commands::run::relay();
    }
    let arguments = cli::Arguments::parse();
    // A client's work, with an exit status of its own.
    let arguments = match arguments.command {
        cli::Command::Run(job) => {
            let config = job.config.clone().or(arguments.config);
            return commands::run::run(job, config.as_deref());
        }
        _ => arguments,
    };
    let json = arguments.json;
    match commands::run(arguments) {
        Ok(status) => status,
        Err(error) => {
            // Who pipes our answers into something that stopped reading did not meet an error.
            if system::is_broken_pipe(&error) {
                return ExitCode::SUCCESS;
            }
            commands::say_failure(&error, json);
            ExitCode::FAILURE
        }
    }
}
