//! What a replay counts.

use crate::oracle::Compared;

use super::report::ResizeReport;

/// The most mismatches that are told in words.
const EXAMPLES: usize = 10;

/// What a replay counts.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Requests of the trace.
    pub requests: u64,
    /// Sectors read.
    pub sectors_read: u64,
    /// Sectors compared with the model.
    pub sectors_compared: u64,
    /// Those of them that showed zeros, and rightly.
    pub sectors_zeros: u64,
    /// Sectors that were not read, because zeros are right there and the files have holes.
    pub sectors_in_holes: u64,
    /// Sectors of such holes that were read all the same, as a sample.
    pub sectors_sampled: u64,
    /// Sectors written.
    pub sectors_written: u64,
    /// Those of them that were written with the data that the trace carries.
    pub sectors_with_data: u64,
    /// Wrong ones.
    pub mismatches: u64,
    /// What else is wrong, and is no sector.
    pub other_faults: u64,
    /// The first few.
    pub examples: Vec<String>,
    /// Comparisons after those that found something wrong too.
    pub examples_left_out: u64,
    /// Flushes.
    pub flushes: u64,
    /// FUA writes.
    pub fua_writes: u64,
    /// Discards.
    pub discards: u64,
    /// Those that the host could not do.
    pub discards_unsupported: u64,
    /// Resizes done.
    pub resizes: Vec<ResizeReport>,
}

impl Counts {
    /// Adds what a comparison came to; `when` is asked only if something is wrong.
    pub fn add(&mut self, compared: Compared, when: impl FnOnce() -> String) {
        self.sectors_compared += compared.sectors;
        self.sectors_zeros += compared.zeros;
        self.mismatches += compared.wrong;
        if let Some(example) = compared.first_wrong {
            match self.examples.len() < EXAMPLES {
                true => self.examples.push(format!("{}: {example}", when())),
                false => self.examples_left_out += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use driver::units::{Sector, SectorCount, SectorRange};

    use super::*;
    use crate::oracle::Mismatch;

    #[test]
    fn what_has_no_example_is_counted() {
        let wrong = Compared {
            wrong: 1,
            first_wrong: Some(Mismatch::Length {
                range: SectorRange::new(Sector(0), SectorCount(1)),
                found: 0,
            }),
            ..Compared::default()
        };
        let mut counts = Counts::default();
        for _ in 0..EXAMPLES + 3 {
            counts.add(wrong.clone(), || "in the test".into());
        }
        assert_eq!((counts.examples.len(), counts.examples_left_out), (10, 3));
    }
}
