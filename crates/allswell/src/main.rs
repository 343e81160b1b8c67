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
    let arguments = cli::Arguments::parse();
    // A client's work, with an exit status of its own.
    let arguments = match arguments.command {
        cli::Command::Run(job) => return commands::run::run(job, arguments.config.as_deref()),
        cli::Command::Relay => return commands::run::relay(),
        _ => arguments,
    };
    match commands::run(arguments) {
        Ok(status) => status,
        Err(error) => {
            // Who pipes our answers into something that stopped reading did not meet an error.
            if system::is_broken_pipe(&error) {
                return ExitCode::SUCCESS;
            }
            eprintln!("allswell: {error:#}");
            ExitCode::FAILURE
        }
    }
}
