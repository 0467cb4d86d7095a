//! What a device can do for an NBD client. What it cannot do is not offered.

use std::io;
use std::path::Path;

use driver::blk::Zeroing;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::super::export::Export;
use super::message::transmission::{
    CAN_MULTI_CONN, HAS_FLAGS, READ_ONLY, SEND_CACHE, SEND_FAST_ZERO, SEND_FLUSH, SEND_FUA,
    SEND_TRIM, SEND_WRITE_ZEROES,
};
use crate::device::DeviceError;

/// What is asked of the file system is asked of this much of a file.
const PROBED: u64 = 4096;

/// What a device can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// It takes writes.
    pub writes: bool,
    /// It takes trims.
    pub trims: bool,
    /// It takes writes of zeros.
    pub zeroes: bool,
    /// It makes zeros faster than it writes them.
    pub zeroes_fast: bool,
}

/// What the file system can do that the device's own file is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// It punches holes.
    pub punches: bool,
    /// It makes a range of a file zeros without writing them.
    pub zeroes: bool,
}

impl Abilities {
    /// All that there are.
    pub const ALL: Abilities = Abilities {
        writes: true,
        trims: true,
        zeroes: true,
        zeroes_fast: true,
    };

    /// What a driver makes of what the file system can do.
    pub fn new(read_only: bool, zeroing: Zeroing, file_system: FileSystem) -> Abilities {
        let has_both = zeroing != Zeroing::Neither && !read_only;
        Abilities {
            writes: !read_only,
            trims: has_both && file_system.punches,
            zeroes: has_both && (file_system.zeroes || zeroing == Zeroing::Always),
            zeroes_fast: has_both && file_system.zeroes,
        }
    }

    /// Those of an export, whose file system is asked.
    pub(super) fn of(export: &Export) -> Result<Abilities, DeviceError> {
        let zeroing = export.submissions().look(|driver| driver.zeroing())?;
        let about = export.about();
        let file_system = FileSystem::at(&about.path);
        Ok(Abilities::new(about.read_only, zeroing, file_system))
    }

    /// The flags of an export.
    pub fn flags(self) -> u16 {
        let mut flags = HAS_FLAGS | SEND_FLUSH | CAN_MULTI_CONN | SEND_CACHE;
        for (can, flag) in [
            (!self.writes, READ_ONLY),
            (self.writes, SEND_FUA),
            (self.trims, SEND_TRIM),
            // Without it nobody would learn that zeros cannot be had faster.
            (self.zeroes, SEND_WRITE_ZEROES | SEND_FAST_ZERO),
        ] {
            if can {
                flags |= flag;
            }
        }
        flags
    }
}

impl FileSystem {
    /// The one with the file at `path`. It is asked with a file beside that one, which has no
    /// name. One that cannot be asked is taken for one that punches holes, as most do, and cannot
    /// make zeros: what is said to be fast has to be.
    pub fn at(path: &Path) -> FileSystem {
        FileSystem::asked(path).unwrap_or(FileSystem {
            punches: true,
            zeroes: false,
        })
    }

    fn asked(path: &Path) -> io::Result<FileSystem> {
        let path = path.canonicalize()?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        let file = tempfile::tempfile_in(directory)?;
        file.set_len(PROBED)?;
        // Any other failure, such as a full disk, says nothing about what it knows.
        let knows = |flags| {
            let done = rustix::fs::fallocate(&file, flags, 0, PROBED);
            !matches!(done, Err(Errno::OPNOTSUPP | Errno::NOSYS))
        };
        Ok(FileSystem {
            punches: knows(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE),
            zeroes: knows(FallocateFlags::ZERO_RANGE),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is offered of trims, zeros and fast zeros: `t`, `z` and `f`.
    fn offered(read_only: bool, zeroing: Zeroing, punches: bool, zeroes: bool) -> String {
        let file_system = FileSystem { punches, zeroes };
        let abilities = Abilities::new(read_only, zeroing, file_system);
        assert_eq!(abilities.writes, !read_only);
        let said = [
            ('t', abilities.trims),
            ('z', abilities.zeroes),
            ('f', abilities.zeroes_fast),
        ];
        let flags = abilities.flags();
        assert_eq!(flags & SEND_TRIM != 0, abilities.trims);
        assert_eq!(flags & SEND_WRITE_ZEROES != 0, abilities.zeroes);
        assert_eq!(flags & SEND_FAST_ZERO != 0, abilities.zeroes);
        assert_eq!(flags & READ_ONLY != 0, read_only);
        assert_eq!(flags & SEND_FUA != 0, !read_only);
        said.iter().filter(|it| it.1).map(|it| it.0).collect()
    }

    #[test]
    fn what_driver_and_file_system_can_do_together_is_offered_and_nothing_else() {
        for (zeroing, punches, zeroes, expected) in [
            (Zeroing::Neither, true, true, ""),
            (Zeroing::Neither, false, false, ""),
            (Zeroing::AsHost, true, true, "tzf"),
            (Zeroing::AsHost, true, false, "t"),
            (Zeroing::AsHost, false, true, "zf"),
            (Zeroing::AsHost, false, false, ""),
            (Zeroing::Always, true, true, "tzf"),
            (Zeroing::Always, true, false, "tz"),
            (Zeroing::Always, false, true, "zf"),
            (Zeroing::Always, false, false, "z"),
        ] {
            let found = offered(false, zeroing, punches, zeroes);
            assert_eq!(found, expected, "{zeroing:?} {punches} {zeroes}");
            assert_eq!(offered(true, zeroing, punches, zeroes), "");
        }
    }

    #[test]
    fn a_file_system_is_asked_without_a_trace_and_one_that_cannot_be_is_not_trusted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cow");
        std::fs::write(&path, "as it was").unwrap();
        FileSystem::at(&path);
        assert_eq!(std::fs::read(&path).unwrap(), b"as it was");
        assert_eq!(directory.path().read_dir().unwrap().count(), 1);
        let nowhere = FileSystem::at(Path::new("/nonexistent/cow"));
        let expected = FileSystem {
            punches: true,
            zeroes: false,
        };
        assert_eq!(nowhere, expected);
    }
}
