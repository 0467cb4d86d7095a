//! A progress bar on a terminal, and nothing elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::replay::session::Progress;

use super::interrupt;

/// Shows how far a session has come.
pub(super) struct Shown {
    bar: ProgressBar,
}

impl Shown {
    /// A bar for a trace of `requests` requests, if that is known.
    pub(super) fn new(requests: Option<u64>) -> Shown {
        // Hidden by itself when stderr is no terminal.
        let target = ProgressDrawTarget::stderr_with_hz(10);
        let bar = ProgressBar::with_draw_target(requests, target);
        let style = match requests {
            Some(_) => "{msg:24} {wide_bar} {percent:>3} %",
            None => "{msg:24} {spinner} {pos}",
        };
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        interrupt::show(&bar);
        Shown { bar }
    }

    /// Shows the new state.
    pub(super) fn update(&self, progress: Progress) {
        match progress {
            Progress::Preparing => self.bar.set_message("making the backing file"),
            Progress::Replayed(requests) => {
                self.bar.set_message("replaying");
                self.bar.set_position(requests);
            }
            Progress::Verified(done, total) => {
                self.bar.set_message("comparing every sector");
                self.bar.set_length(total);
                self.bar.set_position(done);
            }
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        interrupt::clear_bar();
    }
}
