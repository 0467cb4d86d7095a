//! Bringing up a device as Linux does: the header is read, the backing file's size and time
//! are compared with it, the whole bitmap is read into memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::blk::Limits;
use crate::cow::{Header, Version};
use crate::executor::Files;
use crate::host::{Access, HostError, HostFile, HostNames, HostResult, LockKind};
use crate::path_bytes::{bytes_of, path_of};
use crate::units::{Bytes, FileOffset, Sector, SectorCount};

use super::create::{create, create_in_place};
use super::error::{LinuxOpenError, MAX_SECTORS, host};
use super::host_half::HostHalf;
use super::kernel_half::{KernelHalf, count_dirty};
use super::layout::{KernelHeader, Layout, position};
use super::{Defect, Defects, FOREIGN_MEMORY, Kernel, LinuxUbd};

/// What the kernel knows when it opens a device, beside the two files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSpec {
    /// Whose limits apply.
    pub kernel: Kernel,
    /// The backing file as the command line names it; `None` if it names only the COW file.
    pub named_backing: Option<PathBuf>,
    /// When the backing file was modified last, in seconds since 1970.
    pub backing_mtime: i64,
    /// Requests that fit into the pipe to the I/O thread; at least one does. (Segments, with
    /// [`Defect::PartialRequeueDuplicates`].)
    pub pipe_capacity: usize,
    /// What the kernel's memory holds where the header is read to: what an opening before has read
    /// there, from the first byte on. `None` if that is no header. It matters to
    /// [`Defect::FailedHeaderReadIsSuccess`] alone.
    pub remembered: Option<Vec<u8>>,
}

impl Default for OpenSpec {
    /// Linux 6.12, with the COW file alone named, a pipe that never fills and no opening before.
    fn default() -> OpenSpec {
        OpenSpec {
            kernel: Kernel::Linux6_12,
            named_backing: None,
            backing_mtime: 0,
            pipe_capacity: usize::MAX,
            remembered: None,
        }
    }
}

impl<F: HostFile> LinuxUbd<F> {
    /// Opens the device of two open files. Nothing is written but the header, if
    /// [`OpenSpec::named_backing`] is another name than the header's.
    ///
    /// # Errors
    /// See [`LinuxOpenError`].
    pub fn open(
        cow: F,
        backing: F,
        spec: &OpenSpec,
        defects: Defects,
    ) -> Result<LinuxUbd<F>, LinuxOpenError> {
        let header = KernelHeader::read(&cow, spec.remembered.as_deref(), defects)?;
        LinuxUbd::open_by(header, cow, backing, spec, defects)
    }

    /// Opens it by the header of the COW file.
    fn open_by(
        header: KernelHeader,
        cow: F,
        backing: F,
        spec: &OpenSpec,
        defects: Defects,
    ) -> Result<LinuxUbd<F>, LinuxOpenError> {
        let size = backing.len().map_err(host("examining the backing file"))?;
        check_backing(&header, size, spec.backing_mtime, defects)?;
        let end = size.whole_sectors();
        if end > MAX_SECTORS {
            return Err(LinuxOpenError::TooLarge { found: end });
        }
        let layout = Layout::of(&header, defects)?;
        if let Some(named) = &spec.named_backing
            && bytes_of(named) != header.path
        {
            switch_backing(&cow, &header, named, spec.backing_mtime, size, defects)?;
        }
        let bitmap = read_bitmap(&cow, &layout, end, defects)?;
        let short = matches!(header.version, Version::V1 | Version::V2);
        let writable = match short && !defects.contains(Defect::V1V2ShortBitmap) {
            true => end.min(SectorCount(layout.bitmap_len.saturating_mul(8))),
            false => end,
        };
        let without_cow =
            spec.named_backing.is_none() && defects.contains(Defect::LimitBeforeHeader);
        let limits = match spec.kernel {
            Kernel::Linux2_6 => Limits::LINUX_2_6,
            Kernel::Linux6_12 if without_cow => Limits::LINUX_6_12_WITHOUT_COW,
            Kernel::Linux6_12 => Limits::LINUX_6_12,
        };
        let kernel_half = KernelHalf {
            kernel: spec.kernel,
            defects,
            limits,
            layout,
            end: Sector(0) + end,
            writable_end: Sector(0) + writable,
            dirty: count_dirty(&bitmap, end),
            bitmap,
        };
        let host_half = HostHalf {
            layout,
            defects,
            sync_failed: false,
        };
        let files = Files {
            cow: Arc::new(cow),
            backing: Some(Arc::new(backing)),
            new: None,
        };
        let capacity = spec.pipe_capacity;
        Ok(LinuxUbd::of(files, kernel_half, host_half, capacity))
    }
}

/// Opens the device `ubda=cow,backing`, or `ubda=cow` without `backing`, by name: creates a
/// missing COW file if the backing file is named, and locks both files.
/// [`OpenSpec::named_backing`] and [`OpenSpec::backing_mtime`] are set from what is found.
///
/// # Errors
/// See [`LinuxOpenError`].
pub fn bring_up<N: HostNames>(
    names: &N,
    cow: &Path,
    backing: Option<&Path>,
    spec: &OpenSpec,
    defects: Defects,
) -> Result<LinuxUbd<N::File>, LinuxOpenError> {
    let mut created = None;
    let opened = match (names.open(cow, Access::ReadWrite), backing) {
        (Err(HostError::NotFound), Some(backing)) => {
            if defects.contains(Defect::CreateNotAtomic) {
                created = Some(create_in_place(names, cow, backing)?);
            } else {
                create(names, cow, backing, defects)?;
            }
            names.open(cow, Access::ReadWrite)
        }
        (opened, _) => opened,
    };
    let cow_file = opened.map_err(host("opening the COW file"))?;
    if !defects.contains(Defect::CreateNotAtomic) {
        // Whoever created it may have been killed before its name was durable, and no later
        // flush would make it so.
        names
            .sync_directory_of(cow)
            .map_err(host("syncing the directory"))?;
    }
    let locking = host("locking the COW file");
    lock(names, cow, &cow_file, LockKind::Exclusive, defects).map_err(locking)?;
    let header = match created {
        Some(header) => KernelHeader::checked(header),
        None => KernelHeader::read(&cow_file, spec.remembered.as_deref(), defects)?,
    };
    let recorded = path_of(&header.path);
    let recorded = match cow.parent() {
        Some(directory) => directory.join(recorded),
        None => recorded.to_owned(),
    };
    let path = backing.unwrap_or(&recorded);
    let backing_file = names
        .open(path, Access::ReadOnly)
        .map_err(host("opening the backing file"))?;
    let locking = host("locking the backing file");
    lock(names, path, &backing_file, LockKind::Shared, defects).map_err(locking)?;
    let metadata = names
        .metadata(&backing_file)
        .map_err(host("examining the backing file"))?;
    // Naming the file that the header records is no switch: the path stays the header's.
    let named_backing = backing.map(|named| match named == recorded {
        true => path_of(&header.path).to_owned(),
        false => named.to_owned(),
    });
    let spec = OpenSpec {
        named_backing,
        backing_mtime: metadata.modified_seconds,
        ..spec.clone()
    };
    LinuxUbd::open_by(header, cow_file, backing_file, &spec, defects)
}

/// Locks a file; with the defect, through a descriptor that is closed again.
fn lock<N: HostNames>(
    names: &N,
    path: &Path,
    file: &N::File,
    kind: LockKind,
    defects: Defects,
) -> HostResult<()> {
    if !defects.contains(Defect::LockLostOnClose) {
        return names.lock(file, kind);
    }
    let access = match kind {
        LockKind::Shared => Access::ReadOnly,
        LockKind::Exclusive => Access::ReadWrite,
    };
    names.lock(&names.open(path, access)?, kind)
}

fn check_backing(
    header: &KernelHeader,
    size: Bytes,
    mtime: i64,
    defects: Defects,
) -> Result<(), LinuxOpenError> {
    if size != header.size {
        return Err(LinuxOpenError::BackingSize {
            found: size,
            expected: header.size,
        });
    }
    let unchanged = match defects.contains(Defect::MtimeSeconds) {
        true => mtime as u32 == header.mtime,
        false => mtime == i64::from(header.mtime),
    };
    if unchanged {
        return Ok(());
    }
    Err(LinuxOpenError::BackingModified {
        found: mtime,
        expected: header.mtime,
    })
}

/// Writes another backing file's name into the header. Its size and time were found right.
fn switch_backing<F: HostFile>(
    cow: &F,
    header: &KernelHeader,
    path: &Path,
    mtime: i64,
    size: Bytes,
    defects: Defects,
) -> Result<(), LinuxOpenError> {
    // A header that was only believed is not written again.
    let Some(header) = &header.checked else {
        return Ok(());
    };
    let mtime = mtime as u32;
    let clobbers = defects.contains(Defect::BackingSwitchClobbersV1V2);
    let new = match clobbers {
        true => Header::v3(path, mtime, size, header.alignment),
        false => header.with_backing(path, mtime),
    }
    .map_err(LinuxOpenError::Header)?;
    cow.write_all_at(&new.encode(), FileOffset(0))
        .and_then(|()| if clobbers { Ok(()) } else { cow.sync_data() })
        .map_err(host("switching the backing file"))
}

/// Reads the bitmap, and puts two words after it.
fn read_bitmap<F: HostFile>(
    cow: &F,
    layout: &Layout,
    sectors: SectorCount,
    defects: Defects,
) -> Result<Vec<u64>, LinuxOpenError> {
    let words = sectors.0.div_ceil(64) as usize + 2;
    let mut bytes = vec![0; words * 8];
    let len = layout.bitmap_len.min(sectors.0.div_ceil(8)) as usize;
    let reading = host("reading the bitmap");
    let at = position(layout.bitmap_offset).map_err(&reading)?;
    let read = match defects.contains(Defect::ShortBitmapRead) {
        true => cow.read_at(&mut bytes[..len], at).map(|_| ()),
        false => cow.read_exact_at(&mut bytes[..len], at),
    };
    match read {
        Ok(()) => {}
        Err(HostError::UnexpectedEnd { found, expected }) => {
            return Err(LinuxOpenError::BitmapCutShort { found, expected });
        }
        Err(error) => return Err(reading(error)),
    }
    if defects.contains(Defect::MemoryPastTheBitmap) {
        // Past the bits of all sectors: those that V1 and V2 lack a byte for are V1V2ShortBitmap's.
        let from = layout.bitmap_len.max(sectors.0.div_ceil(8)) as usize;
        let end = layout.bitmap_len.div_ceil(8) as usize * 8;
        if let Some(past) = bytes.get_mut(from..end) {
            past.fill(FOREIGN_MEMORY);
        }
    }
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
    Ok(bytes.chunks_exact(8).map(word).collect())
}
