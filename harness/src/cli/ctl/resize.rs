//! `ubdlab ctl SOCKET resize`.

use driver::units::Bytes;
use driver::{OneLine, shell_path};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::figures::size;
use crate::serve::ResizeStatus;
use crate::serve::control::{Answer, Asking, Request};

use super::super::interrupt::{self, Interrupt};
use super::super::resize_arg::{ResizeArgs, print_plan};
use super::super::size_change::SizeChange;
use super::super::{Failure, Verdict, output};
use super::{lost, unexpected};

/// Grow or shrink the device while it is served
///
/// Requests are served meanwhile. The ways are those of `ubdlab image resize`. Ctrl-C ends the wait
/// only: the resize goes on in the server. If the server is killed, the device has its old size or
/// the new one, or the next one who opens it finishes the resize. Afterwards grow the file system
/// in it, as by resize2fs in the guest.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab ctl /tmp/root.ctl resize +2G --dry-run
  ubdlab ctl /tmp/root.ctl resize +2G
  ubdlab ctl /tmp/root.ctl resize 20G --strategy reflow
  ubdlab ctl /tmp/root.ctl resize -1G --shrink

There is no --extend-backing here: only stock UML needs a backing file as large as the device, and
it cannot have the device while it is served. Every other COW file over that backing file is refused
from then on. Stop the server, and then: ubdlab image resize root.cow SIZE --extend-backing")]
pub(super) struct Args {
    #[command(flatten)]
    resize: ResizeArgs,

    /// Do not wait for the end: it is planned, and goes on in the server
    #[arg(long)]
    detach: bool,

    /// Say what would be done, and do nothing
    ///
    /// Until the resize is asked for, requests may change what it takes.
    #[arg(long, conflicts_with = "detach")]
    dry_run: bool,
}

impl Args {
    fn request(&self) -> Result<Request, Failure> {
        let signed = |bytes: Bytes| {
            i64::try_from(bytes.0).map_err(|_| Failure(format!("no device changes by {bytes}")))
        };
        let (size_bytes, change_bytes) = match self.resize.size {
            SizeChange::To(size) => (Some(size.0), None),
            SizeChange::By(more) => (None, Some(signed(more)?)),
            SizeChange::Less(less) => (None, Some(-signed(less)?)),
        };
        let strategy = self.resize.strategy.strategy().map(Into::into);
        let (shrink, lose_data) = (self.resize.shrink, self.resize.lose_data);
        Ok(match self.dry_run {
            true => Request::Plan {
                size_bytes,
                change_bytes,
                strategy,
                shrink,
                lose_data,
            },
            false => Request::Resize {
                size_bytes,
                change_bytes,
                strategy,
                shrink,
                lose_data,
                detach: self.detach,
            },
        })
    }
}

pub(super) fn run(
    asking: &mut Asking,
    args: &Args,
    whole: &super::Args,
) -> Result<Verdict, Failure> {
    let request = args.request()?;
    let interrupt = Interrupt::catch();
    let hang_up = asking.hang_up().map_err(lost)?;
    asking.ask(&request).map_err(lost)?;
    interrupt.wake(hang_up);
    let bar = Bar::new();
    loop {
        let answer = match asking.next_answer() {
            Ok(answer) => answer,
            Err(_) if interrupt.is_asked() => {
                return Err(Failure(format!(
                    "interrupted: the resize goes on in the server, and `ubdlab ctl {} status` \
                     tells how far it is",
                    shell_path(&whole.socket)
                )));
            }
            Err(error) => return Err(lost(error)),
        };
        match &answer {
            Answer::Resizing(status) => bar.update(status),
            Answer::Resized(_) | Answer::Detached(_) | Answer::Planned(_) if whole.json => {
                drop(bar);
                output::json(&answer)?;
                return Ok(Verdict::Good);
            }
            Answer::Resized(resized) => {
                drop(bar);
                remark_on(&resized.notes);
                output::line(format_args!(
                    "{} to {} by {}, {} moved",
                    Bytes(resized.old_size_bytes),
                    Bytes(resized.new_size_bytes),
                    OneLine(&resized.strategy),
                    size(resized.moved_bytes)
                ));
                return Ok(Verdict::Good);
            }
            Answer::Detached(status) => {
                drop(bar);
                remark_on(&status.notes);
                output::line(format_args!(
                    "{} to {} by {}: it goes on in the server",
                    Bytes(status.old_size_bytes),
                    Bytes(status.new_size_bytes),
                    OneLine(status.strategy.as_deref().unwrap_or("whatever is cheapest")),
                ));
                return Ok(Verdict::Good);
            }
            Answer::Planned(plan) => {
                drop(bar);
                print_plan(plan, args.resize.strategy);
                return Ok(Verdict::Good);
            }
            other => return Err(unexpected(other)),
        }
    }
}

/// Says what a resize costs beside time and space.
fn remark_on(notes: &[String]) {
    for note in notes {
        output::remark(format_args!("note: {}", OneLine(note)));
    }
}

/// A bar on a terminal, and nothing elsewhere.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Bar {
        // Hidden by itself when stderr is no terminal. A bar of length 0 is drawn full.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) =
            ProgressStyle::with_template("{msg:24} {wide_bar} {bytes}/{total_bytes} {eta:>4}")
        {
            bar.set_style(style);
        }
        bar.set_message("planning");
        interrupt::show(&bar);
        Bar(bar)
    }

    fn update(&self, status: &ResizeStatus) {
        if let Some(strategy) = &status.strategy {
            self.0.set_message(OneLine(strategy).to_string());
        }
        let most = status.to_move_bytes.unwrap_or_default();
        self.0.set_length(most.max(status.moved_bytes));
        self.0.set_position(status.moved_bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        interrupt::clear_bar();
    }
}
