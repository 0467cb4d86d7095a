//! Ctrl-C, and the other signals that end the program: SIGTERM, and SIGHUP from a terminal that is
//! closed.
//!
//! A thread waits for them. The first one asks a command to end that looks for it ([`Interrupt`]).
//! Where none does, and at the second one, the thread removes what is temporary
//! ([`userhelper::unfinished`]), clears the progress bar and ends the process, with 128 and the
//! signal's number as exit status.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::{ProgressBar, WeakProgressBar};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use userhelper::unfinished;

/// What the first signal asks to end, if a command looks for it.
static ASKED: Mutex<Option<Arc<AtomicBool>>> = Mutex::new(None);

/// The bar on the terminal.
static BAR: Mutex<Option<WeakProgressBar>> = Mutex::new(None);

/// The signal that has asked a command to end, or 0.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// Begins to wait for signals. Without it they end the process too, and leave what is temporary.
pub(super) fn install() {
    let mut signals = vec![SIGINT, SIGTERM];
    // What nohup ignores stays ignored.
    if !is_ignored(SIGHUP) {
        signals.push(SIGHUP);
    }
    let Ok(mut signals) = Signals::new(signals) else {
        return;
    };
    let wait = move || {
        for signal in signals.forever() {
            let asked = locked(&ASKED).clone();
            match asked {
                Some(asked) if !asked.swap(true, Ordering::Relaxed) => {
                    SIGNAL.store(signal, Ordering::Relaxed);
                }
                _ => end(signal),
            }
        }
    };
    let builder = std::thread::Builder::new().name("signals".into());
    let _ = builder.spawn(wait);
}

fn end(signal: i32) {
    let _ending = unfinished::remove_all();
    clear_bar();
    signal_hook::low_level::exit(128 + signal);
}

/// The number of the signal that has asked a command to end.
pub(super) fn signal() -> Option<u8> {
    let number = u8::try_from(SIGNAL.load(Ordering::Relaxed)).ok();
    number.filter(|&number| number > 0)
}

/// Whether the process was started with this signal ignored.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// As long as this or a copy of it is there, the first signal only asks the command to end.
#[derive(Clone, Debug)]
pub(super) struct Interrupt {
    asked: Arc<AtomicBool>,
    _caught: Arc<Caught>,
}

impl Interrupt {
    /// From now on the first signal asks the command to end, and a second one ends the process.
    pub(super) fn catch() -> Interrupt {
        let asked = Arc::new(AtomicBool::new(false));
        *locked(&ASKED) = Some(Arc::clone(&asked));
        Interrupt {
            asked,
            _caught: Arc::new(Caught),
        }
    }

    /// Whether the command is to end.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// What becomes true when the command is to end.
    pub(super) fn stop(&self) -> &AtomicBool {
        &self.asked
    }
}

/// From the last copy on, every signal ends the process.
#[derive(Debug)]
struct Caught;

impl Drop for Caught {
    fn drop(&mut self) {
        *locked(&ASKED) = None;
    }
}

/// Clears this bar when a signal ends the process.
pub(super) fn show(bar: &ProgressBar) {
    *locked(&BAR) = Some(bar.downgrade());
}

/// Clears the bar, if there is one.
pub(super) fn clear_bar() {
    let bar = locked(&BAR).take();
    if let Some(bar) = bar.and_then(|bar| bar.upgrade()) {
        bar.finish_and_clear();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
