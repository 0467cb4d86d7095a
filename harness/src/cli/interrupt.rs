//! Ctrl-C, for a command that has something to show for what it has done so far.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

/// What SIGINT and SIGTERM have asked for.
#[derive(Clone, Debug)]
pub(super) struct Interrupt {
    asked: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// From now on the first SIGINT or SIGTERM asks the command to end, and a second one ends the
    /// process.
    pub(super) fn catch() -> Interrupt {
        let interrupt = Interrupt {
            asked: Arc::new(AtomicBool::new(false)),
            signal: Arc::new(AtomicUsize::new(0)),
        };
        for signal in [SIGINT, SIGTERM] {
            // Without any of these the process just ends, and what it has written so far stays.
            let asked = Arc::clone(&interrupt.asked);
            let _ = signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, asked);
            let number = usize::try_from(signal).unwrap_or_default();
            let which = Arc::clone(&interrupt.signal);
            let _ = signal_hook::flag::register_usize(signal, which, number);
            let _ = signal_hook::flag::register(signal, Arc::clone(&interrupt.asked));
        }
        interrupt
    }

    /// Whether the command is to end.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// The number of the signal that has asked.
    pub(super) fn signal(&self) -> Option<u8> {
        let number = self.signal.load(Ordering::Relaxed);
        u8::try_from(number).ok().filter(|_| self.is_asked())
    }
}
