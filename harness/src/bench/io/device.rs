//! The device that is measured, the same files for bare system calls, and where on them.

use std::fs::File;
use std::path::{Path, PathBuf};

use driver::blk::{Request, Status, Tag};
use driver::device_spec::DeviceSpec;
use driver::driver::Driver;
use driver::host::{HostFile, HostNames};
use driver::open::{OpenError, OpenOptions, open};
use driver::ordered::Ordered;
use driver::units::{Bytes, FileOffset, Sector};
use userhelper::real_files::{RealFile, RealHost};

use crate::device::NoIo;
use crate::random::SplitMix64;

/// The name of its COW file.
pub(super) const COW: &str = "device.cow";

/// The size of the device.
pub(super) const SIZE: Bytes = Bytes(256 << 20);

/// A file is filled by writes of this length, ours and those of other programs, as a guest writes
/// its pages. The host may keep what is written in one piece in one piece of memory. ext4 then
/// looks through all blocks of that piece at each later write to one of them: after writes of 1
/// MiB, overwriting 4 KiB takes it up to seven times as long.
pub(super) const FILL: u64 = 4096;

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// A file could not be made.
    #[error("{}: {}", driver::shown(.path), driver::system_words(.error))]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The device could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A request failed.
    #[error("a request ended with the status {0}")]
    Request(Status),
    /// Nobody carries the device's operations out as asked for.
    #[error(transparent)]
    Io(#[from] NoIo),
    /// A read with no device between failed.
    #[error("reading by {way}: {}", driver::system_words(.error))]
    Bare {
        /// What read.
        way: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
    /// The thread of a device did not start or has died.
    #[error("the I/O thread: {0}")]
    Thread(String),
    /// No buffer lies where direct I/O takes it.
    #[error("none of {tries} buffers lies at a multiple of {alignment} bytes, as direct I/O needs")]
    NoBuffer {
        /// How many were made.
        tries: usize,
        /// In bytes.
        alignment: usize,
    },
    /// A replay failed.
    #[error("{0}")]
    Replay(String),
}

/// A device over a backing file, both of them in one directory, which is to be empty.
pub(super) struct Device {
    /// The device.
    pub(super) ordered: Ordered<RealFile>,
    /// The COW file once more, for bare system calls.
    pub(super) bare: File,
    /// Where in it the data begins.
    pub(super) data: FileOffset,
}

impl Device {
    /// A device with no sector dirty, over a backing file without holes.
    pub(super) fn fresh(directory: &Path) -> Result<Device, SetUpError> {
        Device::fresh_of(directory, SIZE)
    }

    fn fresh_of(directory: &Path, size: Bytes) -> Result<Device, SetUpError> {
        let backing = directory.join("backing.img");
        if !backing.exists() {
            let content: Vec<_> = (0..size.0).map(|at| (at >> 12) as u8).collect();
            std::fs::write(&backing, content).map_err(|error| file_error(&backing, error))?;
        }
        Device::over(directory, &backing)
    }

    /// A device of any size with no sector dirty, over a backing file that is one hole.
    pub(super) fn sparse(directory: &Path, size: Bytes) -> Result<Device, SetUpError> {
        let backing = directory.join("sparse.img");
        let made = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&backing)
            .and_then(|file| file.set_len(size.0));
        made.map_err(|error| file_error(&backing, error))?;
        Device::over(directory, &backing)
    }

    /// A device with no sector dirty over this backing file.
    pub(super) fn over(directory: &Path, backing: &Path) -> Result<Device, SetUpError> {
        let ordered = fresh_on(&RealHost, directory, backing)?;
        let cow = directory.join(COW);
        let bare = File::options().read(true).write(true).open(&cow);
        let bare = bare.map_err(|error| file_error(&cow, error))?;
        let data = ordered.image().map(|image| image.geometry.data_offset);
        Ok(Device {
            ordered,
            bare,
            data: data.unwrap_or(FileOffset(0)),
        })
    }

    /// A device over a fresh backing file, with all sectors dirty, written in pieces of [`FILL`].
    pub(super) fn full(directory: &Path) -> Result<Device, SetUpError> {
        Device::full_of(directory, SIZE)
    }

    /// Such a device of this size.
    pub(super) fn full_of(directory: &Path, size: Bytes) -> Result<Device, SetUpError> {
        let mut device = Device::fresh_of(directory, size)?;
        let mut request = Request::write(Tag(0), Sector(0), vec![0x5a; FILL as usize]);
        for at in (0..size.0).step_by(FILL as usize) {
            request.start = sector_of(at);
            request = served(&mut device.ordered, request).map_err(SetUpError::Request)?;
        }
        served(&mut device.ordered, Request::flush(Tag(0))).map_err(SetUpError::Request)?;
        Ok(device)
    }
}

/// A device with a new COW file over this backing file, by way of `host`.
pub(super) fn fresh_on<H: HostNames>(
    host: &H,
    directory: &Path,
    backing: &Path,
) -> Result<Ordered<H::File>, SetUpError> {
    let cow = directory.join(COW);
    if cow.exists() {
        std::fs::remove_file(&cow).map_err(|error| file_error(&cow, error))?;
    }
    let spec = DeviceSpec {
        backing: Some(backing.to_owned()),
        ..DeviceSpec::of(cow)
    };
    Ok(open(host, &spec, OpenOptions::default())?.device)
}

/// Has a request carried out and gives it back, or the status that it ended with.
#[inline]
pub(in crate::bench) fn served<F: HostFile>(
    device: &mut Ordered<F>,
    request: Request,
) -> Result<Request, Status> {
    match device.serve(request) {
        Ok(completion) if completion.status == Status::Ok => Ok(completion.request),
        Ok(completion) => Err(completion.status),
        Err(_) => Err(Status::Invalid),
    }
}

/// Random positions on the device, in bytes, each a multiple of `len`.
pub(super) fn scattered(count: usize, len: u64) -> Vec<u64> {
    scattered_over(SIZE, count, len)
}

/// Random positions on a device of `size`, in bytes, each a multiple of `len`.
pub(super) fn scattered_over(size: Bytes, count: usize, len: u64) -> Vec<u64> {
    let mut random = SplitMix64(4);
    (0..count)
        .map(|_| random.below(size.0 / len) * len)
        .collect()
}

pub(super) fn sector_of(at: u64) -> Sector {
    Sector(0) + Bytes(at).whole_sectors()
}

pub(super) fn file_error(path: &Path, error: std::io::Error) -> SetUpError {
    SetUpError::File {
        path: path.to_owned(),
        error,
    }
}
