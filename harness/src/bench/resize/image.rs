//! The COW files that are resized: laid out as stock UML makes them, so that their data has
//! to move when they grow.

use std::fs::File;
use std::path::{Path, PathBuf};

use driver::blk::{Request, Tag};
use driver::cow::{Extension, Header};
use driver::open::{OpenOptions, create_whole, open, open_backing, write_start};
use driver::units::{Bytes, Sector};
use userhelper::image::ImageError;
use userhelper::image::open::close;
use userhelper::real_files::RealHost;

use super::{BenchError, Settings, specification};
use crate::bench::io::served;
use crate::random::SplitMix64;

pub(super) const BLOCK: u64 = 4096;

/// Stock UML's, which leaves a bitmap no room to grow.
const STOCK_ALIGNMENT: u32 = 4096;

/// How the dirty bytes lie on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bench) enum Shape {
    /// In extents of 4 KiB, each with a gap after it, at random.
    Extents,
    /// In one piece.
    Piece,
}

impl Shape {
    pub(in crate::bench) const BOTH: [Shape; 2] = [Shape::Extents, Shape::Piece];

    pub(in crate::bench) fn name(self) -> &'static str {
        match self {
            Shape::Extents => "4 KiB extents",
            Shape::Piece => "one piece",
        }
    }
}

/// A COW file to be made.
#[derive(Clone, Copy, Debug)]
pub(in crate::bench) struct Layout {
    /// The size of the device.
    pub(in crate::bench) size: Bytes,
    /// How much of it is dirty.
    pub(in crate::bench) dirty: Bytes,
    /// How that lies.
    pub(super) shape: Shape,
    /// Everything dirty lies before this byte.
    pub(super) span: Bytes,
}

impl Layout {
    /// With `dirty` bytes all over the device, or as many as fit: in extents with gaps
    /// between them that is half of it.
    pub(in crate::bench) fn new(size: Bytes, dirty: Bytes, shape: Shape) -> Layout {
        Layout::within(size, dirty, shape, size)
    }

    /// With `dirty` bytes, or as many as fit, all of them before the byte `span`.
    pub(super) fn within(size: Bytes, dirty: Bytes, shape: Shape, span: Bytes) -> Layout {
        let span = span.min(size);
        let most = match shape {
            Shape::Extents => Bytes(span.0 / 2),
            Shape::Piece => span,
        };
        let dirty = dirty.min(most);
        let dirty = Bytes((dirty.0 / BLOCK).max(1) * BLOCK);
        Layout {
            size,
            dirty,
            shape,
            span,
        }
    }

    /// The dirty blocks of 4 KiB, in order.
    pub(super) fn blocks(&self) -> impl Iterator<Item = u64> + use<> {
        let (count, all) = (self.dirty.0 / BLOCK, self.span.0 / BLOCK);
        let (stretch, shape) = (all / count, self.shape);
        let first = (all - count) / 2;
        let mut random = SplitMix64(7);
        (0..count).map(move |index| match shape {
            Shape::Piece => first + index,
            Shape::Extents => index * stretch + random.below(stretch - 1),
        })
    }

    /// Makes `cow` over the backing file `backing`, which is made too, if it is not there.
    pub(in crate::bench) fn make(
        &self,
        settings: Settings<'_>,
        cow: &Path,
        backing: &Path,
    ) -> Result<(), BenchError> {
        if !backing.exists() {
            let file = File::create(backing).map_err(BenchError::file(backing, "creating"))?;
            file.set_len(self.size.0)
                .and_then(|()| file.sync_all())
                .map_err(BenchError::file(backing, "creating"))?;
        }
        create(cow, backing, self.size)?;
        let mut device = open(&RealHost, &specification(cow), OpenOptions::default())?.device;
        let failed = |status| BenchError::Device(format!("a write ended with the status {status}"));
        let mut request = Request::write(Tag(0), Sector(0), vec![0; BLOCK as usize]);
        for block in self.blocks() {
            request.start = sector_of(block);
            settings.check_stop()?;
            fill(&mut request.segments[0].data, block);
            request = served(&mut device, request).map_err(failed)?;
        }
        close(device, cow)?;
        Ok(())
    }
}

fn create(cow: &Path, backing_path: &Path, size: Bytes) -> Result<(), BenchError> {
    let backing = open_backing(&RealHost, cow, backing_path)?;
    let header = Header::v3(&backing.name, backing.held.mtime(), size, STOCK_ALIGNMENT);
    let header = header.map_err(|error| ImageError::Header {
        path: cow.to_owned(),
        error,
    })?;
    let extension = Some(Extension::new(backing.held.len()));
    create_whole(&RealHost, cow, &[], |file| {
        write_start(file, cow, &header, extension).map(|_| ())
    })?;
    Ok(())
}

pub(super) fn sector_of(block: u64) -> Sector {
    Sector(0) + Bytes(block * BLOCK).whole_sectors()
}

/// What a dirty block holds: its number plus 1 in every word, so that no block is all zeros.
pub(super) fn fill(data: &mut [u8], block: u64) {
    for word in data.chunks_exact_mut(8) {
        word.copy_from_slice(&(block + 1).to_le_bytes());
    }
}

/// Where the files of a case are.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// The COW file as it was made.
    pub(super) kept: PathBuf,
    /// The COW file that is worked on.
    pub(super) device: PathBuf,
    /// What another program makes.
    pub(super) other: PathBuf,
    /// The backing file.
    pub(super) backing: PathBuf,
}

impl Names {
    pub(super) fn within(directory: &Path) -> Names {
        Names {
            kept: directory.join("kept.cow"),
            device: directory.join("device.cow"),
            other: directory.join("other"),
            backing: directory.join("backing.img"),
        }
    }

    /// Removes all of them that are there.
    pub(super) fn clear(&self) -> Result<(), BenchError> {
        for path in [&self.kept, &self.device, &self.other, &self.backing] {
            remove(path)?;
        }
        Ok(())
    }
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), BenchError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(BenchError::file(path, "removing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_have_gaps_and_lie_on_the_device() {
        for (size, dirty) in [(1, 1), (4, 1), (64, 1)] {
            let (size, dirty) = (Bytes(size << 26), Bytes(dirty << 26));
            let layout = Layout::new(size, dirty, Shape::Extents);
            assert_eq!(layout.dirty, dirty.min(Bytes(size.0 / 2)));
            let blocks: Vec<_> = layout.blocks().collect();
            assert_eq!(blocks.len() as u64 * BLOCK, layout.dirty.0);
            assert!(blocks.windows(2).all(|pair| pair[1] > pair[0] + 1));
            assert!(blocks.last().unwrap() * BLOCK < size.0);
        }
    }

    #[test]
    fn a_piece_lies_in_the_middle_and_may_fill_the_device() {
        let layout = Layout::new(Bytes(10 << 20), Bytes(2 << 20), Shape::Piece);
        let blocks: Vec<_> = layout.blocks().collect();
        assert_eq!((blocks[0], blocks.len()), (1024, 512));
        assert!(blocks.windows(2).all(|pair| pair[1] == pair[0] + 1));
        let full = Layout::new(Bytes(1 << 20), Bytes(2 << 20), Shape::Piece);
        assert_eq!(full.blocks().count(), 256);
    }

    #[test]
    fn what_is_made_is_a_cow_file_with_so_much_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let names = Names::within(directory.path());
        let layout = Layout::new(Bytes(1 << 30), Bytes(1 << 20), Shape::Extents);
        let stop = std::sync::atomic::AtomicBool::new(false);
        let settings = Settings {
            directory: directory.path(),
            program: Path::new("/"),
            dirty: layout.dirty,
            io: None,
            only: &crate::bench::Only::default(),
            stop: &stop,
        };
        layout.make(settings, &names.kept, &names.backing).unwrap();
        let spec = specification(&names.kept);
        let device = open(&RealHost, &spec, OpenOptions::default())
            .unwrap()
            .device;
        assert_eq!(device.map().dirty_count().bytes(), layout.dirty);
        drop(device);
        names.clear().unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
