//! qcow2 in `qemu-img bench`, over a copy of the device's backing file.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::super::device::{SetUpError, file_error};
use super::super::peers::{create_qcow2, qemu_img_bench, seconds_of};
use super::super::scale::Scale;
use super::cases::{BLOCK, Cache, Content, STEP, fill};

/// A copy of the backing file for qemu-img, which takes the device's lock on its own for another
/// writer.
pub(super) const PEER_BACKING: &str = "cold-peer.img";
pub(super) const QCOW2: &str = "cold.qcow2";

/// What qemu-img does its I/O by.
pub(super) struct Mode {
    pub(super) name: &'static str,
    /// Whether it goes through the page cache where that is not excluded.
    through_cache: bool,
}

pub(super) const MODES: [Mode; 3] = [
    Mode {
        name: "threads",
        through_cache: true,
    },
    Mode {
        name: "io_uring",
        through_cache: true,
    },
    Mode {
        name: "native",
        through_cache: false,
    },
];

impl Mode {
    /// What a run takes by its own account, if there is such a mode.
    pub(super) fn run(
        &self,
        directory: &Path,
        cache: Cache,
        depth: usize,
        scale: &Scale,
    ) -> Option<Duration> {
        let through_cache = self.through_cache && cache != Cache::Direct;
        let words = arguments(scale.reads, depth, self.name, through_cache);
        let mut bench = qemu_img_bench("qcow2", QCOW2, &words);
        seconds_of(bench.current_dir(directory)).map(Duration::from_secs_f64)
    }
}

/// Returns whether qemu-img made the file.
pub(super) fn make_qcow2(
    directory: &Path,
    content: Content,
    scale: &Scale,
) -> Result<bool, SetUpError> {
    let found = Command::new("qemu-img").arg("--version").output();
    if !found.is_ok_and(|output| output.status.success()) {
        return Ok(false);
    }
    let backing = directory.join(PEER_BACKING);
    if !backing.exists() {
        fill(&backing, scale.cold).map_err(|error| file_error(&backing, error))?;
    }
    if !create_qcow2(directory, QCOW2, PEER_BACKING) {
        return Ok(false);
    }
    if content == Content::Clean {
        return Ok(true);
    }
    let (count, step) = (
        (scale.cold.0 / BLOCK / 2).to_string(),
        (2 * BLOCK).to_string(),
    );
    let words = ["-w", "-d", "32", "-c", &count, "-s", "4096", "-S", &step].map(String::from);
    let mut bench = qemu_img_bench("qcow2", QCOW2, &words);
    Ok(seconds_of(bench.current_dir(directory)).is_some())
}

fn arguments(reads: u64, depth: usize, mode: &str, through_cache: bool) -> Vec<String> {
    let cache = match through_cache {
        true => "writeback",
        false => "none",
    };
    let (depth, count, step) = (depth.to_string(), reads.to_string(), STEP.to_string());
    let words = [
        "-c", &count, "-d", &depth, "-s", "4096", "-S", &step, "-i", mode, "-t", cache,
    ];
    words.into_iter().map(String::from).collect()
}
