//! A new COW file over a backing file, with room to grow.

use std::path::Path;

use driver::cow::{Extension, Geometry, Header, LARGEST_STOCK_OFFSET, Version};
use driver::host::HostFile;
use driver::open::{ChosenBacking, OpenError, create_whole, open_backing, write_start};
use driver::size::format_size;
use driver::units::{Bytes, FileOffset, Sector, SectorRange};

use crate::at_once::AtOnce;
use crate::image_host::ImageHost;
use crate::zeros::is_zero;

use super::ImageError;
use super::convert::{new_map, write_bitmap};
use super::open::make_durable;
use super::resize::BackingFacts;

/// What to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// The size of the device, if it is to be larger than its backing file.
    pub size: Option<Bytes>,
    /// The size up to which it should be able to grow without its data moving.
    pub max_size: Option<Bytes>,
}

/// Alignments of new files are multiples of this.
const LEAST_ALIGNMENT: u64 = 4096;

/// The alignment that leaves a device of `size` room to grow to `max_size`, within reach of stock
/// Linux: the least power of two if that does.
///
/// # Errors
/// With the largest size that a device of `size` can be given room for, if `max_size` is more;
/// `None` if stock Linux reaches the data of no device of `size`.
pub fn alignment_for(size: Bytes, max_size: Bytes) -> Result<u32, Option<Bytes>> {
    let bitmap_of = |size: Bytes| size.sectors_touched().0.div_ceil(8).max(1);
    let (bitmap, wanted) = (bitmap_of(size), bitmap_of(max_size));
    // A bitmap that takes `n` alignments has its data after one more.
    let largest = |n: u64| LARGEST_STOCK_OFFSET.0 / (n + 1) / LEAST_ALIGNMENT * LEAST_ALIGNMENT;
    let power = wanted.next_power_of_two().max(LEAST_ALIGNMENT);
    if power <= largest(1) {
        return Ok(power as u32);
    }
    let room = |alignment: u64| {
        let alignment = u32::try_from(alignment).ok()?;
        let layout = Geometry::new(Version::V3, size, alignment).ok()?;
        layout
            .fits_stock_linux()
            .then_some((layout.headroom(), alignment))
    };
    let mut most = None;
    let most_alignments = LARGEST_STOCK_OFFSET.0 / LEAST_ALIGNMENT;
    for n in 1..=bitmap.div_ceil(LEAST_ALIGNMENT).min(most_alignments) {
        let least = wanted.div_ceil(n).next_multiple_of(LEAST_ALIGNMENT);
        if let Some((headroom, alignment)) = room(least)
            && headroom >= max_size
        {
            return Ok(alignment);
        }
        // With more, the bitmap would take fewer alignments.
        let next = match n {
            1 => u64::MAX,
            n => (bitmap.div_ceil(n - 1) - 1) / LEAST_ALIGNMENT * LEAST_ALIGNMENT,
        };
        let roomiest = room(largest(n).min(next).max(LEAST_ALIGNMENT));
        most = most.max(roomiest.map(|(headroom, _)| headroom));
    }
    Err(most)
}

/// A COW file that was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// Its layout.
    pub geometry: Geometry,
    /// Length and time of its backing file.
    pub backing: BackingFacts,
}

/// Creates the V3 COW file `path` over `backing`.
///
/// # Errors
/// If `path` exists, the backing file is not one, or a size is out of range. Nothing is left
/// behind then.
pub fn create<'a, H: ImageHost>(
    host: &H,
    path: &Path,
    backing: impl Into<ChosenBacking<'a>>,
    wish: Wish,
) -> Result<Created, ImageError> {
    let chosen = backing.into();
    let backing_path = chosen.path;
    let backing = open_backing(host, path, chosen)?;
    let size = wish.size.unwrap_or(backing.held.len());
    if size < backing.held.len() {
        return Err(ImageError::Size {
            path: path.to_owned(),
            found: size,
            expected: backing.held.len(),
            why: "a new device is as large as its backing file or larger",
        });
    }
    let alignment = match wish.max_size {
        None => Geometry::roomy_alignment(size),
        Some(max_size) if max_size < size => {
            let problem = format!("found a largest size of {max_size}, but the device has {size}");
            return Err(ImageError::refused(path, problem));
        }
        Some(max_size) => alignment_for(size, max_size).map_err(|most| {
            let why = match most {
                Some(most) => format!(
                    "a device of {size} can be given room for {most} at most, or stock Linux could \
                     not reach its data. A resize past that moves the data. The most is asked for \
                     with --max-size {}",
                    format_size(most)
                ),
                None => format!("stock Linux could not reach the data of a device of {size}"),
            };
            let problem = format!("found a largest size of {max_size}: {why}");
            ImageError::refused(path, problem)
        })?,
    };
    let header = Header::v3(&backing.name, backing.held.mtime(), size, alignment);
    let header = header.map_err(|error| ImageError::Header {
        path: path.to_owned(),
        error,
    })?;
    let geometry = Geometry::of(&header).map_err(|error| OpenError::Layout {
        path: path.to_owned(),
        at: header.version.size_offset(),
        error,
    })?;
    let (file, backing_size) = (backing.held.file(), backing.held.len());
    make_durable(host, backing_path, file)?;
    // The backing file has nothing for what lies past its last whole sector, but for the front of
    // the next one, if it ends within it.
    let new = Sector(0) + backing_size.whole_sectors()..Sector(0) + geometry.capacity();
    let mut front = vec![0; (backing_size - new.start.bytes()).0 as usize];
    if !new.is_empty() {
        let at = FileOffset(new.start.bytes().0);
        let reading = ImageError::host(backing_path, "reading", at);
        file.read_exact_at(&mut front, at).map_err(reading)?;
    }
    let copied = !is_zero(&front);
    let sources: &[&H::File] = if copied { &[file] } else { &[] };
    create_whole(host, path, sources, |file| {
        write_start(file, path, &header, Some(Extension::new(backing_size)))?;
        if new.is_empty() {
            return Ok(());
        }
        if copied {
            let at = geometry.place_of(new.start);
            let writing = ImageError::host(path, "writing", at);
            file.write_all_at(&front, at).map_err(writing)?;
        }
        let mut map = new_map(path, geometry.capacity())?;
        map.mark_dirty(SectorRange::between(new.clone()));
        write_bitmap((file, path), &map, &geometry, AtOnce::default())
    })?;
    Ok(Created {
        geometry,
        backing: BackingFacts {
            len: backing_size,
            modified_seconds: backing.held.modified_seconds(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_is_as_small_as_does_and_within_reach_of_stock_linux() {
        const GIB: u64 = 1 << 30;
        for (max_size, alignment) in [
            (1, 4096),
            (16 << 20, 4096),
            ((16 << 20) + 512, 8192),
            (4 * GIB, 1 << 20),
            (256 * GIB, 64 << 20),
            (2048 * GIB, 512 << 20),
            (3072 * GIB, 768 << 20),
        ] {
            let found = alignment_for(Bytes(512), Bytes(max_size)).unwrap();
            assert_eq!(found, alignment, "for {max_size}");
            let layout = Geometry::new(Version::V3, Bytes(512), found).unwrap();
            assert!(layout.headroom() >= Bytes(max_size) && layout.fits_stock_linux());
        }
        let alignment_for = |max_size| alignment_for(Bytes(512), max_size);
        let largest = alignment_for(Bytes(4096 * GIB)).unwrap_err().unwrap();
        assert!(alignment_for(largest).is_ok());
        assert_eq!(alignment_for(largest + Bytes(512)), Err(Some(largest)));
    }

    /// No alignment gives more room than what is said to be the most, and one gives that.
    #[test]
    fn the_most_room_is_the_most() {
        for gib in [1, 4096, 5 << 10, 6 << 10, 7 << 10, 7900, 8100] {
            let size = Bytes(gib << 30);
            let most = alignment_for(size, Bytes(100 << 40)).unwrap_err().unwrap();
            let found = alignment_for(size, most).unwrap();
            let layout = Geometry::new(Version::V3, size, found).unwrap();
            assert!(layout.fits_stock_linux(), "{size}");
            assert_eq!(layout.headroom(), most, "{size}");
            assert_eq!(alignment_for(size, most + Bytes(512)), Err(Some(most)));
            // A sample of all of them, and those around powers of two.
            let odd = (1..8192_u64).map(|n| n * 33 * 4096);
            let powers = (12..30).flat_map(|power| [(1_u64 << power) - 4096, 1 << power]);
            for alignment in odd.chain(powers).filter(|&it| it > 0 && it < 1 << 30) {
                let layout = Geometry::new(Version::V3, size, alignment as u32).unwrap();
                let room = layout.headroom();
                assert!(
                    !layout.fits_stock_linux() || room <= most,
                    "{size}, {alignment}"
                );
            }
        }
    }

    #[test]
    fn the_bitmap_of_a_large_device_stays_within_reach_of_stock_linux() {
        for tib in [5, 6, 7] {
            let size = Bytes(tib << 40);
            let found = alignment_for(size, size).unwrap();
            let layout = Geometry::new(Version::V3, size, found).unwrap();
            assert!(
                layout.headroom() >= size && layout.fits_stock_linux(),
                "{tib}"
            );
        }
        let size = Bytes(9 << 40);
        assert_eq!(alignment_for(size, size), Err(None));
    }
}
