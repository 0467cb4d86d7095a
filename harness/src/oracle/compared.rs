//! What comparing a read with the model comes to.

use std::fmt;

use driver::exact_count;
use driver::units::{Sector, SectorRange};

use crate::stamp::Content;

/// What comparing a read with the model came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Sectors whose content was looked at.
    pub sectors: u64,
    /// Those of them that showed zeros, and rightly. A read from a wrong place can show zeros
    /// too, where any other content tells which sector it belongs to.
    pub zeros: u64,
    /// Sectors that showed what they should not, or that the read did not bring.
    pub wrong: u64,
    /// The first of these.
    pub first_wrong: Option<Mismatch>,
}

/// What is wrong with a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// A sector shows what it should not.
    Sector {
        /// Which.
        sector: Sector,
        /// What it should show.
        expected: String,
        /// What it shows.
        found: Content,
    },
    /// The read brought fewer or more bytes than it was asked for.
    Length {
        /// The sectors asked for.
        range: SectorRange,
        /// The bytes that came.
        found: u64,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Sector {
                sector,
                expected,
                found,
            } => write!(f, "sector {sector}: found {found}, expected {expected}"),
            Mismatch::Length { range, found } => {
                let expected = range.count.bytes().0;
                write!(
                    f,
                    "sectors {range}: found {}, expected {expected}",
                    exact_count(*found, "byte")
                )
            }
        }
    }
}
