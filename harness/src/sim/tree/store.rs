//! A simulated directory written out as a real one.

use std::collections::BTreeMap;
use std::fs::{File, FileTimes};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use driver::shown;
use driver::units::{Bytes, FileOffset};

use super::super::survivors::InodeNumber;
use super::carry_out::Tree;
use super::node::{Found, NodeKind};

/// The most bytes that are copied in one go.
const PIECE: u64 = 1 << 20;

/// Why a directory cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", shown(path), driver::system_words(error))]
pub struct CannotStore {
    path: PathBuf,
    error: io::Error,
}

impl Tree {
    /// Writes all of it into `directory`, which is empty, with owners where the user may give them,
    /// until `stop` says that everything is to end. Whether all of it is written.
    ///
    /// # Errors
    /// The system's.
    pub fn store(&self, directory: &Path, stop: &AtomicBool) -> Result<bool, CannotStore> {
        let mut written: BTreeMap<_, PathBuf> = BTreeMap::new();
        let walked = self.walk();
        for (path, number) in &walked {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let path = directory.join(path);
            let failed = |error| CannotStore {
                path: path.clone(),
                error,
            };
            let Ok(found) = self.stat(*number) else {
                continue;
            };
            if let Some(first) = written.get(number) {
                std::fs::hard_link(first, &path).map_err(failed)?;
                continue;
            }
            match found.kind {
                NodeKind::Directory if *path == *directory.join(".") => {}
                NodeKind::Directory => std::fs::create_dir(&path).map_err(failed)?,
                NodeKind::File => self.store_file(*number, &path, stop).map_err(failed)?,
                NodeKind::SymbolicLink => {
                    let target = self.target(*number).unwrap_or(Path::new(""));
                    symlink(target, &path).map_err(failed)?;
                }
            }
            written.insert(*number, path);
        }
        // What is in a directory first: to make it changes the directory's time.
        for (number, path) in walked.iter().rev().filter_map(|(_, number)| {
            let path = written.remove(number)?;
            Some((number, path))
        }) {
            if let Ok(found) = self.stat(*number) {
                give(&path, &found).map_err(|error| CannotStore { path, error })?;
            }
        }
        Ok(!stop.load(Ordering::Relaxed))
    }

    fn store_file(&self, number: InodeNumber, path: &Path, stop: &AtomicBool) -> io::Result<()> {
        let file = File::options().write(true).create_new(true).open(path)?;
        let Ok(content) = self.content(number) else {
            return Ok(());
        };
        file.set_len(content.length().0)?;
        let mut at = FileOffset(0);
        while let Some(piece) = content.next_data_up_to(at, Bytes(PIECE))
            && !stop.load(Ordering::Relaxed)
        {
            let mut data = vec![0; piece.len.0 as usize];
            let count = content.read_at(&mut data, piece.start);
            file.write_all_at(&data[..count], piece.start.0)?;
            at = piece.end();
        }
        Ok(())
    }
}

fn give(path: &Path, found: &Found) -> io::Result<()> {
    // Without the right to give files away, they are the user's.
    let _ = lchown(path, Some(found.user), Some(found.group));
    if found.kind == NodeKind::SymbolicLink {
        return Ok(());
    }
    let mode = std::fs::Permissions::from_mode(found.mode);
    let times = FileTimes::new()
        .set_accessed(found.accessed.time())
        .set_modified(found.modified.time());
    // Before the mode, which may not let even the owner open it.
    File::open(path)?.set_times(times)?;
    std::fs::set_permissions(path, mode)
}
