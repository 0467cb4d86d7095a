//! The device that is served and what its peers serve in its place: as many bytes, the same in
//! both.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use driver::open::create;
use driver::units::Bytes;
use userhelper::real_files::RealHost;

use crate::bench::{BenchError, Settings};

/// The size of the device.
pub(super) const SIZE: Bytes = Bytes(512 << 20);

/// What is written to a backing file at once.
const FILL: usize = 1 << 20;

/// Where the files are.
#[derive(Clone, Debug)]
pub(super) struct Files {
    /// All of them, and what servers make.
    pub(super) directory: PathBuf,
    /// Ours.
    pub(super) cow: PathBuf,
    /// Its backing file.
    backing: PathBuf,
    /// qcow2 over [`Files::peer_backing`]. It may be missing.
    pub(super) qcow2: PathBuf,
    /// A copy of the device's backing file: qemu takes the lock that the device has on its own for
    /// that of a writer.
    pub(super) peer_backing: PathBuf,
}

impl Files {
    /// Makes ours in `directory`, with nothing written to the device.
    pub(super) fn ours(directory: &Path, size: Bytes) -> Result<Files, BenchError> {
        let named = |name: &str| directory.join(name);
        let files = Files {
            cow: named("device.cow"),
            backing: named("backing.img"),
            qcow2: named("peer.qcow2"),
            peer_backing: named("peer.img"),
            directory: directory.to_owned(),
        };
        fill(&files.backing, size).map_err(BenchError::file(&files.backing, "writing"))?;
        drop(create(&RealHost, &files.cow, &files.backing, None)?);
        Ok(files)
    }

    /// Makes all of them.
    pub(super) fn all(settings: Settings<'_>) -> Result<Files, BenchError> {
        let files = Files::ours(settings.directory, SIZE)?;
        let (from, to) = (&files.backing, &files.peer_backing);
        std::fs::copy(from, to).map_err(BenchError::file(to, "copying the backing file to"))?;
        // Where there is no qemu-img, there are no peers that need it.
        let _ = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
            .args([&files.peer_backing, &files.qcow2])
            .output();
        settings.check_stop()?;
        Ok(files)
    }

    /// A file in the directory.
    pub(super) fn named(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Makes a backing file without holes.
fn fill(path: &Path, size: Bytes) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut content = vec![0; FILL];
    for index in 0..size.0 / FILL as u64 {
        content.fill(index as u8 | 1);
        file.write_all(&content)?;
    }
    file.sync_all()
}
