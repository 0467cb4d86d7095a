//! `ubdlab bench fuzz`.

use crate::bench::fuzz;

use super::{Common, Failure, Rows, Verdict};

/// Measure the fuzzer: crash images a second and core, and where the time goes
///
/// Cases and seeds are fixed, one thread runs them. A crash image counts when it has been
/// built, opened, recovered, read whole and compared. The shares are of the same work with a
/// look at the clock wherever one part of it ends and the next begins.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab bench fuzz
  ubdlab bench fuzz --only 'share of the time/ordered, all' --json")]
pub(in crate::cli) struct FuzzArgs {
    #[command(flatten)]
    common: Common,
}

impl FuzzArgs {
    pub(super) fn run(&self) -> Result<Verdict, Failure> {
        let rows = Rows::new(&self.common);
        let only = self.common.only();
        fuzz::measure(&only, |more| rows.collect(more));
        rows.report(&only)
    }
}
