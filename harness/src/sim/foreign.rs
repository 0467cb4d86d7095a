//! What another process has written just now, and not synced.

use std::path::Path;

use driver::units::FileOffset;

use super::change::Change;
use super::host::SimHost;
use super::inode::Inode;

impl SimHost {
    /// Writes into a file, in the page cache alone and without an operation: a power cut may take
    /// it, and the time of the file stays. Whether there is such a file.
    pub fn write_unsynced(&self, path: impl AsRef<Path>, data: &[u8], at: FileOffset) -> bool {
        let mut state = self.state_mut();
        let Some(inode) = state.names.reached(path.as_ref()) else {
            return false;
        };
        let index = state.operations;
        let data = data.into();
        state.change(inode, index, Change::Write { at, data });
        true
    }

    /// Makes what a file holds durable, without an operation: its last writer is gone, and the host
    /// has found the time. Whether there is such a file.
    pub fn settle_file(&self, path: impl AsRef<Path>) -> bool {
        let mut state = self.state_mut();
        let Some(inode) = state.names.reached(path.as_ref()) else {
            return false;
        };
        let inode = state.inodes.get_mut(&inode);
        inode.map(Inode::settle).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{FileContent, Survivors};

    #[test]
    fn what_another_has_written_is_there_until_the_power_goes() {
        let host = SimHost::default();
        host.install("/disk/a", FileContent::from_bytes(&[1; 512]));
        assert!(host.write_unsynced("/disk/a", &[2; 8], FileOffset(4)));
        assert!(!host.write_unsynced("/disk/b", &[2; 8], FileOffset(4)));
        let there = host.content("/disk/a").unwrap().to_bytes();
        assert_eq!(there[3..13], [1, 2, 2, 2, 2, 2, 2, 2, 2, 1]);
        assert_eq!(host.operations(), 0);
        let unsynced = host.unsynced();
        assert_eq!(unsynced.operation_count(), 1);
        let mut nothing: Survivors = unsynced.everything();
        for decisions in nothing.files.values_mut() {
            decisions.fill(crate::sim::Survival::Lost);
        }
        let image = host.after_power_cut(&nothing).unwrap();
        assert_eq!(image.content("/disk/a").unwrap().to_bytes(), [1; 512]);
        assert!(host.settle_file("/disk/a"));
        assert!(!host.settle_file("/disk/b"));
        assert_eq!(host.unsynced().operation_count(), 0);
        assert_eq!(host.durable_content("/disk/a"), host.content("/disk/a"));
    }
}
