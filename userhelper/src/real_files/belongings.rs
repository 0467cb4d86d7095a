//! What belongs to a file beside its content: who may open it, what its user noted, how the file
//! system treats it. A new file that takes the place of another should have all of it. Not all of
//! it can be given by every user on every file system, and what is missing is to be told.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{IFlags, OFlags, ioctl_getflags};

use super::attributes::{ACCESS_LIST, Flag, OF_STORAGE, OF_USE, Source, all};

/// No access control list is longer on Linux.
const LONGEST_LIST: usize = 64 << 10;

/// What belonged to a file when it was looked at. Its times do not: a new file has other bytes,
/// and a backup that goes by the time would miss them. Neither does its project (`lsattr -p`),
/// which a new file gets from its directory: the system tells it by a call that no safe interface
/// has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Belongings {
    owner: u32,
    group: u32,
    mode: u32,
    list: Vec<u8>,
    extended: BTreeMap<CString, Vec<u8>>,
    /// `None` where the file may not be read, or its file system has none.
    flags: Option<IFlags>,
}

impl Belongings {
    /// Those of the regular file at `path`, symbolic links followed; `None` if there is none that
    /// can be looked at.
    pub fn at(path: &Path) -> Option<Belongings> {
        let metadata = std::fs::metadata(path).ok()?;
        if !metadata.is_file() {
            return None;
        }
        Some(Belongings::new(
            Source::Path(path),
            &metadata,
            open_for_flags(path).ok().as_ref(),
        ))
    }

    /// Those of an open file.
    ///
    /// # Errors
    /// The system's.
    pub fn of(file: &File) -> io::Result<Belongings> {
        let metadata = file.metadata()?;
        Ok(Belongings::new(Source::File(file), &metadata, Some(file)))
    }

    fn new(source: Source<'_>, metadata: &Metadata, file: Option<&File>) -> Belongings {
        let mut list = vec![0; LONGEST_LIST];
        let len = source.value(ACCESS_LIST, &mut list).unwrap_or(0);
        list.truncate(len);
        Belongings {
            owner: metadata.uid(),
            group: metadata.gid(),
            mode: metadata.mode() & 0o7777,
            list,
            extended: all(source),
            flags: file.and_then(|file| ioctl_getflags(file).ok()),
        }
    }

    /// What a file with these belongings lacks of what `old` had, in words; empty if nothing.
    pub fn lack_of(&self, old: &Belongings) -> Vec<String> {
        let mut lack = Vec::new();
        if self.owner != old.owner {
            lack.push(format!("the owner {}", old.owner));
        }
        if self.group != old.group {
            lack.push(format!("the group {}", old.group));
        }
        if self.mode != old.mode {
            lack.push(format!("the mode {:04o}", old.mode));
        }
        if !old.list.is_empty() && self.list != old.list {
            lack.push("the access control list".to_owned());
        }
        let other = |name: &CString, value| self.extended.get(name) != Some(value);
        for (name, _) in old
            .extended
            .iter()
            .filter(|(name, value)| other(name, value))
        {
            // Whoever may set attributes chooses their names.
            let name = driver::OneLine(name.to_string_lossy());
            lack.push(format!("the extended attribute {name}"));
        }
        let (Some(has), Some(had)) = (self.flags, old.flags) else {
            return lack;
        };
        let lost = |&&(flag, _): &&Flag| had.contains(flag) && !has.contains(flag);
        let letters: String = OF_STORAGE
            .iter()
            .chain(&OF_USE)
            .filter(lost)
            .map(|&(_, letter)| letter)
            .collect();
        if !letters.is_empty() {
            lack.push(format!("the attribute {letters} (chattr +{letters})"));
        }
        lack
    }
}

/// The file, to ask for its attributes: it is not read, and nobody is waited for.
pub(super) fn open_for_flags(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    File::options()
        .read(true)
        .custom_flags(flags.bits() as i32)
        .open(path)
}
