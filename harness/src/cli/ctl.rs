//! `ubdlab ctl`: what a running `ubdlab serve` is told through its control socket.

mod record;
mod resize;
mod status;

use std::path::PathBuf;

use clap::Subcommand;

use crate::serve::control::{Answer, Asking, NoAnswer, Request};

use super::{Failure, Verdict, output};

pub(super) use record::RecordedText;

/// Look at a device that is served, grow it, record it, stop it
///
/// SOCKET is what --control of `ubdlab serve` names. Each command waits until it is done, and ends
/// with status 3 and the server's words if it fails.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab ctl /tmp/root.ctl status
  ubdlab ctl /tmp/root.ctl resize +2G
  ubdlab ctl /tmp/root.ctl record boot.ubdtrace
  ubdlab ctl /tmp/root.ctl stop")]
pub(super) struct Args {
    /// The control socket of the server
    socket: PathBuf,

    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say how the device is doing
    ///
    /// Size, state, clients, requests in flight, the latest resize and the recording. After a
    /// failed sync it says so each time.
    #[command(after_long_help = "\
Examples:
  ubdlab ctl /tmp/root.ctl status
  ubdlab ctl /tmp/root.ctl status --json")]
    Status,
    Resize(resize::Args),
    Record(record::Args),
    /// Make everything durable that was done before
    #[command(after_long_help = "\
Examples:
  ubdlab ctl /tmp/root.ctl flush")]
    Flush,
    /// End the server, and wait until the device is closed
    ///
    /// The server takes no more requests, answers those in flight, makes everything durable and
    /// closes the device. A resize under way is given up, and the device is as before; a reflow
    /// that has moved something is finished by whoever opens the device next.
    #[command(after_long_help = "\
Examples:
  ubdlab ctl /tmp/root.ctl stop")]
    Stop,
}

pub(super) fn run(args: &Args) -> Result<Verdict, Failure> {
    let mut asking = Asking::connect(&args.socket).map_err(lost)?;
    match &args.command {
        Command::Status => status::run(&mut asking, args.json),
        Command::Resize(resize) => resize::run(&mut asking, resize, args),
        Command::Record(record) => record::run(&mut asking, record, args.json),
        Command::Flush => simply(
            &mut asking,
            &Request::Flush {},
            args.json,
            "everything is durable",
        ),
        Command::Stop => simply(
            &mut asking,
            &Request::Stop {},
            args.json,
            "stopped: everything is durable, and the device is closed",
        ),
    }
}

/// Why there is no answer, in words for the user.
fn lost(error: NoAnswer) -> Failure {
    Failure::operation(error)
}

/// Asks for what is just done or not.
fn simply(
    asking: &mut Asking,
    request: &Request,
    json: bool,
    done: &str,
) -> Result<Verdict, Failure> {
    asking.ask(request).map_err(lost)?;
    let answer = asking.next_answer().map_err(lost)?;
    match &answer {
        Answer::Flushed(true) | Answer::Stopped(true) if json => output::json(&answer)?,
        Answer::Flushed(true) | Answer::Stopped(true) => output::line(done),
        other => return Err(unexpected(other)),
    }
    Ok(Verdict::Good)
}

/// The answer to something else.
fn unexpected(answer: &Answer) -> Failure {
    Failure(format!("found an answer to another request: {answer:?}"))
}
