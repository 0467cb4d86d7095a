//! `ubdlab fuzz --repro FILE --live`.

use std::fmt;
use std::path::Path;

use driver::OneLine;
use serde::Serialize;

use crate::figures::counted;
use crate::fuzz::campaign::{Stop, StopSign};
use crate::kernel::again::{Tried, try_again};

use super::super::interrupt::{self, Interrupt};
use super::super::output::{self, InLines};
use super::super::output_file::not_created;
use super::super::temporary::TemporaryDirectory;
use super::super::uml_programs::programs;
use super::super::{Failure, Verdict};
use super::keeper::progress;
use super::repeat::read_finding_of_kernel;
use super::report::tell_early_end;

/// What it came to.
#[derive(Serialize)]
struct Report {
    kernel: String,
    tries: u64,
    shown: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_by_signal: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_by_error: Option<String>,
}

impl InLines for Report {}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "kernel     {}", OneLine(&self.kernel))?;
        writeln!(
            f,
            "shown      {} of {}",
            self.shown,
            counted(self.tries, "time")
        )?;
        tell_early_end(f, self.ended_by_signal, self.ended_by_error.is_some())
    }
}

/// Tries the finding in `file` again, on this kernel.
pub(super) fn repeat(
    file: &Path,
    tries: u64,
    kernel: Option<&Path>,
    json: bool,
) -> Result<Verdict, Failure> {
    let finding = read_finding_of_kernel(file)?;
    let programs = programs(kernel).map_err(Failure::operation)?;
    let parent = std::env::temp_dir();
    let temporary = TemporaryDirectory::new_in(&parent, "ubdlab-kernel-");
    let temporary = temporary.map_err(|error| not_created(&parent, &error))?;
    let interrupt = Interrupt::catch();
    let stop: StopSign = std::sync::Arc::new(move || interrupt.is_asked());
    let bar = progress(Stop::Cases(tries));
    let place = (temporary.path(), &programs);
    let (tried, ended) = try_again(&finding, tries, place, &stop, &|tries| {
        bar.set_position(tries);
    });
    bar.finish_and_clear();
    let ended = ended.map_err(Failure::operation);
    let Tried {
        kernel,
        tries,
        shown,
    } = tried;
    if tries == 0 && ended.is_err() {
        return ended.map(|()| Verdict::Good);
    }
    let report = Report {
        kernel,
        tries,
        shown,
        ended_by_signal: interrupt::signal(),
        ended_by_error: ended.as_ref().err().map(|failure| failure.0.clone()),
    };
    match json {
        true => output::json(&report)?,
        false => output::lines(&report),
    }
    ended?;
    Ok(match report.ended_by_signal {
        Some(signal) => Verdict::EndedBySignal(signal),
        None if shown > 0 => Verdict::ViolationFound,
        None => Verdict::Good,
    })
}
