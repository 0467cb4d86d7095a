//! Two hosts do the same operations and have to answer the same: whatever runs on
//! one of them then means the same on the other. Generic over the seams and without
//! dependencies, so that every implementation can be run through it, wherever it
//! lives: include this file with `#[path]`.
//!
//! What is compared: every result, errors included; after each change of a file its
//! length; at the end the whole content of every name. What is not: times, and where
//! the holes are, for a host may choose. But a hole has to read as zeros.

#![expect(
    clippy::unwrap_used,
    reason = "a host that fails here has failed the test"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use driver::host::{
    Access, Action, Buffer, FileKind, FileRole, HostError, HostFile, HostNames, HostResult,
    LockKind, Operation, Replace, Waiter,
};
use driver::units::{Bytes, FileOffset, FileRange};

/// How much of a case there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// How many operations.
    pub(crate) operations: usize,
    /// No operation reaches past this position.
    pub(crate) reach: u64,
}

/// Runs the sequence of operations that `seed` stands for on both hosts, each in its
/// own directory, and panics at the first difference, naming seed and operation.
pub(crate) fn hosts_agree<A: HostNames, B: HostNames>(
    seed: u64,
    extent: Extent,
    (first_host, first_directory): (&A, &Path),
    (second_host, second_directory): (&B, &Path),
) {
    let mut random = SplitMix(seed);
    let mut first = Side::new(first_host, first_directory);
    let mut second = Side::new(second_host, second_directory);
    for number in 0..extent.operations {
        let call = Call::random(&mut random, extent.reach);
        let context = format!("seed {seed}, operation {number}: {}", call.said());
        let expected = first.apply(&call);
        let found = second.apply(&call);
        let (expected, found) = match (expected, found) {
            (Err(HostError::Unsupported), Err(HostError::Unsupported)) => continue,
            (Err(HostError::Unsupported), found) => (first.fall_back(&call), found),
            (expected, Err(HostError::Unsupported)) => (expected, second.fall_back(&call)),
            answers => answers,
        };
        assert_eq!(expected, found, "{context}");
        first.check_data_runs(&call, &context);
        second.check_data_runs(&call, &context);
    }
    let context = format!("seed {seed}, at the end");
    for name in NAMES {
        let first = first.whole(name, &context);
        let second = second.whole(name, &context);
        // Not assert_eq: nobody wants to see a megabyte.
        if first != second {
            let at = first
                .iter()
                .zip(&second)
                .take_while(|(a, b)| a == b)
                .count();
            panic!("{context}: contents of {name:?} differ from block {at} on");
        }
    }
}

const NAMES: [&str; 3] = ["cow", "backing", "cow.new"];
const SLOTS: u64 = 4;

/// What is put before a name that is looked for beneath a directory; the last three lead out of
/// it, or could.
const WAYS: [&str; 5] = ["", "./", "../images/", "images/../", "/images/"];

/// One call of the seams. Slots hold open files; names are those in `NAMES`.
#[derive(Clone, Debug)]
enum Call {
    Open {
        slot: u64,
        name: &'static str,
        access: Access,
    },
    /// The way to the name is one of `WAYS`.
    OpenBeneath {
        slot: u64,
        way: &'static str,
        name: &'static str,
    },
    CreateNew {
        slot: u64,
        name: &'static str,
    },
    Close {
        slot: u64,
    },
    /// What has a value in the driver's own vocabulary.
    OnFile {
        slot: u64,
        action: Action,
    },
    ReadZeroFilled {
        slot: u64,
        range: FileRange,
    },
    DataRuns {
        slot: u64,
        range: FileRange,
    },
    Inexpressible {
        slot: u64,
    },
    Metadata {
        slot: u64,
    },
    SameFile {
        slots: [u64; 2],
    },
    CopyAttributes {
        slots: [u64; 2],
    },
    Lock {
        slot: u64,
        kind: LockKind,
    },
    Rename {
        from: &'static str,
        to: &'static str,
        replace: Replace,
    },
    Remove {
        name: &'static str,
    },
    SyncDirectory {
        name: &'static str,
    },
}

/// What an operation answers, as far as it can be compared.
#[derive(Debug, PartialEq)]
enum Answer {
    Done,
    SlotIsEmpty,
    Len(Bytes),
    Content(Vec<u8>),
    Kind(FileKind, Bytes),
    Same(bool),
    Refusals(Vec<HostError>),
}

impl Call {
    fn random(random: &mut SplitMix, reach: u64) -> Self {
        let slot = random.below(SLOTS);
        let slots = [slot, random.below(SLOTS)];
        let name = random.name();
        match random.below(105) {
            0..10 => Self::Open {
                slot,
                name,
                access: match random.below(4) {
                    0 => Access::ReadOnly,
                    _ => Access::ReadWrite,
                },
            },
            10..15 => Self::CreateNew { slot, name },
            15..18 => Self::Close { slot },
            18..38 => {
                let range = random.range(reach);
                let stamp = random.below(256) as u8;
                Self::on_file(slot, write(range, stamp))
            }
            38..45 => Self::on_file(slot, read(random.range(reach))),
            45..50 => Self::ReadZeroFilled {
                slot,
                range: random.range(reach),
            },
            50..53 => {
                // One byte cannot be short: it is there or the file has ended.
                let buffer = Buffer::whole(vec![0xee; 1]);
                Self::on_file(slot, Action::read_once(random.range(reach).start, buffer))
            }
            53..60 => {
                let len = Bytes(random.range(reach).start.0);
                Self::on_file(slot, Action::SetLen(len))
            }
            60..68 => Self::on_file(slot, Action::PunchHole(random.range(reach))),
            68..73 => Self::on_file(slot, Action::ZeroRange(random.range(reach))),
            73..75 => Self::on_file(slot, Action::SyncData),
            75..79 => Self::DataRuns {
                slot,
                range: random.range(reach),
            },
            79..80 => Self::Inexpressible { slot },
            80..83 => Self::Metadata { slot },
            83..85 => Self::SameFile { slots },
            85..86 => Self::CopyAttributes { slots },
            86..93 => Self::Lock {
                slot,
                kind: match random.below(2) {
                    0 => LockKind::Shared,
                    _ => LockKind::Exclusive,
                },
            },
            93..97 => Self::Rename {
                from: name,
                to: random.name(),
                replace: match random.below(2) {
                    0 => Replace::Existing,
                    _ => Replace::Nothing,
                },
            },
            97..99 => Self::Remove { name },
            99 => Self::SyncDirectory { name },
            _ => Self::OpenBeneath {
                slot,
                way: WAYS[random.below(WAYS.len() as u64) as usize],
                name,
            },
        }
    }

    fn on_file(slot: u64, action: Action) -> Self {
        Self::OnFile { slot, action }
    }

    /// The slot whose file the call changes.
    fn changes(&self) -> Option<u64> {
        match self {
            Self::OnFile { slot, action } if action.changes() => Some(*slot),
            _ => None,
        }
    }

    /// In a message, without what is written.
    fn said(&self) -> String {
        match self {
            Self::OnFile { slot, action } => {
                format!("{}, {:?}, slot {slot}", action.kind(), action.range())
            }
            call => format!("{call:?}"),
        }
    }
}

/// A write of which no byte is zero, so that a lost one shows.
fn write(range: FileRange, stamp: u8) -> Action {
    let bytes = range.start.0..range.end().0;
    let data = bytes.map(|at| stamp.wrapping_add((at % 251) as u8) | 1);
    Action::Write {
        at: range.start,
        buffer: Buffer::whole(data.collect()),
    }
}

fn read(range: FileRange) -> Action {
    Action::Read {
        at: range.start,
        buffer: Buffer::whole(vec![0xee; range.len.0 as usize]),
    }
}

/// One host with what is open on it.
struct Side<'a, H: HostNames> {
    host: &'a H,
    directory: &'a Path,
    open: BTreeMap<u64, H::File>,
}

impl<'a, H: HostNames> Side<'a, H> {
    fn new(host: &'a H, directory: &'a Path) -> Self {
        let open = BTreeMap::new();
        Self {
            host,
            directory,
            open,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn apply(&mut self, call: &Call) -> HostResult<Answer> {
        match *call {
            Call::Open { slot, name, access } => {
                let opened = self.host.open(&self.path(name), access);
                return self.put(slot, opened);
            }
            Call::OpenBeneath { slot, way, name } => {
                let path = PathBuf::from(format!("{way}{name}"));
                let access = Access::ReadWrite;
                let opened = self.host.open_beneath(self.directory, &path, access);
                return self.put(slot, opened);
            }
            Call::CreateNew { slot, name } => {
                let created = self.host.create_new(&self.path(name));
                return self.put(slot, created);
            }
            Call::Close { slot } => drop(self.open.remove(&slot)),
            Call::Rename { from, to, replace } => {
                let (from, to) = (self.path(from), self.path(to));
                self.host.rename(&from, &to, replace)?;
            }
            Call::Remove { name } => self.host.remove(&self.path(name))?,
            Call::SyncDirectory { name } => self.host.sync_directory_of(&self.path(name))?,
            Call::SameFile { slots } | Call::CopyAttributes { slots } => {
                let [Some(one), Some(other)] = slots.map(|slot| self.open.get(&slot)) else {
                    return Ok(Answer::SlotIsEmpty);
                };
                if matches!(call, Call::CopyAttributes { .. }) {
                    self.host.copy_attributes(one, other)?;
                } else {
                    let identities = (self.host.metadata(one)?, self.host.metadata(other)?);
                    return Ok(Answer::Same(identities.0.identity == identities.1.identity));
                }
            }
            Call::Lock { slot, kind } => match self.open.get(&slot) {
                Some(file) => self.host.lock(file, kind)?,
                None => return Ok(Answer::SlotIsEmpty),
            },
            Call::Metadata { slot } => match self.open.get(&slot) {
                Some(file) => {
                    let metadata = self.host.metadata(file)?;
                    return Ok(Answer::Kind(metadata.kind, metadata.len));
                }
                None => return Ok(Answer::SlotIsEmpty),
            },
            Call::OnFile { slot, .. }
            | Call::ReadZeroFilled { slot, .. }
            | Call::DataRuns { slot, .. }
            | Call::Inexpressible { slot } => {
                return match self.open.get(&slot) {
                    Some(file) => apply_to_file(file, call),
                    None => Ok(Answer::SlotIsEmpty),
                };
            }
        }
        Ok(Answer::Done)
    }

    fn put(&mut self, slot: u64, opened: HostResult<H::File>) -> HostResult<Answer> {
        self.open.insert(slot, opened?);
        Ok(Answer::Done)
    }

    /// What a caller does where the host has no such operation: write the zeros.
    fn fall_back(&mut self, call: &Call) -> HostResult<Answer> {
        let Call::OnFile { slot, action } = call else {
            return Err(HostError::Unsupported);
        };
        let (file, range) = (&self.open[slot], action.range());
        let range = match action {
            // It leaves the length as it is.
            Action::PunchHole(_) => {
                let end = range.end().min(FileOffset(file.len()?.0));
                FileRange::between(range.start.min(end)..end)
            }
            Action::ZeroRange(_) => range,
            _ => return Err(HostError::Unsupported),
        };
        file.write_all_at(&vec![0; range.len.0 as usize], range.start)?;
        file.len().map(Answer::Len)
    }

    fn check_data_runs(&self, call: &Call, context: &str) {
        if let Some(file) = call.changes().and_then(|slot| self.open.get(&slot)) {
            let len = file.len().unwrap();
            check_holes(file, FileRange::new(FileOffset(0), len), context).unwrap();
        }
    }

    /// A file as its length and its blocks that are not all zero.
    fn whole(&self, name: &str, context: &str) -> Vec<(u64, Vec<u8>)> {
        let file = match self.host.open(&self.path(name), Access::ReadOnly) {
            Ok(file) => file,
            Err(error) => {
                assert_eq!(error, HostError::NotFound, "{context}: {name:?}");
                return Vec::new();
            }
        };
        let len = file.len().unwrap();
        check_holes(&file, FileRange::new(FileOffset(0), len), context).unwrap();
        let mut blocks = vec![(len.0, Vec::new())];
        for at in (0..len.0).step_by(BLOCK) {
            let mut block = vec![0; BLOCK.min((len.0 - at) as usize)];
            file.read_exact_at(&mut block, FileOffset(at)).unwrap();
            if block.iter().any(|&byte| byte != 0) {
                blocks.push((at, block));
            }
        }
        blocks
    }
}

const BLOCK: usize = 64 * 1024;

fn apply_to_file<F: HostFile>(file: &F, call: &Call) -> HostResult<Answer> {
    match *call {
        Call::OnFile { ref action, .. } => carry_out(file, action.clone()),
        Call::ReadZeroFilled { range, .. } => {
            let mut buffer = vec![0xee; range.len.0 as usize];
            file.read_zero_filled_at(&mut buffer, range.start)?;
            Ok(Answer::Content(buffer))
        }
        Call::DataRuns { range, .. } => {
            check_holes(file, range, "data runs of a part")?;
            Ok(Answer::Done)
        }
        Call::Inexpressible { .. } => {
            let beyond = [
                FileRange::new(FileOffset(u64::MAX), Bytes(512)),
                FileRange::new(FileOffset(i64::MAX as u64), Bytes(512)),
                FileRange::new(FileOffset(512), Bytes(u64::MAX)),
            ];
            let refused = |result: HostResult<()>| result.expect_err("nothing is there");
            let mut refusals = Vec::new();
            for range in beyond {
                refusals.push(refused(file.punch_hole(range)));
                refusals.push(refused(file.zero_range(range)));
            }
            for range in &beyond[..2] {
                refusals.push(refused(file.read_at(&mut [0; 512], range.start).map(drop)));
                refusals.push(refused(file.write_at(&[0; 512], range.start).map(drop)));
            }
            refusals.push(refused(file.set_len(Bytes(1 << 63))));
            refusals.push(refused(file.next_data(FileOffset(1 << 63)).map(drop)));
            Ok(Answer::Refusals(refusals))
        }
        _ => unreachable!("a call on names: {call:?}"),
    }
}

/// Carries an action out as a driver's is, which answers with what was read, or the length of the
/// file after it.
fn carry_out<F: HostFile>(file: &F, action: Action) -> HostResult<Answer> {
    let operation = Operation {
        waiter: Waiter(0),
        file: FileRole::Cow,
        action,
    };
    let finished = operation.carry_out(Some(file), None);
    finished.result?;
    match finished.operation.action {
        Action::Read { buffer, .. } => Ok(Answer::Content(buffer.data)),
        Action::ReadOnce {
            mut buffer, count, ..
        } => {
            buffer.data.truncate(count);
            Ok(Answer::Content(buffer.data))
        }
        _ => file.len().map(Answer::Len),
    }
}

/// What every host promises about data runs: they lie in order in the range and in
/// the file, none is empty, and what lies outside them reads as zeros.
fn check_holes<F: HostFile>(file: &F, range: FileRange, context: &str) -> HostResult<()> {
    let end = range.end().min(FileOffset(file.len()?.0));
    let mut at = range.start;
    for run in file.data_runs(range) {
        let run = run?;
        assert!(at <= run.start, "{context}: {run:?} starts before {at:?}");
        assert!(run.len > Bytes(0), "{context}: {run:?} is empty");
        assert!(run.end() <= end, "{context}: {run:?} ends past {end:?}");
        check_zeros(file, at..run.start, context)?;
        at = run.end();
    }
    check_zeros(file, at..end.max(at), context)
}

fn check_zeros<F: HostFile>(
    file: &F,
    hole: std::ops::Range<FileOffset>,
    context: &str,
) -> HostResult<()> {
    let mut buffer = vec![0; BLOCK];
    let mut at = hole.start;
    while at < hole.end {
        let len = (hole.end - at).0.min(BLOCK as u64) as usize;
        file.read_exact_at(&mut buffer[..len], at)?;
        let zeros = buffer[..len].iter().all(|&byte| byte == 0);
        assert!(zeros, "{context}: data in the hole {hole:?}, past {at:?}");
        at += Bytes(len as u64);
    }
    Ok(())
}

/// SplitMix64: the same numbers on every machine and in every version.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn name(&mut self) -> &'static str {
        NAMES[self.below(NAMES.len() as u64) as usize]
    }

    /// A range that ends before `reach`; its borders are as often multiples of a
    /// sector, a page or a large block as they are none. Most ranges are short.
    fn range(&mut self, reach: u64) -> FileRange {
        let unit = [1, 512, 4096, 65536][self.below(4) as usize];
        let longest = [512, 8192, 200_000][self.below(3) as usize];
        let start = self.below(reach) / unit * unit;
        let len = self.below(longest).div_ceil(unit) * unit;
        FileRange::new(FileOffset(start), Bytes(len.min(reach - start)))
    }
}
