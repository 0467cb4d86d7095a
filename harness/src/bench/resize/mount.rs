//! A file system of another kind, in a file: made, mounted, and gone again when it is dropped.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::{BenchError, image::remove};
use crate::bench::programs::{missing, run_to_end};

/// A file system that can share extents between files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// The program that makes one.
    make: &'static str,
    options: &'static [&'static str],
}

pub(super) const KINDS: [Kind; 2] = [
    Kind {
        name: "xfs",
        make: "mkfs.xfs",
        options: &["-q", "-m", "reflink=1"],
    },
    Kind {
        name: "btrfs",
        make: "mkfs.btrfs",
        options: &["-q"],
    },
];

/// So large, and a hole for the most part.
const SIZE: u64 = 24 << 30;

/// A mounted one.
#[derive(Debug)]
pub(super) struct Mount {
    image: PathBuf,
    /// Where it is mounted.
    pub(super) at: PathBuf,
    mounted: bool,
}

impl Mount {
    /// Makes a file system of this kind in `directory` and mounts it. `Err` within `Ok` says in
    /// words what that needs and is not there.
    pub(super) fn new(kind: Kind, directory: &Path) -> Result<Result<Mount, String>, BenchError> {
        if let Some(needs) = missing(&["mount", "umount", kind.make]) {
            return Ok(Err(needs));
        }
        let mut mount = Mount {
            image: directory.join(format!("{}.img", kind.name)),
            at: directory.join(kind.name),
            mounted: false,
        };
        File::create(&mount.image)
            .and_then(|file| file.set_len(SIZE))
            .map_err(BenchError::file(&mount.image, "creating"))?;
        std::fs::create_dir(&mount.at).map_err(BenchError::file(&mount.at, "creating"))?;
        let options = kind.options.iter().map(OsStr::new);
        let made: Vec<_> = options.chain([mount.image.as_os_str()]).collect();
        run_to_end(Path::new(kind.make), &made)?;
        // The loop device goes with the mount.
        let words = ["-o", "loop", "-t", kind.name].map(OsStr::new);
        let words = [&words[..], &[mount.image.as_os_str(), mount.at.as_os_str()]].concat();
        if run_to_end(Path::new("mount"), &words).is_err() {
            return Ok(Err(format!(
                "root, a loop device and {} in the kernel",
                kind.name
            )));
        }
        mount.mounted = true;
        Ok(Ok(mount))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.mounted && run_to_end(Path::new("umount"), &[&self.at]).is_err() {
            // Something still looks at it: it goes when that does.
            let _ = run_to_end(
                Path::new("umount"),
                &[OsStr::new("-l"), self.at.as_os_str()],
            );
        }
        let _ = std::fs::remove_dir(&self.at);
        let _ = remove(&self.image);
    }
}
