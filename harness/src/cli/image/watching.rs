//! How far a tool has come, on a terminal; and Ctrl-C, which stops it where it does no harm.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use driver::units::Bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};

/// Watches one tool.
pub(super) struct Watching {
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
}

impl Watching {
    /// A bar with this message. From now on the first SIGINT or SIGTERM stops the tool at its
    /// next step, and a second one ends the process.
    pub(super) fn new(message: &'static str) -> Watching {
        // Hidden by itself when stderr is no terminal.
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) =
            ProgressStyle::with_template("{msg:24} {wide_bar} {bytes}/{total_bytes} {eta:>4}")
        {
            bar.set_style(style);
        }
        bar.set_message(message);
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // Without them the process just ends, which does no harm either.
            let _ = signal_hook::flag::register_conditional_shutdown(
                signal,
                128 + signal,
                Arc::clone(&stop),
            );
            let _ = signal_hook::flag::register(signal, Arc::clone(&stop));
        }
        Watching { bar, stop }
    }

    /// What a tool calls.
    pub(super) fn watch(&self) -> impl FnMut(Bytes, Bytes) -> ControlFlow<()> + '_ {
        |done, total| {
            self.bar.set_length(total.0);
            self.bar.set_position(done.0);
            match self.stop.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
