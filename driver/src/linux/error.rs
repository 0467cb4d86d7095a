//! Why a model does not open a device, and what a modelled kernel dies of.

use std::path::PathBuf;

use crate::cow::{FileTooLarge, HeaderError};
use crate::host::HostError;
use crate::units::{Bytes, SectorCount};
use crate::{exact_count, shown, since_1970};

/// The largest device: its bitmap in memory is 512 MiB long.
pub const MAX_SECTORS: SectorCount = SectorCount(1 << 32);

/// What the kernel died of, and every process of the guest with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Death {
    /// A segment was longer than its mask ([`super::Defect::LimitBeforeHeader`]).
    #[error("a segment of {sectors} sectors does not fit its mask of 64 bits")]
    MaskOverflow {
        /// Its length.
        sectors: SectorCount,
    },
    /// A field of the header was 0 ([`super::Defect::HeaderUnchecked`]).
    #[error("a division by {field} of the header, which is 0")]
    DividedByZero {
        /// Which.
        field: &'static str,
    },
}

/// Why a device could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinuxOpenError {
    /// A host operation failed.
    #[error("{doing}: {error}")]
    Host {
        /// What was being done.
        doing: &'static str,
        /// What the host said.
        error: HostError,
    },
    /// The COW file's header is none.
    #[error("COW file: {0}")]
    Header(HeaderError),
    /// A layout that no file can have.
    #[error("COW file: {0}")]
    Layout(FileTooLarge),
    /// A resize by ubdlab was interrupted in this file.
    #[error("COW file: a resize is under way in it: recover it first")]
    Relocating,
    /// The backing file has another size than the header says.
    #[error(
        "backing file: found {}, the COW file was made for {}",
        exact_count(.found.0, "byte"), exact_count(.expected.0, "byte")
    )]
    BackingSize {
        /// Its size.
        found: Bytes,
        /// What the header says.
        expected: Bytes,
    },
    /// The backing file was modified since.
    #[error(
        "backing file: modified at {found}, the COW file was made for the content of {expected} {}",
        since_1970(&[*.found, (*.expected).into()])
    )]
    BackingModified {
        /// When it was modified.
        found: i64,
        /// What the header says.
        expected: u32,
    },
    /// The COW file ends within its bitmap.
    #[error("COW file: byte {found}: the file ends here, its bitmap goes on up to byte {expected}")]
    BitmapCutShort {
        /// Where it ends.
        found: u64,
        /// The end of the bitmap.
        expected: u64,
    },
    /// A bitmap that the model does not take into memory.
    #[error(
        "found a device of {}, at most {} are supported",
        exact_count(.found.0, "sector"), MAX_SECTORS.0
    )]
    TooLarge {
        /// The device's size.
        found: SectorCount,
    },
    /// A COW file could not be created.
    #[error("creating {}: {problem}", shown(.path))]
    Create {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// The kernel did not survive it.
    #[error("the kernel died: {0}")]
    Died(Death),
}

impl LinuxOpenError {
    /// Whether what the files hold is wrong, or kills the kernel. False of what the host fails to
    /// do, and of what the model does not do.
    pub fn is_about_content(&self) -> bool {
        match self {
            LinuxOpenError::Header(_)
            | LinuxOpenError::Layout(_)
            | LinuxOpenError::Relocating
            | LinuxOpenError::BackingSize { .. }
            | LinuxOpenError::BackingModified { .. }
            | LinuxOpenError::BitmapCutShort { .. }
            | LinuxOpenError::Died(_) => true,
            LinuxOpenError::Host { .. }
            | LinuxOpenError::TooLarge { .. }
            | LinuxOpenError::Create { .. } => false,
        }
    }
}

/// For `map_err`: the host said no.
pub(super) fn host(doing: &'static str) -> impl Fn(HostError) -> LinuxOpenError {
    move |error| LinuxOpenError::Host { doing, error }
}
