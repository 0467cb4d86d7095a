//! The command line `ubdlab`. Reports go to stdout, everything else to stderr. The exit
//! status is 0 if all is well, 1 if a violation or a difference was found, 2 for wrong usage,
//! 3 if an operation failed and 128 + n if signal n ended it.

mod amx_preload;
mod bench;
mod checkpoint_file;
mod crash;
mod ctl;
mod demo;
mod descriptor;
mod device_arg;
mod document;
mod driver_arg;
mod fuzz;
mod generate;
mod image;
mod interrupt;
mod kernel_guest;
mod made_files;
mod output;
mod output_file;
mod own_files;
mod page;
mod paths;
mod progress;
mod reading;
mod replay;
mod resize_arg;
mod serve;
mod shell;
mod size_change;
mod startup;
mod stat;
mod teller;
mod temporary;
mod terminal;
mod trace;
mod trace_file;
mod uml_programs;
mod writing;

use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Parser, Subcommand};
use userhelper::unfinished;

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
failed, 128 + n ended by signal n. Reports go to standard output, everything else to standard
error.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Replay(replay::Args),
    Serve(serve::Args),
    Ctl(ctl::Args),
    Fuzz(fuzz::Args),
    Crash(crash::Args),
    #[command(subcommand)]
    Image(image::Command),
    #[command(subcommand)]
    Bench(bench::Command),
    #[command(subcommand)]
    Trace(trace::Command),
    AmxPreload(amx_preload::Args),
    Completions(shell::Completions),
    Man(shell::Man),
}

/// How a command that could be carried out ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    ViolationFound,
    /// Of `image check`, which has the exit statuses of `qemu-img check`, as [`Verdict::Leaks`].
    Corrupt,
    Leaks,
    /// What the command line asks for is not there, which only the command can know. It has said
    /// so.
    WrongUsage,
    /// A signal with this number has ended it early; what it has found so far is reported.
    EndedBySignal(u8),
}

/// The exit status of an operation that failed.
const OPERATION_FAILED: u8 = 3;

/// An operation that failed, in words for the user. (Wrong usage ends in clap.)
#[derive(Debug)]
struct Failure(String);

impl Failure {
    fn operation(error: impl fmt::Display) -> Failure {
        Failure(error.to_string())
    }
}

/// What is asked for cannot be had together: says so. Nothing has been done.
fn wrong_usage(what: String) -> Verdict {
    output::failure(&Failure(what));
    Verdict::WrongUsage
}

/// Runs the program on the process's arguments.
pub fn main() -> ExitCode {
    if let Some(status) = crate::crash::be_init_if_asked() {
        return status;
    }
    crate::serve::handed_over::note();
    report_file_size_limits();
    interrupt::install();
    if kernel_guest::is_asked_for() {
        return kernel_guest::run();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help with status 0, what is wrong with the command line with status 2.
        Err(error) => return ExitCode::from(output::usage(error)),
    };
    let failed = match &cli.command {
        Command::Image(command) => command.status_of_failure(),
        _ => OPERATION_FAILED,
    };
    let result = match cli.command {
        Command::Demo(args) => demo::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Serve(args) => serve::run(args),
        Command::Ctl(args) => ctl::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Crash(args) => crash::run(&args),
        Command::Image(command) => image::run(&command),
        Command::Bench(command) => bench::run(&command),
        Command::Trace(command) => trace::run(&command),
        Command::AmxPreload(args) => amx_preload::run(&args),
        Command::Completions(args) => shell::completions(&args),
        Command::Man(args) => shell::man(&args),
    };
    if !matches!(result, Ok(Verdict::Good | Verdict::ViolationFound)) {
        unfinished::wait_if_ending();
    }
    let result = result.and_then(|verdict| output::complete().map(|()| verdict));
    match result {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::ViolationFound) => ExitCode::from(1),
        Ok(Verdict::Corrupt | Verdict::WrongUsage) => ExitCode::from(2),
        Ok(Verdict::Leaks) => ExitCode::from(3),
        Ok(Verdict::EndedBySignal(number)) => ExitCode::from(128 + number),
        Err(failure) => {
            output::failure(&failure);
            let status = interrupt::signal().map_or(failed, |number| 128 + number);
            ExitCode::from(status)
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
    let cause = text.split_once(" at path ").map(|(cause, _)| cause);
    driver::system_words(cause.unwrap_or(&text))
}
