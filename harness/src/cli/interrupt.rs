//! Ctrl-C, and the other signals that end the program: SIGTERM, and SIGHUP from a terminal that is
//! closed.
//!
//! A thread waits for them. The first one asks a command to end that looks for it ([`Interrupt`]).
//! Where none does, and at the second one, the thread removes what is temporary
//! ([`userhelper::unfinished`]), clears the progress bar and ends the process, with 128 and the
//! signal's number as exit status. The same signal a moment later is no second one ([`ECHO_NS`]). A
//! command that writes down where it is may bear SIGTERM more than once
//! ([`Interrupt::bear_repeated_sigterm`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use indicatif::{ProgressBar, WeakProgressBar};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use userhelper::unfinished;

use crate::clock;
use crate::locked::locked;

use super::{Failure, output};

/// How long after a signal the same one counts as that one. `timeout` of coreutils sends its signal
/// to the command and then to its process group, in which the command is, too. A person who presses
/// Ctrl-C twice takes longer.
const ECHO_NS: u64 = 100_000_000;

static ASKING: Mutex<Asking> = Mutex::new(Asking {
    asked: None,
    signal: 0,
    since_ns: 0,
    bears_sigterm: false,
});

/// Who is woken when a command is asked to end.
static WAKES: Mutex<Option<Wakes>> = Mutex::new(None);

type Wakes = Box<dyn FnOnce() + Send>;

/// The bar on the terminal.
static BAR: Mutex<Option<WeakProgressBar>> = Mutex::new(None);

/// Who is asked to end by a signal. Both change in one step: a signal between two stages of a
/// command is for the second one.
#[derive(Debug)]
struct Asking {
    /// What the first signal asks to end, if a command looks for it.
    asked: Option<Arc<AtomicBool>>,
    /// The signal that has asked a command to end, or 0.
    signal: i32,
    /// When that was, in nanoseconds.
    since_ns: u64,
    /// Whether SIGTERM after SIGTERM changes nothing.
    bears_sigterm: bool,
}

/// What a signal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// The command is asked to end.
    Ask,
    /// The process ends.
    End,
    Nothing,
}

impl Asking {
    fn take(&mut self, signal: i32, now_ns: u64) -> Does {
        let Some(asked) = &self.asked else {
            return Does::End;
        };
        if !asked.swap(true, Ordering::Relaxed) {
            self.signal = signal;
            self.since_ns = now_ns;
            return Does::Ask;
        }
        let is_same = self.signal == signal;
        let is_echo = now_ns.saturating_sub(self.since_ns) < ECHO_NS;
        match is_same && (is_echo || self.bears_sigterm && signal == SIGTERM) {
            true => Does::Nothing,
            false => Does::End,
        }
    }

    /// The next stage of the command looks for signals; it is asked to end at once if the one
    /// before was asked and has not looked since.
    fn catch(&mut self) -> Arc<AtomicBool> {
        let asked = Arc::new(AtomicBool::new(self.signal != 0));
        self.asked = Some(Arc::clone(&asked));
        asked
    }
}

/// What is said when a signal ends the process.
static LAST_WORDS: Mutex<Option<LastWords>> = Mutex::new(None);

type LastWords = Box<dyn FnOnce() + Send>;

/// Says this when a signal ends the process: a result so far, say.
pub(super) fn at_end(words: impl FnOnce() + Send + 'static) {
    *locked(&LAST_WORDS) = Some(Box::new(words));
}

/// What was to be said at the end is said in another way.
pub(super) fn forget_last_words() {
    *locked(&LAST_WORDS) = None;
}

/// Begins to wait for signals. Without it they end the process too, and leave what is temporary.
pub(super) fn install() {
    let mut signals = vec![SIGINT, SIGTERM, SIGHUP];
    // What nohup ignores stays ignored, and what a shell ignores for a command in the background.
    signals.retain(|&signal| !is_ignored(signal));
    let Ok(mut signals) = Signals::new(signals) else {
        return;
    };
    let started = clock::start();
    let wait = move || {
        for signal in signals.forever() {
            let does = locked(&ASKING).take(signal, started.elapsed_ns());
            match does {
                Does::Ask => {}
                Does::End => end(signal),
                Does::Nothing => continue,
            }
            let wakes = locked(&WAKES).take();
            if let Some(wakes) = wakes {
                wakes();
            }
        }
    };
    let builder = std::thread::Builder::new().name("signals".into());
    let _ = builder.spawn(wait);
}

/// How long the process waits for somebody to read its last words. A reader that has stopped, or a
/// terminal that is held, does not keep it from ending.
const LISTENING: Duration = Duration::from_secs(1);

fn end(signal: i32) {
    let ending = unfinished::remove_all();
    let has_removed = ending.has_removed();
    let (said, has_said) = mpsc::channel();
    let speak = move || {
        clear_bar();
        let words = locked(&LAST_WORDS).take();
        match words {
            Some(words) => words(),
            None => output::failure(&Failure(last_words(signal, has_removed).into())),
        }
        // Whoever waited may have lost patience.
        let _ = said.send(());
    };
    let speaker = std::thread::Builder::new().name("last-words".into());
    if speaker.spawn(speak).is_ok() {
        let _ = has_said.recv_timeout(LISTENING);
    }
    signal_hook::low_level::exit(128 + signal);
}

/// What is said where the command has no words of its own for the end.
fn last_words(signal: i32, has_removed: bool) -> &'static str {
    match (signal, has_removed) {
        (SIGINT, true) => "interrupted; what was temporary is removed",
        (SIGINT, false) => "interrupted",
        (_, true) => "ended by a signal; what was temporary is removed",
        (_, false) => "ended by a signal",
    }
}

/// The number of the signal that has asked a command to end.
pub(super) fn signal() -> Option<u8> {
    let number = u8::try_from(locked(&ASKING).signal).ok();
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
        Interrupt {
            asked: locked(&ASKING).catch(),
            _caught: Arc::new(Caught),
        }
    }

    /// From now on SIGTERM after SIGTERM changes nothing. Slurm sends it to the program and to the
    /// script that runs it, whose shell may pass it on.
    pub(super) fn bear_repeated_sigterm(&self) {
        locked(&ASKING).bears_sigterm = true;
    }

    /// Calls `wakes` when the command is asked to end, also if that was before; at most once.
    pub(super) fn wake(&self, wakes: impl FnOnce() + Send + 'static) {
        *locked(&WAKES) = Some(Box::new(wakes));
        if self.is_asked()
            && let Some(wakes) = locked(&WAKES).take()
        {
            wakes();
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
        let mut asking = locked(&ASKING);
        asking.asked = None;
        asking.bears_sigterm = false;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody() -> Asking {
        Asking {
            asked: None,
            signal: 0,
            since_ns: 0,
            bears_sigterm: false,
        }
    }

    #[test]
    fn the_first_signal_asks_and_the_second_ends() {
        let start = 7;
        let mut asking = nobody();
        assert_eq!(asking.take(SIGINT, start), Does::End, "nobody looks");
        let asked = asking.catch();
        assert!(!asked.load(Ordering::Relaxed));
        assert_eq!(asking.take(SIGTERM, start), Does::Ask);
        assert!(asked.load(Ordering::Relaxed));
        assert_eq!(asking.signal, SIGTERM);
        assert_eq!(asking.take(SIGTERM, start + ECHO_NS), Does::End);
        assert_eq!(asking.take(SIGINT, start), Does::End);
        assert_eq!(asking.signal, SIGTERM);
    }

    #[test]
    fn a_signal_that_is_sent_to_the_group_too_is_one() {
        let start = 7;
        let mut asking = nobody();
        drop(asking.catch());
        assert_eq!(asking.take(SIGTERM, start), Does::Ask);
        let soon = start + ECHO_NS / 2;
        assert_eq!(asking.take(SIGTERM, soon), Does::Nothing);
        assert_eq!(asking.take(SIGINT, soon), Does::End);
    }

    #[test]
    fn where_it_is_borne_sigterm_changes_nothing_a_second_time_and_others_end() {
        let start = 7;
        let mut asking = nobody();
        asking.bears_sigterm = true;
        drop(asking.catch());
        assert_eq!(asking.take(SIGTERM, start), Does::Ask);
        assert_eq!(asking.take(SIGTERM, start + 9 * ECHO_NS), Does::Nothing);
        assert_eq!(asking.take(SIGINT, start), Does::End);

        let mut asking = nobody();
        asking.bears_sigterm = true;
        drop(asking.catch());
        assert_eq!(asking.take(SIGINT, start), Does::Ask);
        assert_eq!(asking.take(SIGTERM, start), Does::End);
    }

    /// As in the last step of the first of two stages, which does not look again.
    #[test]
    fn a_signal_that_one_stage_did_not_look_for_ends_the_next() {
        let mut asking = nobody();
        drop(asking.catch());
        assert_eq!(asking.take(SIGINT, 0), Does::Ask);
        asking.asked = None;
        assert!(asking.catch().load(Ordering::Relaxed));
    }
}
