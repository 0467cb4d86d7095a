//! The other COW files over a backing file, as far as they can be found: a backing file does not
//! know them. Looked for in the directories of the COW file and of the backing file.

use std::path::{Path, PathBuf};

use driver::cow::{Header, LONGEST_HEADER};
use driver::host::{Access, FileIdentity, FileKind, HostFile, HostNames};
use driver::open::backing_path;
use driver::units::FileOffset;

use crate::real_files::RealHost;

/// So many names of a directory are looked at.
const MOST: usize = 10_000;

/// The COW files other than `cow` that lie beside it or beside `backing` and name that backing
/// file, in the order of their names. What cannot be read is passed over.
pub fn siblings(cow: &Path, backing: &Path) -> Vec<PathBuf> {
    let identity = |path: &Path| {
        let file = RealHost.open(path, Access::ReadOnly).ok()?;
        RealHost.metadata(&file).ok().map(|it| it.identity)
    };
    let (Some(own), Some(backing_identity)) = (identity(cow), identity(backing)) else {
        return Vec::new();
    };
    let mut directories = vec![directory_of(cow), directory_of(backing)];
    directories.dedup();
    let mut found: Vec<PathBuf> = (directories.into_iter())
        .filter_map(|directory| std::fs::read_dir(directory).ok())
        .flat_map(|entries| entries.take(MOST))
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| is_over(path, own, backing_identity))
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

fn is_over(path: &Path, own: FileIdentity, backing: FileIdentity) -> bool {
    let header = || {
        let file = RealHost.open(path, Access::ReadOnly).ok()?;
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
    let named = RealHost.open(&backing_path(path, &header), Access::ReadOnly);
    let named = named.and_then(|file| RealHost.metadata(&file));
    named.is_ok_and(|metadata| metadata.identity == backing)
}
