//! A guest of UML with user space: an archive of what it has to run, made of what is on this
//! machine, and the guest itself, which does one command after the other.
//!
//! The kernel unpacks the archive into memory. So a guest needs no disk but the one that is looked
//! at.

mod archive;
mod machine;
mod preload;
mod processes;

use std::path::PathBuf;

pub use archive::{Archive, libraries};
pub use machine::{Machine, MachineError};
pub use preload::AMX_PRELOAD;
pub use processes::{Descriptors, UmlProcesses, mconsole};

/// Where Debian's package has the modules of UML's kernel.
const MODULES: &str = "/usr/lib/uml/modules";

/// What makes a disk of a virtio device.
const VIRTIO_BLK: &str = "kernel/drivers/block/virtio_blk.ko";

/// The module that makes a disk of a virtio device, if UML's modules are installed.
pub fn virtio_blk() -> Option<PathBuf> {
    let versions = std::fs::read_dir(MODULES).ok()?;
    versions
        .flatten()
        .map(|version| version.path().join(VIRTIO_BLK))
        .find(|path| path.is_file())
}

/// Whether UML's user space starts on this processor. On one with AMX that of UML 6.1 does not.
pub fn user_space_starts() -> bool {
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    !processor.split_whitespace().any(|flag| flag == "amx_tile")
}
