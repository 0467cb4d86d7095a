//! What is read: how much, where, and from which files.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use driver::units::Bytes;

use super::super::scale::Scale;

pub(in crate::bench::io) const BACKING: &str = "cold.img";
pub(in crate::bench::io) const BLOCK: u64 = 4096;
pub(super) const DEPTHS: [usize; 3] = [1, 4, 32];
/// At depth 1 the rows of `in_place` and `peers` say what a warm read costs.
pub(super) const WARM_DEPTH: usize = 32;

/// From one request to the next: all over the file, and the same places for all.
pub(super) const STEP: u64 = 4099 * BLOCK;

/// What the device and its peers read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::bench::io) enum Content {
    /// Nothing is dirty.
    Clean,
    /// Every second block of 4 KiB is.
    HalfDirty,
}

impl Content {
    pub(super) fn name(self, cache: Cache, depth: usize) -> String {
        let what = match self {
            Content::Clean => "over a backing file",
            Content::HalfDirty => "half dirty",
        };
        let cache = match cache {
            Cache::Cold => "cold",
            Cache::Direct => "direct",
            Cache::Warm => "warm",
        };
        format!("io/{cache} 4 KiB read, {what}, depth {depth}")
    }

    pub(super) fn is_dirty(self, at: u64) -> bool {
        self == Content::HalfDirty && (at / BLOCK).is_multiple_of(2)
    }
}

/// Whether what is read is in the page cache.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::bench::io) enum Cache {
    Cold,
    /// Reads go past it (direct I/O).
    Direct,
    Warm,
}

impl Cache {
    pub(super) fn positions(self, scale: &Scale) -> impl Iterator<Item = u64> + use<> {
        let size = match self {
            Cache::Cold | Cache::Direct => scale.cold,
            Cache::Warm => scale.warm,
        };
        (0..scale.reads).map(move |index| index * STEP % size.0)
    }
}

/// Makes a backing file without holes, of whole MiB.
pub(super) fn fill(path: &Path, size: Bytes) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    let mut content = vec![0; 1 << 20];
    for index in 0..size.0 >> 20 {
        content.fill(index as u8 | 1);
        file.write_all(&content)?;
    }
    file.sync_all()
}
