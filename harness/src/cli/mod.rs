//! The command line `ubdlab`. Reports go to stdout, everything else to stderr. The exit
//! status is 0 if all is well, 1 if a violation or a difference was found, 2 for wrong usage
//! and 3 if an operation failed.

mod demo;
mod progress;
mod replay;
mod trace;

use std::fmt;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A test bed for User-Mode Linux's copy-on-write block driver, and the resize its users
/// never had.
#[derive(Debug, Parser)]
#[command(name = "ubdlab", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Replay(replay::Args),
    #[command(subcommand)]
    Trace(trace::Command),
}

/// How a command that could be carried out ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    ViolationFound,
}

/// An operation that failed, in words for the user. (Wrong usage ends in clap.)
#[derive(Debug)]
struct Failure(String);

impl Failure {
    fn operation(error: impl fmt::Display) -> Failure {
        Failure(error.to_string())
    }
}

/// Runs the program on the process's arguments.
pub fn main() -> ExitCode {
    // clap prints help to stdout with status 0, errors to stderr with status 2.
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Demo(args) => demo::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Trace(command) => trace::run(&command),
    };
    match result {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::ViolationFound) => ExitCode::from(1),
        Err(Failure(message)) => {
            eprintln!("ubdlab: {message}");
            ExitCode::from(3)
        }
    }
}

/// Prints to stdout. A reader that went away is no failure of ours: `ubdlab ... | head`.
fn print(text: impl fmt::Display) {
    use std::io::Write;
    let _ = write!(std::io::stdout().lock(), "{text}");
}

/// Prints one JSON document.
fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::operation)?;
    print(format_args!("{text}\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
