//! How far a tool has come, on a terminal; and Ctrl-C, which stops it where it does no harm.

use std::ops::ControlFlow;
use std::path::Path;

use driver::units::Bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use userhelper::image::{ImageError, Wait, Watcher};

use super::super::interrupt::{self, Interrupt};
use super::super::{Failure, output};

/// What to say of a tool that was to make a new file, for [`Watching::explain`].
pub(super) const NOT_MADE: &str = "no new file was made";

/// Watches one tool.
pub(super) struct Watching {
    bar: ProgressBar,
    interrupt: Interrupt,
    told_too_long: bool,
}

impl Watching {
    /// A bar with this message. From now on the first SIGINT or SIGTERM stops the tool at its
    /// next step, and a second one ends the process.
    pub(super) fn new(message: &'static str) -> Watching {
        // Hidden by itself when stderr is no terminal. A bar of length 0 is drawn full.
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) =
            ProgressStyle::with_template("{msg:24} {wide_bar} {bytes}/{total_bytes} {eta:>4}")
        {
            bar.set_style(style);
        }
        bar.set_message(message);
        interrupt::show(&bar);
        Watching {
            bar,
            interrupt: Interrupt::catch(),
            told_too_long: false,
        }
    }

    /// What to say when the tool was stopped: `way_out` is the rest of the sentence.
    pub(super) fn explain(error: ImageError, path: &Path, way_out: &str) -> Failure {
        match error {
            ImageError::Interrupted => Failure(format!(
                "{}: interrupted: nothing is lost, and {way_out}",
                driver::shown(path)
            )),
            error => error.into(),
        }
    }
}

impl Watcher for Watching {
    fn progress(&mut self, done: Bytes, total: Bytes) -> ControlFlow<()> {
        self.bar.set_length(total.0);
        self.bar.set_position(done.0);
        self.goes_on()
    }

    /// A wait of one second is over before anybody can read of it, so it is told only where
    /// errors go to a terminal.
    fn waits(&mut self, wait: Wait<'_>) {
        let (seconds, backing) = (wait.seconds, driver::shown(wait.backing));
        if wait.too_long {
            // Each step of a change finds that again.
            if !std::mem::replace(&mut self.told_too_long, true) {
                self.say(format_args!(
                    "{backing} was modified {seconds} s ahead of the clock, which is too long to \
                     wait: if this is interrupted, a COW file that has recorded the present second \
                     as its time takes it"
                ));
            }
        } else if seconds > 1 || output::errors_go_to_terminal() {
            self.say(format_args!(
                "waiting {seconds} s: until then, what is written could give {backing} back a time \
                 that a COW file has recorded"
            ));
        }
    }

    fn goes_on(&mut self) -> ControlFlow<()> {
        match self.interrupt.is_asked() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

impl Watching {
    /// Says something without the bar in its way.
    fn say(&self, text: std::fmt::Arguments<'_>) {
        self.bar.suspend(|| output::remark(text));
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        interrupt::clear_bar();
    }
}
