//! Whatever is done to files of a mounted simulated directory, in whatever order, they hold what
//! files of a real one hold: random operations on both. Their answers are compared each, and what
//! they leave after each or, where there are many, after every sixteenth. `UBDLAB_EXERCISE` says
//! how many, a million for example, which takes minutes (ARCHITECTURE.md, "The tests"); a failure
//! names the seed.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use harness::mount::Limits;
use harness::random::SplitMix64;
use rustix::fs::{CWD, FallocateFlags, RenameFlags, SeekFrom};
use rustix::io::Errno;

use crate::support::cli::Sandbox;
use crate::support::share::share;
use crate::support::tree_mount::MountedDirectory;

/// No operation reaches past this position.
const REACH: u64 = 64 << 10;

const NAMES: [&str; 5] = ["a", "b", "c", "d/a", "d/b"];

/// One operation on whatever a name stands for.
#[derive(Clone, Copy, Debug)]
enum Exercise {
    Write {
        name: usize,
        at: u64,
        len: u64,
        fill: u8,
    },
    Append {
        name: usize,
        len: u64,
        fill: u8,
    },
    Truncate {
        name: usize,
        len: u64,
    },
    Allocate {
        name: usize,
        mode: u32,
        at: u64,
        len: u64,
    },
    CopyRange {
        from: usize,
        to: usize,
        at: u64,
        len: u64,
    },
    Rename {
        from: usize,
        to: usize,
        flags: u32,
    },
    Link {
        from: usize,
        to: usize,
    },
    Remove {
        name: usize,
    },
    Reopen {
        name: usize,
    },
    Sync {
        name: usize,
    },
    Seek {
        name: usize,
        at: u64,
    },
}

fn random(numbers: &mut SplitMix64) -> Exercise {
    let name = numbers.below(NAMES.len() as u64) as usize;
    let other = numbers.below(NAMES.len() as u64) as usize;
    let at = numbers.below(REACH);
    let len = match numbers.below(4) {
        0 => 1 + numbers.below(REACH - at),
        _ => 1 + numbers.below((REACH - at).min(5000)),
    };
    let fill = 1 + numbers.below(255) as u8;
    match numbers.below(100) {
        0..40 => Exercise::Write {
            name,
            at,
            len,
            fill,
        },
        40..45 => Exercise::Append {
            name,
            len: len.min(3000),
            fill,
        },
        45..55 => Exercise::Truncate { name, len: at },
        55..70 => {
            let keeps = FallocateFlags::KEEP_SIZE;
            let modes = [
                FallocateFlags::empty(),
                keeps,
                keeps | FallocateFlags::PUNCH_HOLE,
                keeps | FallocateFlags::PUNCH_HOLE,
            ];
            let mode = modes[numbers.below(4) as usize].bits();
            Exercise::Allocate {
                name,
                mode,
                at,
                len,
            }
        }
        70..78 => Exercise::CopyRange {
            from: name,
            to: other,
            at,
            len,
        },
        78..84 => Exercise::Rename {
            from: name,
            to: other,
            flags: numbers.below(3) as u32,
        },
        84..86 => Exercise::Link {
            from: name,
            to: other,
        },
        86..88 => Exercise::Remove { name },
        88..92 => Exercise::Reopen { name },
        92..96 => Exercise::Sync { name },
        _ => Exercise::Seek { name, at },
    }
}

/// A directory with a file open for each name that has been opened.
struct Side {
    directory: PathBuf,
    open: [Option<File>; NAMES.len()],
}

impl Side {
    fn new(directory: &Path) -> Side {
        std::fs::create_dir(directory.join("d")).unwrap();
        Side {
            directory: directory.to_owned(),
            open: Default::default(),
        }
    }

    fn path(&self, name: usize) -> PathBuf {
        self.directory.join(NAMES[name])
    }

    /// The file that was opened by this name, whatever name it has now.
    fn file(&mut self, name: usize) -> io::Result<&File> {
        if self.open[name].is_none() {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true);
            self.open[name] = Some(options.open(self.path(name))?);
        }
        Ok(self.open[name].as_ref().unwrap())
    }

    /// What the operation answers: a number, or the error's.
    fn apply(&mut self, exercise: Exercise) -> Result<u64, i32> {
        let done = self.attempt(exercise);
        done.map_err(|error| error.raw_os_error().unwrap_or(-1))
    }

    fn attempt(&mut self, exercise: Exercise) -> io::Result<u64> {
        match exercise {
            Exercise::Write {
                name,
                at,
                len,
                fill,
            } => {
                self.file(name)?
                    .write_all_at(&vec![fill; len as usize], at)?;
            }
            Exercise::Append { name, len, fill } => {
                use std::io::Write;
                self.file(name)?;
                let mut file = OpenOptions::new().append(true).open(self.path(name))?;
                file.write_all(&vec![fill; len as usize])?;
            }
            Exercise::Truncate { name, len } => self.file(name)?.set_len(len)?,
            Exercise::Allocate {
                name,
                mode,
                at,
                len,
            } => {
                let mode = FallocateFlags::from_bits_retain(mode);
                rustix::fs::fallocate(self.file(name)?, mode, at, len)?;
            }
            Exercise::CopyRange { from, to, at, len } => {
                let source = self.file(from)?.try_clone()?;
                let target = self.file(to)?;
                let (mut from, mut to) = (at / 2, at);
                let copied = rustix::fs::copy_file_range(
                    &source,
                    Some(&mut from),
                    target,
                    Some(&mut to),
                    len as usize,
                )?;
                return Ok(copied as u64);
            }
            Exercise::Rename { from, to, flags } => {
                let flags = match flags {
                    0 => RenameFlags::empty(),
                    1 => RenameFlags::NOREPLACE,
                    _ => RenameFlags::EXCHANGE,
                };
                rustix::fs::renameat_with(CWD, self.path(from), CWD, self.path(to), flags)?;
            }
            Exercise::Link { from, to } => std::fs::hard_link(self.path(from), self.path(to))?,
            Exercise::Remove { name } => std::fs::remove_file(self.path(name))?,
            Exercise::Reopen { name } => {
                self.open[name] = None;
                self.file(name)?;
            }
            Exercise::Sync { name } => {
                self.file(name)?.sync_all()?;
                File::open(self.path(name).parent().unwrap())?.sync_all()?;
            }
            Exercise::Seek { name, at } => return self.seek(name, at),
        }
        Ok(0)
    }

    /// Holes may lie elsewhere; what is said of them has to be true.
    fn seek(&mut self, name: usize, at: u64) -> io::Result<u64> {
        let file = self.file(name)?;
        let len = file.metadata()?.len();
        match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => assert!(at <= data && data < len, "{at} {data} {len}"),
            Err(error) => assert_eq!(error, Errno::NXIO),
        }
        let end = rustix::fs::seek(file, SeekFrom::Hole(at));
        match end {
            Ok(hole) => assert!(at <= hole && hole <= len, "{at} {hole} {len}"),
            Err(error) => assert!(error == Errno::NXIO && at >= len, "{at} {len}: {error}"),
        }
        Ok(len)
    }

    /// What a name stands for: its bytes and the number of its names, if there is something.
    fn found(&self, name: usize) -> Option<(u64, Vec<u8>)> {
        use std::os::unix::fs::MetadataExt;
        let bytes = std::fs::read(self.path(name)).ok()?;
        let links = std::fs::metadata(self.path(name)).ok()?.nlink();
        Some((links, bytes))
    }
}

impl Exercise {
    /// The names of which something may be different after it.
    fn touches(self) -> Vec<usize> {
        match self {
            Exercise::Rename { from, to, .. } | Exercise::Link { from, to } => vec![from, to],
            Exercise::CopyRange { from, to, .. } => vec![from, to],
            Exercise::Write { name, .. }
            | Exercise::Append { name, .. }
            | Exercise::Truncate { name, .. }
            | Exercise::Allocate { name, .. }
            | Exercise::Remove { name }
            | Exercise::Reopen { name }
            | Exercise::Sync { name }
            | Exercise::Seek { name, .. } => vec![name],
        }
    }
}

fn exercise(seed: u64, operations: u64, real: &Path, mounted: &Path) {
    let mut numbers = SplitMix64(seed);
    let (mut real, mut mounted) = (Side::new(real), Side::new(mounted));
    // To read all of what is touched takes most of the time.
    let compared_every = if operations > 10_000 { 16 } else { 1 };
    let mut touched = BTreeSet::new();
    for number in 0..operations {
        let exercise = random(&mut numbers);
        let context = format!("seed {seed}, operation {number}: {exercise:?}");
        let (expected, found) = (real.apply(exercise), mounted.apply(exercise));
        assert_eq!(expected, found, "{context}");
        touched.extend(exercise.touches());
        if !number.is_multiple_of(compared_every) {
            continue;
        }
        for name in std::mem::take(&mut touched) {
            let same = real.found(name) == mounted.found(name);
            assert!(same, "{context}: {} differs", NAMES[name]);
        }
    }
    for (name, told) in NAMES.iter().enumerate() {
        let same = real.found(name) == mounted.found(name);
        assert!(same, "seed {seed}, at the end: {told} differs");
    }
}

/// A log is in memory.
const MOST_A_SEED: u64 = 50_000;

#[test]
fn random_operations_leave_what_they_leave_on_a_real_file_system() {
    let asked_for = std::env::var("UBDLAB_EXERCISE").ok();
    let asked_for = asked_for.map(|count| count.parse().unwrap());
    let all: u64 = asked_for.unwrap_or(share(40_000, 4_000));
    let seeds = all.div_ceil(MOST_A_SEED).max(2);
    let operations = all.div_ceil(seeds);
    for seed in 0..seeds {
        let sandbox = Sandbox::new();
        let limits = Limits {
            changes: u64::MAX,
            logged: 4 << 30,
            ..Limits::default()
        };
        let Some(mounted) = MountedDirectory::new(&sandbox, "m", limits) else {
            return;
        };
        let real = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        exercise(seed, operations, real.path(), mounted.path());
        let log = mounted.end();
        assert!(log.len() as u64 > operations / 2);
    }
}
