//! What the kernel's requests about an open file mean.

use std::sync::Arc;

use driver::host::OperationKind;
use driver::units::{Bytes, FileOffset, FileRange};
use fuser::Errno;
use rustix::fs::FallocateFlags;

use super::mounted_tree::MountedTree;
use super::translation::errno;
use crate::sim::InodeNumber;
use crate::sim::tree::{Attributes, TreeChange};

/// The most bytes that one `copy_file_range` copies; the caller asks for the rest.
const MOST_COPIED: u64 = 1 << 20;

impl MountedTree {
    pub(super) fn read(&mut self, file: InodeNumber, at: u64, size: u32) -> Result<Vec<u8>, Errno> {
        let readable = self.readable(file, at, size);
        let read = readable.and_then(|size| self.content_at(file, at, size));
        self.note_content(file, at, size, &read);
        read
    }

    /// A read of a file, as it was asked for, was answered with this.
    fn note_content(
        &mut self,
        file: InodeNumber,
        at: u64,
        size: u32,
        read: &Result<Vec<u8>, Errno>,
    ) {
        let range = FileRange::new(FileOffset(at), Bytes(u64::from(size)));
        let count = read.as_ref().map(|data| data.len() as u64);
        self.note_read(file, range, &count.map_err(|error| *error));
    }

    fn content_at(&self, file: InodeNumber, at: u64, size: u32) -> Result<Vec<u8>, Errno> {
        let content = self.tree.content(file).map_err(|error| errno(&error))?;
        let rest = content.length().0.saturating_sub(at).min(u64::from(size));
        let mut data = vec![0; rest as usize];
        let count = content.read_at(&mut data, FileOffset(at));
        data.truncate(count);
        Ok(data)
    }

    /// Writes, and syncs if what is written has to be durable when it is answered.
    pub(super) fn write(
        &mut self,
        file: InodeNumber,
        at: u64,
        data: Arc<[u8]>,
        durable: bool,
    ) -> Result<u32, Errno> {
        let count = self.put(OperationKind::Write, file, at, data)?;
        if durable {
            self.sync(file)?;
        }
        Ok(count)
    }

    fn put(
        &mut self,
        kind: OperationKind,
        file: InodeNumber,
        at: u64,
        data: Arc<[u8]>,
    ) -> Result<u32, Errno> {
        let asked = data.len() as u32;
        if asked == 0 {
            return Ok(0);
        }
        let at = FileOffset(at);
        let mut taken = None;
        let done = self.carry_out_if(kind, TreeChange::Write { file, at, data }, |tree, write| {
            let write = tree.fitting_write(write)?;
            taken = Some(write.payload() as u32);
            Ok(write)
        });
        let shortened = self.take_shortened();
        done?;
        Ok(taken.or(shortened).unwrap_or(asked))
    }

    pub(super) fn set_len(&mut self, file: InodeNumber, len: u64) -> Result<(), Errno> {
        let len = Bytes(len);
        self.carry_out(OperationKind::SetLen, TreeChange::SetLen { file, len })
    }

    /// Content and length of the file are durable when it returns. Linux's `O_SYNC` is that too:
    /// times are not subject to crashes here.
    pub(super) fn sync(&mut self, node: InodeNumber) -> Result<(), Errno> {
        self.carry_out(OperationKind::SyncData, TreeChange::SyncFile(node))
    }

    pub(super) fn allocate(
        &mut self,
        file: InodeNumber,
        handle: u64,
        (at, len): (u64, u64),
        mode: u32,
    ) -> Result<(), Errno> {
        let mode = FallocateFlags::from_bits_retain(mode);
        let keeps_size = mode.contains(FallocateFlags::KEEP_SIZE);
        let (kind, clears) = match mode.difference(FallocateFlags::KEEP_SIZE) {
            none if none.is_empty() => (OperationKind::Allocate, false),
            FallocateFlags::PUNCH_HOLE if keeps_size => (OperationKind::PunchHole, true),
            FallocateFlags::ZERO_RANGE => (OperationKind::ZeroRange, true),
            _ => return Err(Errno::EOPNOTSUPP),
        };
        let end = at.checked_add(len).ok_or(Errno::EFBIG)?;
        let durable = self.handle(handle).is_ok_and(|handle| handle.durable);
        let content = self.tree.content(file).map_err(|error| errno(&error))?;
        let size = content.length().0;
        let reserves = kind != OperationKind::PunchHole;
        let range = FileRange::new(FileOffset(at), Bytes(len));
        let mut changes = Vec::new();
        if clears && at < size {
            let range = FileRange::between(FileOffset(at)..FileOffset(end.min(size)));
            changes.push(TreeChange::PunchHole { file, range });
        }
        if reserves {
            changes.push(TreeChange::Reserve { file, range });
        }
        if end > size && !keeps_size {
            let len = Bytes(end);
            changes.push(TreeChange::SetLen { file, len });
        }
        self.carry_out_all(kind, (file, range), changes)?;
        match durable {
            true => self.sync(file),
            false => Ok(()),
        }
    }

    pub(super) fn copy_range(
        &mut self,
        (source, from): (InodeNumber, u64),
        (file, handle, at): (InodeNumber, u64, u64),
        len: u64,
    ) -> Result<u32, Errno> {
        // The read is a part of it, and not one that rules count.
        let size = len.min(MOST_COPIED) as u32;
        let data = self.content_at(source, from, size);
        self.note_content(source, from, size, &data);
        let data = data?;
        if data.is_empty() {
            return Ok(0);
        }
        let durable = self.handle(handle).is_ok_and(|handle| handle.durable);
        let count = self.put(OperationKind::CopyRange, file, at, data.into())?;
        if durable {
            self.sync(file)?;
        }
        Ok(count)
    }

    pub(super) fn seek(&mut self, file: InodeNumber, from: i64, whence: i32) -> Result<i64, Errno> {
        /// As Linux numbers them.
        const DATA: i32 = 3;
        const HOLE: i32 = 4;
        let data = match whence {
            DATA => true,
            HOLE => false,
            _ => return Err(Errno::EINVAL),
        };
        let from = u64::try_from(from).map_err(|_| Errno::ENXIO)?;
        let range = FileRange::new(FileOffset(from), Bytes(0));
        self.may_look(OperationKind::NextData, file, range)?;
        let found = self.tree.seek(file, from, data);
        match found.map_err(|error| errno(&error))? {
            Some(found) => i64::try_from(found).map_err(|_| Errno::EOVERFLOW),
            None => Err(Errno::ENXIO),
        }
    }

    pub(super) fn give(&mut self, node: InodeNumber, attributes: Attributes) -> Result<(), Errno> {
        if attributes == Attributes::default() {
            return Ok(());
        }
        let change = TreeChange::SetAttributes { node, attributes };
        self.carry_out(OperationKind::SetAttributes, change)
    }
}

#[cfg(test)]
mod tests {
    use fuser::RenameFlags;

    use super::*;
    use crate::mount::Limits;
    use crate::mount::name_requests::Made;
    use crate::sim::tree::{EntryName, Moment, NewNode, ROOT, Tree};
    use crate::sim::{Assumptions, Fault, FaultRule, PAGE_SIZE};

    /// With a file `a` of this length.
    fn mounted(len: u64, limits: Limits) -> (MountedTree, InodeNumber) {
        let mut tree = Tree::new(Assumptions::default());
        let file = tree.next_number();
        let create = TreeChange::Create {
            name: entry("a"),
            node: file,
            what: NewNode::File,
            attributes: Attributes::default(),
        };
        let len = Bytes(len);
        for (at, change) in [(0, create), (1, TreeChange::SetLen { file, len })] {
            tree.carry_out(at, Moment::default(), &change).unwrap();
        }
        let mut mounted = MountedTree::new(tree, limits);
        mounted.keep_answered();
        (mounted, file)
    }

    fn entry(name: &str) -> EntryName {
        EntryName {
            directory: ROOT,
            name: name.into(),
        }
    }

    #[test]
    fn to_zero_a_range_is_one_operation_and_fails_as_one() {
        let (mut mounted, file) = mounted(8192, Limits::default());
        let mode = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        let fails = FaultRule::nth("a", OperationKind::ZeroRange, 1, Fault::Io);
        mounted.fail_by(&[fails]);
        let mut zero = || mounted.allocate(file, 0, (512, 1024), mode.bits());
        assert!(zero().is_ok());
        assert!(zero().is_err());
        let answered = mounted.take_answered();
        let told = answered
            .iter()
            .map(|it| (it.kind, it.range.len.0, it.errno));
        let zeroed = |errno| (OperationKind::ZeroRange, 1024, errno);
        let expected = [zeroed(None), zeroed(Some(5))];
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }
    /// Each of them is refused, and then fails by a rule that has counted the first one.
    #[test]
    fn what_is_refused_is_an_operation_to_rules_and_is_noted() {
        use OperationKind::{Allocate, CopyRange, CreateNew, Remove, Rename, Write};
        let limits = Limits {
            bytes: PAGE_SIZE,
            nodes: 2,
            ..Limits::default()
        };
        let (mut mounted, file) = mounted(0, limits);
        mounted.write(file, 0, [1; 512].into(), false).unwrap();
        mounted.take_answered();
        let rule = |name, kind| FaultRule::nth(name, kind, 1, Fault::Io);
        mounted.fail_by(&[
            rule("a", Write),
            rule("a", CopyRange),
            rule("a", Allocate),
            rule("b", CreateNew),
            rule("none", Remove),
            rule("a", Rename),
        ]);
        let ends = |result: Result<(), Errno>| result.unwrap_err().code();
        let mut twice = |ask: &dyn Fn(&mut MountedTree) -> Result<(), Errno>| {
            [ends(ask(&mut mounted)), ends(ask(&mut mounted))]
        };
        let data: Arc<[u8]> = [1; 512].into();
        let past = PAGE_SIZE;
        let made = || Made {
            what: NewNode::File,
            mode: 0,
            user: 0,
            group: 0,
        };
        let no_replace = RenameFlags::RENAME_NOREPLACE;
        let found = [
            twice(&|tree| tree.write(file, past, Arc::clone(&data), false).map(drop)),
            twice(&|tree| tree.copy_range((file, 0), (file, 0, past), 512).map(drop)),
            twice(&|tree| tree.allocate(file, 0, (past, 512), 0)),
            twice(&|tree| tree.make(entry("b"), made()).map(drop)),
            twice(&|tree| tree.remove(entry("none"), false)),
            twice(&|tree| tree.rename(entry("a"), entry("a"), no_replace)),
        ];
        let [io, no_space, not_found, exists] = [5, 28, 2, 17];
        let refused = [no_space, no_space, no_space, no_space, not_found, exists];
        assert_eq!(found, refused.map(|refused| [refused, io]));
        let answered = mounted.take_answered().into_iter();
        let changes = answered.filter(|answered| answered.kind != OperationKind::Read);
        let told: Vec<_> = changes
            .map(|it| (it.kind, it.errno, it.change.is_none()))
            .collect();
        let kinds = [Write, CopyRange, Allocate, CreateNew, Remove, Rename];
        let both = |(kind, refused)| [(kind, Some(refused), true), (kind, Some(io), true)];
        let expected: Vec<_> = kinds.into_iter().zip(refused).flat_map(both).collect();
        assert_eq!(told, expected);
    }

    /// How much of a write was taken is said of that write alone.
    #[test]
    fn a_short_write_that_is_refused_shortens_no_later_one() {
        let limits = Limits {
            changes: 0,
            ..Limits::default()
        };
        let (mut mounted, file) = mounted(0, limits);
        let short = FaultRule::nth("a", OperationKind::Write, 0, Fault::ShortWrite(1));
        mounted.fail_by(&[short]);
        let data: Arc<[u8]> = [1; 512].into();
        let write = |mounted: &mut MountedTree| mounted.write(file, 0, Arc::clone(&data), false);
        assert_eq!(write(&mut mounted).unwrap_err().code(), 28);
        mounted.limits.changes = 1;
        assert_eq!(write(&mut mounted).unwrap(), 512);
    }
    /// A check's changes are in no log, and in memory all the same.
    #[test]
    fn what_is_not_logged_has_the_limits_of_what_is() {
        for (changes, logged) in [(3, 1 << 20), (100, 3 * 512)] {
            let limits = Limits {
                changes,
                logged,
                ..Limits::default()
            };
            let (mut mounted, file) = mounted(0, limits);
            for _ in 0..3 {
                mounted.write(file, 0, [1; 512].into(), false).unwrap();
            }
            let refused = mounted.write(file, 0, [1; 512].into(), false);
            assert_eq!(refused.unwrap_err().code(), 28);
            // Another directory begins anew.
            let tree = mounted.tree().after_kill();
            mounted.show(tree);
            mounted.write(file, 0, [1; 512].into(), false).unwrap();
        }
    }
}
