//! A real directory as the list of changes that makes it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use driver::host::{Access, HostFile, HostNames, OperationKind};
use driver::shown;
use driver::units::{Bytes, FileOffset, FileRange};
use userhelper::real_files::RealHost;

use super::super::survivors::InodeNumber;
use super::carry_out::ROOT;
use super::change::{Attributes, EntryName, Moment, NewNode, Recorded, TreeChange};

/// The most bytes that one write of the list has.
const PIECE: u64 = 1 << 20;

/// What a directory may have in it to be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MostLoaded {
    /// Files, directories and symbolic links.
    pub nodes: u64,
    /// Bytes of data, of names and of where symbolic links lead, together.
    pub bytes: u64,
}

/// A directory that was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What makes it, of an empty one; all of it is durable then.
    pub changes: Vec<Recorded>,
    /// What was left out: neither a file nor a directory nor a symbolic link.
    pub left_out: Vec<PathBuf>,
}

/// Why a directory cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CannotLoad {
    /// It was to end before.
    #[error("reading the directory was stopped")]
    Stopped,
    /// What the system said.
    #[error("{}: {}", shown(path), driver::system_words(error))]
    System {
        /// Of what.
        path: PathBuf,
        /// Its words.
        error: io::Error,
    },
    /// A file cannot be read.
    #[error("{}: {error}", shown(path))]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: driver::host::HostError,
    },
    /// There is too much in it.
    #[error(
        "{}: found more than {most} {what}, which are kept in memory",
        shown(path)
    )]
    TooMuch {
        /// Where that was seen.
        path: PathBuf,
        /// How much is allowed.
        most: u64,
        /// Of what.
        what: &'static str,
    },
}

/// Reads `directory` with all that is in it, until `stop` says that everything is to end. It has to
/// stay as it is meanwhile.
///
/// # Errors
/// If it cannot be read, has more in it than `most`, or was to end.
pub fn load(directory: &Path, most: MostLoaded, stop: &AtomicBool) -> Result<Loaded, CannotLoad> {
    let mut loading = Loading {
        changes: Vec::new(),
        left_out: Vec::new(),
        known: BTreeMap::new(),
        next: ROOT.0,
        bytes: 0,
        most,
        stop,
    };
    let metadata = std::fs::metadata(directory).map_err(|error| system(directory, error))?;
    let number = loading.number(directory)?;
    loading.within(directory, number)?;
    loading.give(directory, number, &metadata)?;
    loading.push(directory, OperationKind::SyncDirectory, TreeChange::Settle)?;
    Ok(Loaded {
        changes: loading.changes,
        left_out: loading.left_out,
    })
}

struct Loading<'a> {
    changes: Vec<Recorded>,
    left_out: Vec<PathBuf>,
    /// Files with several names, by device and inode.
    known: BTreeMap<(u64, u64), InodeNumber>,
    next: u64,
    bytes: u64,
    most: MostLoaded,
    stop: &'a AtomicBool,
}

impl Loading<'_> {
    fn check_stop(&self) -> Result<(), CannotLoad> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(CannotLoad::Stopped),
            false => Ok(()),
        }
    }

    fn push(
        &mut self,
        path: &Path,
        kind: OperationKind,
        change: TreeChange,
    ) -> Result<(), CannotLoad> {
        self.bytes += change.payload();
        if self.bytes > self.most.bytes {
            return Err(CannotLoad::TooMuch {
                path: path.to_owned(),
                most: self.most.bytes,
                what: "bytes",
            });
        }
        self.changes.push(Recorded {
            kind,
            at: Moment::default(),
            change,
        });
        Ok(())
    }

    fn number(&mut self, path: &Path) -> Result<InodeNumber, CannotLoad> {
        let number = InodeNumber(self.next);
        self.next += 1;
        match self.next - ROOT.0 > self.most.nodes {
            false => Ok(number),
            true => Err(CannotLoad::TooMuch {
                path: path.to_owned(),
                most: self.most.nodes,
                what: "files",
            }),
        }
    }

    fn within(&mut self, path: &Path, directory: InodeNumber) -> Result<(), CannotLoad> {
        let entries = std::fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = entries.map_err(|error| system(path, error))?;
        let mut names: Vec<OsString> = entries.iter().map(std::fs::DirEntry::file_name).collect();
        names.sort();
        for name in names {
            let path = path.join(&name);
            self.one(&path, EntryName { directory, name })?;
        }
        Ok(())
    }

    fn one(&mut self, path: &Path, name: EntryName) -> Result<(), CannotLoad> {
        self.check_stop()?;
        let metadata = std::fs::symlink_metadata(path).map_err(|error| system(path, error))?;
        let kind = metadata.file_type();
        let identity = (metadata.dev(), metadata.ino());
        if let Some(&node) = self.known.get(&identity) {
            return self.push(path, OperationKind::Link, TreeChange::Link { node, name });
        }
        let (kind, what) = if kind.is_file() {
            (OperationKind::CreateNew, NewNode::File)
        } else if kind.is_dir() {
            (OperationKind::MakeDirectory, NewNode::Directory)
        } else if kind.is_symlink() {
            let target = std::fs::read_link(path).map_err(|error| system(path, error))?;
            (OperationKind::CreateNew, NewNode::SymbolicLink(target))
        } else {
            self.left_out.push(path.to_owned());
            return Ok(());
        };
        let node = self.number(path)?;
        if metadata.nlink() > 1 && !metadata.is_dir() {
            self.known.insert(identity, node);
        }
        let create = TreeChange::Create {
            name,
            node,
            what: what.clone(),
            attributes: Attributes::default(),
        };
        self.push(path, kind, create)?;
        match what {
            NewNode::File => self.content(path, node)?,
            NewNode::Directory => self.within(path, node)?,
            NewNode::SymbolicLink(_) => {}
        }
        self.give(path, node, &metadata)
    }

    fn content(&mut self, path: &Path, file: InodeNumber) -> Result<(), CannotLoad> {
        let failed = |error| CannotLoad::File {
            path: path.to_owned(),
            error,
        };
        let opened = RealHost.open(path, Access::ReadOnly).map_err(failed)?;
        let len = opened.len().map_err(failed)?;
        for run in opened.data_runs(FileRange::new(FileOffset(0), len)) {
            let run = run.map_err(failed)?;
            let mut at = run.start;
            while at < run.end() {
                self.check_stop()?;
                let piece = (run.end() - at).min(Bytes(PIECE));
                let mut data = vec![0; piece.0 as usize];
                opened.read_exact_at(&mut data, at).map_err(failed)?;
                let data: Arc<[u8]> = data.into();
                let write = TreeChange::Write { file, at, data };
                self.push(path, OperationKind::Write, write)?;
                at += piece;
            }
        }
        let cut = TreeChange::SetLen { file, len };
        self.push(path, OperationKind::SetLen, cut)
    }

    fn give(
        &mut self,
        path: &Path,
        node: InodeNumber,
        metadata: &Metadata,
    ) -> Result<(), CannotLoad> {
        let moment = |seconds: i64, nanoseconds: i64| {
            Moment(
                seconds
                    .saturating_mul(1_000_000_000)
                    .saturating_add(nanoseconds),
            )
        };
        let attributes = Attributes {
            mode: Some(metadata.mode() & 0o7777),
            user: Some(metadata.uid()),
            group: Some(metadata.gid()),
            accessed: Some(moment(metadata.atime(), metadata.atime_nsec())),
            modified: Some(moment(metadata.mtime(), metadata.mtime_nsec())),
        };
        let change = TreeChange::SetAttributes { node, attributes };
        self.push(path, OperationKind::SetAttributes, change)
    }
}

fn system(path: &Path, error: io::Error) -> CannotLoad {
    let path = path.to_owned();
    CannotLoad::System { path, error }
}
