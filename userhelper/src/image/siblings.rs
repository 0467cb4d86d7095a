//! The other COW files over a backing file, as far as they can be found: a backing file does not
//! know them. Looked for in the directories of the COW file and of the backing file.
//!
//! Anybody may have put files there. Only regular files are opened, by their own names and through
//! no symbolic link, to read whether they have a header. What such a header names is looked at and
//! never opened; and where the COW file's own path is followed only so far, theirs are too.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use driver::cow::{Header, LONGEST_HEADER};
use driver::host::{Access, FileIdentity, FileKind, HostFile, HostNames};
use driver::open::{NamedBacking, Trust};
use driver::units::FileOffset;

use crate::image_host::ImageHost;
use crate::real_files::{RealFile, RealHost};

use super::open::CowImageFile;

/// The most names of a directory that are looked at.
const MOST: usize = 10_000;

/// The COW files other than `cow` that lie beside it or beside its backing file and name that
/// backing file, in the order of their names. What cannot be read is passed over. `trust` says how
/// far the paths in their headers are followed.
pub fn siblings(cow: &CowImageFile<RealFile>, trust: Trust) -> Vec<PathBuf> {
    let identity = |file| RealHost.metadata(file).ok().map(|it| it.identity);
    let backing = cow.device.backing().and_then(identity);
    let (Some(own), Some(backing)) = (identity(cow.device.cow()), backing) else {
        return Vec::new();
    };
    let mut directories = vec![directory_of(&cow.path), directory_of(&cow.backing_path)];
    directories.dedup();
    let mut found: Vec<PathBuf> = (directories.into_iter())
        .flat_map(|directory| names_in(directory).map(move |name| (directory, name)))
        .filter(|(directory, name)| is_over(directory, name, trust, own, backing))
        .map(|(directory, name)| directory.join(name))
        .collect();
    found.sort();
    found.dedup();
    found
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn names_in(directory: &Path) -> impl Iterator<Item = OsString> + use<> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    entries
        .take(MOST)
        .filter_map(|entry| entry.ok().map(|entry| entry.file_name()))
}

fn is_over(
    directory: &Path,
    name: &OsString,
    trust: Trust,
    own: FileIdentity,
    backing: FileIdentity,
) -> bool {
    let header = || {
        let file = RealHost.open_beneath(directory, name.as_ref(), Access::ReadOnly);
        let file = file.ok()?;
        let metadata = RealHost.metadata(&file).ok()?;
        if metadata.kind != FileKind::Regular || metadata.identity == own {
            return None;
        }
        let mut start = vec![0; LONGEST_HEADER.0 as usize];
        start.truncate(metadata.len.0.min(LONGEST_HEADER.0) as usize);
        file.read_exact_at(&mut start, FileOffset(0)).ok()?;
        Header::decode(&start).ok()
    };
    let Some(header) = header() else {
        return false;
    };
    let named = NamedBacking::of(&directory.join(name), &header, trust);
    let looked = named.reach(|place| RealHost.look(place));
    matches!(looked, Ok(Ok(metadata)) if metadata.identity == backing)
}
