//! The command line `ubdlab`. Reports go to stdout, everything else to stderr. The exit
//! status is 0 if all is well, 1 if a violation or a difference was found, 2 for wrong usage
//! and 3 if an operation failed.

mod bench;
mod demo;
mod fuzz;
mod generate;
mod image;
mod output_file;
mod page;
mod progress;
mod reading;
mod replay;
mod shell;
mod stat;
mod terminal;
mod trace;
mod writing;

use std::borrow::Cow;
use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Parser, Subcommand};

/// A test bed for User-Mode Linux's copy-on-write block driver, and the resize its users
/// never had
#[derive(Debug, Parser)]
#[command(name = "ubdlab", version, max_term_width = 100)]
#[command(after_long_help = "\
Examples:
  ubdlab demo
  ubdlab image resize root.cow +2G --dry-run
  ubdlab replay traces/sqlite-wal.ubdtrace --resize-at 1000:1G
  ubdlab trace info traces/sqlite-wal.ubdtrace

Exit status: 0 all is well, 1 a violation or a difference was found, 2 wrong usage, 3 an operation
failed. Reports go to standard output, everything else to standard error.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Replay(replay::Args),
    Fuzz(fuzz::Args),
    #[command(subcommand)]
    Image(image::Command),
    #[command(subcommand)]
    Bench(bench::Command),
    #[command(subcommand)]
    Trace(trace::Command),
    Completions(shell::Completions),
    Man(shell::Man),
}

/// How a command that could be carried out ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    ViolationFound,
    /// Of `image check`, which has the exit statuses of `qemu-img check`.
    NotChecked,
    Corrupt,
    Leaks,
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
    report_file_size_limits();
    // clap prints help to stdout with status 0, errors to stderr with status 2.
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Demo(args) => demo::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Image(command) => image::run(&command),
        Command::Bench(command) => bench::run(&command),
        Command::Trace(command) => trace::run(&command),
        Command::Completions(args) => shell::completions(&args),
        Command::Man(args) => shell::man(&args),
    };
    match result {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::ViolationFound | Verdict::NotChecked) => ExitCode::from(1),
        Ok(Verdict::Corrupt) => ExitCode::from(2),
        Ok(Verdict::Leaks) => ExitCode::from(3),
        Err(Failure(message)) => {
            eprintln!("ubdlab: {message}");
            ExitCode::from(3)
        }
    }
}

/// A write past the limit that `ulimit -f` sets kills a process, unless it catches the signal:
/// then the write fails, and is reported like any other.
fn report_file_size_limits() {
    let reached = Arc::new(AtomicBool::new(false));
    // Without it the program runs as well, as long as no limit is reached.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, reached);
}

/// What the operating system said, without the random name that tempfile adds.
fn without_path(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" at path ") {
        Some((cause, _)) => cause.to_owned(),
        None => text,
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
    print(format_args!("{}\n", escaped(&text)));
    Ok(())
}

/// The same JSON without a character in it that a terminal would obey. (JSON itself escapes those
/// below U+0020 only.) Such a one can only stand in a string.
fn escaped(json: &str) -> Cow<'_, str> {
    let obeyed = |c: char| c != '\n' && driver::is_control(c);
    if !json.contains(obeyed) {
        return Cow::Borrowed(json);
    }
    let mut text = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        match obeyed(character) {
            true => text += &format!("\\u{:04x}", u32::from(character)),
            false => text.push(character),
        }
    }
    Cow::Owned(text)
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
