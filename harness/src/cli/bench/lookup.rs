//! `ubdlab bench lookup`.

use crate::bench::lookup;

use super::{Common, Failure, Rows, Verdict};

/// Measure the sector lookup beside the original driver's loop and three crates
///
/// Times are net of reading the random positions. Maps that are empty, full, dirty in 1 % of
/// their sectors in extents of 4 KiB, and in half of them at random; devices of 1 GiB, 256 GiB
/// and 2 TiB. The maps of the largest device take 3 GiB of memory. hi_sparse_bitset holds no
/// more than the smallest one.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab bench lookup
  ubdlab bench lookup --only 'run/half at random' --json")]
pub(in crate::cli) struct LookupArgs {
    #[command(flatten)]
    common: Common,
}

impl LookupArgs {
    pub(super) fn run(&self) -> Result<Verdict, Failure> {
        let rows = Rows::new(&self.common);
        let only = self.common.only();
        lookup::measure(&only, |more| rows.collect(more));
        rows.report(&only)
    }
}
