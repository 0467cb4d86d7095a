//! The files of a device that the user names.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use driver::device_spec::DeviceSpec;
use driver::host::{Access, HostNames};
use driver::open::{backing_path, read_header};
use userhelper::real_files::RealHost;

use super::super::{Failure, paths};

/// Which file a name leads to. The number of one that is gone may be given to another, but not
/// with its time of birth.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WhichFile {
    device: u64,
    inode: u64,
    born: Option<SystemTime>,
}

impl WhichFile {
    /// `None` if it leads to none.
    pub(super) fn at(path: &Path) -> Option<WhichFile> {
        let found = std::fs::metadata(path).ok()?;
        Some(WhichFile {
            device: found.dev(),
            inode: found.ino(),
            born: found.created().ok(),
        })
    }
}

/// The files that the device of this specification is in, as far as they can be known by now.
pub(super) fn device_files(spec: Option<&DeviceSpec>) -> Vec<PathBuf> {
    let Some(spec) = spec else {
        return Vec::new();
    };
    let mut files = vec![spec.file.clone()];
    files.extend(spec.backing.clone());
    // What cannot be read, the replay tells.
    let header = RealHost.open(&spec.file, Access::ReadOnly).ok();
    let header = header.and_then(|file| read_header(&file, &spec.file).ok());
    files.extend(header.map(|header| backing_path(&spec.file, &header)));
    files
}

/// The specification with absolute paths: what goes into a header must not depend on where the
/// process is. The COW file's symbolic links are followed, because a rebuild replaces the name it
/// is given.
pub(super) fn absolute(spec: &DeviceSpec) -> Result<DeviceSpec, Failure> {
    let failed = |path: &Path, error: std::io::Error| {
        let cause = driver::system_words(error);
        Failure(format!("{}: opening: {cause}", driver::shown(path)))
    };
    let file = match std::fs::canonicalize(&spec.file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => paths::absolute(&spec.file)?,
        result => result.map_err(|error| failed(&spec.file, error))?,
    };
    let backing = spec.backing.as_deref().map(paths::for_header).transpose()?;
    Ok(DeviceSpec {
        file,
        backing,
        ..spec.clone()
    })
}
