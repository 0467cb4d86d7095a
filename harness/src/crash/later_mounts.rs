//! What commands mount in a view beside the simulated directory. It goes when they have ended, so
//! that the next command finds what the first one has found, and so that nothing lies over the
//! simulated directory. What the system mounts meanwhile stays: it is in every view.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::io::retry_on_intr;
use rustix::mount::{UnmountFlags, unmount};

/// How often what is mounted is looked at again: what lies beneath one mount may be another.
const MOST_ROUNDS: u32 = 16;

/// What has become of the mount of the simulated directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// It is there.
    Whole,
    /// Something else was mounted over it, or over a directory that it is in.
    Covered,
    /// It was taken away.
    TakenAway,
}

/// The mounts of a view since the simulated directory is mounted there.
#[derive(Debug)]
pub(super) struct LaterMounts {
    /// The kernel's list of the view's mounts, which tells who polls it of changes.
    here: File,
    /// That of the view of which this one is a copy.
    outside: File,
    directory: PathBuf,
    before: BTreeSet<Listed>,
    /// The simulated directory's.
    ours: Option<Listed>,
}

/// A mount. The numbers are used again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Listed {
    at: PathBuf,
    device: String,
    number: u64,
}

impl LaterMounts {
    /// Notes what is mounted, with the simulated directory over `directory`.
    pub(super) fn note(here: File, outside: File, directory: PathBuf) -> io::Result<LaterMounts> {
        let mut mounts = LaterMounts {
            here,
            outside,
            directory,
            before: BTreeSet::new(),
            ours: None,
        };
        mounts.has_changed()?;
        let before = list(&mounts.here)?;
        mounts.ours = last_on(&mounts.directory, &before).cloned();
        mounts.before = before.into_iter().collect();
        Ok(mounts)
    }

    /// Takes away what was mounted since, and tells what has become of the simulated directory.
    /// What that is asked meanwhile has to be answered.
    pub(super) fn clear(&self) -> io::Result<Left> {
        if !self.has_changed()? {
            return Ok(Left::Whole);
        }
        let mut covers = false;
        for _ in 0..MOST_ROUNDS {
            let later = self.later()?;
            covers |= later.iter().any(|it| self.directory.starts_with(&it.at));
            // The last one first: it may lie in one before.
            let gone = later.iter().rev().filter(|it| it.take_away()).count();
            if gone == 0 {
                break;
            }
        }
        let is_ours = |it: &Listed| self.ours.as_ref() == Some(it);
        Ok(match list(&self.here)?.iter().any(is_ours) {
            _ if covers => Left::Covered,
            true => Left::Whole,
            false => Left::TakenAway,
        })
    }

    /// Whether anything was mounted or unmounted since this was asked last.
    fn has_changed(&self) -> io::Result<bool> {
        let mut polled = [PollFd::new(&self.here, PollFlags::PRI)];
        Ok(retry_on_intr(|| poll(&mut polled, Some(&Timespec::default())))? > 0)
    }

    fn later(&self) -> io::Result<Vec<Listed>> {
        let mut later = list(&self.here)?;
        // What comes from outside is there by now.
        let outside = list(&self.outside)?;
        let same = |it: &Listed, other: &Listed| (&it.at, &it.device) == (&other.at, &other.device);
        later
            .retain(|it| !self.before.contains(it) && !outside.iter().any(|other| same(it, other)));
        Ok(later)
    }
}

impl Listed {
    /// One of the list's lines, as in `36 35 98:0 /root /at/here rw - ext4 /dev/x rw`.
    fn of(line: &[u8]) -> Option<Listed> {
        let mut fields = line.split(|&byte| byte == b' ');
        let number = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let device = String::from_utf8_lossy(fields.nth(1)?).into_owned();
        let at = unescaped(fields.nth(1)?).into();
        Some(Listed { at, device, number })
    }

    /// Whether it has gone by this.
    fn take_away(&self) -> bool {
        // Without the root there would be no way to anything.
        if self.at.parent().is_none() || number_at(&self.at) != Some(self.number) {
            return false;
        }
        unmount(&self.at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok()
    }
}

/// That of the mount in which this is, without a word to whoever serves it.
pub(super) fn number_at(path: &Path) -> Option<u64> {
    let found = statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::MNT_ID);
    found.ok().map(|found| found.stx_mnt_id)
}

/// In the order in which they were mounted.
fn list(mut from: &File) -> io::Result<Vec<Listed>> {
    let mut text = Vec::new();
    from.rewind()?;
    from.read_to_end(&mut text)?;
    let lines = text.split(|&byte| byte == b'\n');
    Ok(lines.filter_map(Listed::of).collect())
}

/// The one on top of those on a directory. What it lies over may be another.
fn last_on<'a>(directory: &Path, listed: &'a [Listed]) -> Option<&'a Listed> {
    listed.iter().rfind(|it| it.at == directory)
}

/// The list has `\040` for a blank.
fn unescaped(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, more @ ..] = rest {
        let octal = |digits: &[u8]| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        };
        let escaped = more.get(..3).filter(|_| *first == b'\\').and_then(octal);
        bytes.push(escaped.unwrap_or(*first));
        rest = match escaped {
            Some(_) => &more[3..],
            None => more,
        };
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_mount_is_told_from_the_one_that_it_lies_over() {
        let lines = [
            "36 35 8:1 / /work rw - ext4 /dev/x rw",
            "37 36 0:50 / /work rw - fuse ubdlab rw",
            "38 35 0:51 / /other rw - tmpfs none rw",
        ];
        let listed = lines.map(|line| Listed::of(line.as_bytes()).unwrap());
        let found = last_on(Path::new("/work"), &listed);
        assert_eq!(found.map(|it| it.number), Some(37));
        assert_eq!(last_on(Path::new("/none"), &listed), None);
    }

    #[test]
    fn a_line_of_the_list_is_read() {
        let line = br"36 35 98:0 / /a\040b\134c rw,noatime master:1 - ext3 /dev/root rw";
        let expected = Listed {
            at: PathBuf::from(r"/a b\c"),
            device: "98:0".into(),
            number: 36,
        };
        assert_eq!(Listed::of(line), Some(expected));
        assert_eq!(Listed::of(b""), None);
        assert_eq!(unescaped(br"\04"), OsString::from(r"\04"));
        assert_eq!(unescaped(br"\777").as_bytes(), br"\777");
    }
}
