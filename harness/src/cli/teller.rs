//! Lines for whoever runs the program, printed by a thread of their own. Nobody who has something
//! to do then waits for a standard error that nobody reads.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::output;

/// Lines that wait to be printed. What comes while there are as many is lost, and counted.
const WAITING: usize = 256;

/// How long the end of the program waits for lines to be printed.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the thread is sent.
enum Told {
    Line(String),
    /// All lines before this are printed: who waits for that is told.
    End(Sender<()>),
}

/// Where lines go.
#[derive(Clone)]
pub(super) struct Teller {
    told: Sender<Told>,
    lost: Arc<AtomicU64>,
}

impl Teller {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn start() -> io::Result<Teller> {
        let (told, come) = bounded(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        let thread = std::thread::Builder::new().name("tells".into());
        thread.spawn(move || print_all(&come, &counted))?;
        Ok(Teller { told, lost })
    }

    /// Prints a line soon. Waits for nobody.
    pub(super) fn tell(&self, line: &dyn fmt::Display) {
        if self.told.try_send(Told::Line(line.to_string())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was told is printed, if somebody reads it.
    pub(super) fn finish(&self) {
        let (printed, all) = bounded(1);
        if self.told.send_timeout(Told::End(printed), PATIENCE).is_ok() {
            // Whoever does not read it by then does not get it.
            let _ = all.recv_timeout(PATIENCE);
        }
    }
}

fn print_all(come: &Receiver<Told>, lost: &AtomicU64) {
    for told in come {
        match told {
            Told::Line(line) => output::remark(line),
            Told::End(printed) => {
                // It may have gone meanwhile.
                let _ = printed.send(());
            }
        }
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let lines = driver::exact_count(lost, "line");
            output::remark(format_args!("{lines} lost: nobody read standard error"));
        }
    }
}
