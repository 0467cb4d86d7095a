//! The content of a disk as a new file: raw, or a COW file with what differs from a backing
//! file. The new file is made beside its name, whole and synced, before it gets the name; an
//! existing file is never written over.

use std::path::Path;

use driver::cow::{Extension, Geometry, Header, SectorMap, Version};
use driver::host::{FileRole, HostFile};
use driver::open::{ChosenBacking, NewBacking, OpenError, create_whole, open_backing, write_start};
use driver::units::{Bytes, FileOffset, FileRange, SECTOR_SIZE, Sector, SectorCount, SectorRange};

use crate::at_once::AtOnce;
use crate::copying::{Copying, End, OnFiles, Target};
use crate::image_host::ImageHost;
use crate::new_bitmap::next_piece;

use super::content::{Piece, Source, reading};
use super::differences::Differences;
use super::open::{Image, check_output, make_durable};
use super::partial_sector::Disk;
use super::{ImageError, Watch, report};

/// What a conversion came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Converted {
    /// The size of the disk.
    pub size: Bytes,
    /// How much data the new file has; the rest of it is holes.
    pub data: Bytes,
}

/// Writes what `image` holds into a new raw file.
///
/// # Errors
/// If `output` exists, by whatever name; the host's: as of [`create_whole`].
pub fn to_raw<H: ImageHost>(
    host: &H,
    image: &Image<H::File>,
    output: &Path,
    watch: Watch<'_>,
) -> Result<Converted, ImageError> {
    let sources = image.sources();
    check_output(host, output, &sources)?;
    let size = image.size();
    let mut data = Bytes(0);
    create_whole(host, output, &files_of(&sources), |file| {
        file.set_len(size)
            .map_err(ImageError::host(output, "creating", FileOffset(0)))?;
        let mut copying = Copying::into(Target::Hole, image.at_once());
        for piece in image.data() {
            let piece = piece.map_err(reading(image))?;
            let to = piece.range.start;
            copy_piece(image.path(), &piece, &mut copying, file, output, to)?;
            data += piece.range.len;
            report(watch, piece.range.end() - FileOffset(0), size)?;
        }
        Ok::<_, ImageError>(())
    })?;
    Ok(Converted { size, data })
}

/// The files alone: what they keep from others, a file made from them does too.
fn files_of<'a, F>(sources: &[(FileRole, &'a Path, &'a F)]) -> Vec<&'a F> {
    sources.iter().map(|&(_, _, file)| file).collect()
}

/// Copies a piece of the disk `path` to `to` in `target`.
pub(super) fn copy_piece<F: HostFile>(
    path: &Path,
    piece: &Piece<'_, F>,
    copying: &mut Copying,
    target: &F,
    target_path: &Path,
    to: FileOffset,
) -> Result<(), ImageError> {
    let Source::File(role, source, at) = piece.source else {
        return Ok(());
    };
    let mut done = Bytes(0);
    while done < piece.range.len {
        let rest = FileRange::new(at + done, piece.range.len - done);
        done += copying
            .copy_now(
                OnFiles {
                    role,
                    source,
                    target,
                },
                rest,
                to + done,
            )
            .map_err(|failed| {
                let (path, doing) = match failed.on {
                    End::Source => (path, "reading the disk"),
                    End::Target => (target_path, "writing"),
                };
                ImageError::host(path, doing, failed.at)(failed.error)
            })?;
    }
    Ok(())
}

/// Which COW file to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CowVersion {
    /// Version 2, for UML of before 2003: no headroom, and exactly the backing file's size.
    V2,
    /// Version 3, with this alignment.
    V3 {
        /// See [`driver::cow::Geometry::roomy_alignment`].
        alignment: u32,
    },
}

/// Writes what `image` holds and `backing` does not into a new COW file, in whole blocks of
/// 4 KiB: stock Linux misreads what is finer.
///
/// # Errors
/// If `output` exists, by whatever name; if version 2 cannot hold it; the host's: as of
/// [`create_whole`].
pub fn to_cow<'a, H: ImageHost>(
    host: &H,
    image: &Image<H::File>,
    backing: impl Into<ChosenBacking<'a>>,
    version: CowVersion,
    output: &Path,
    watch: Watch<'_>,
) -> Result<Converted, ImageError> {
    let chosen = backing.into();
    let backing_path = chosen.path;
    let backing = open_backing(host, output, chosen)?;
    check_own_backing(host, image, backing_path, &backing)?;
    // Nothing is copied from the backing file.
    let copied_from = image.sources();
    let mut sources = copied_from.clone();
    sources.push((FileRole::Backing, backing_path, backing.held.file()));
    check_output(host, output, &sources)?;
    let size = image.size();
    let (header, extension) = new_header(output, &backing, size, version)?;
    make_durable(host, backing_path, backing.held.file())?;
    // Its lock is held until the new file has its name.
    let backing = Image::Raw {
        path: backing_path.to_owned(),
        size: backing.held.len(),
        file: backing.held,
    };
    Disk::of(image).check_over(&backing, output)?;
    let mut data = Bytes(0);
    create_whole(host, output, &files_of(&copied_from), |file| {
        let geometry = write_start(file, output, &header, extension)?;
        let mut map = new_map(output, geometry.capacity())?;
        let mut copying = Copying::into(Target::Hole, image.at_once());
        let mut store = |run: SectorRange| {
            if run.end() > Sector(0) + geometry.mapped() {
                let problem = "version 2 has no bit for the last sectors of such a disk";
                return Err(ImageError::refused(output, problem));
            }
            map.mark_dirty(run);
            let end = FileOffset(run.end().bytes().0);
            let mut at = FileOffset(run.start.bytes().0);
            while at < end {
                let piece = image.piece(at, end).map_err(reading(image))?;
                let to = geometry.data_offset + (at - FileOffset(0));
                copy_piece(image.path(), &piece, &mut copying, file, output, to)?;
                // Zeros stay a hole, as in a raw disk.
                if matches!(piece.source, Source::File(..)) {
                    data += piece.range.len;
                }
                at = piece.range.end();
            }
            Ok(())
        };
        let mut differences = Differences::between(host, image, &backing)?;
        let mapped_end = Sector(0) + geometry.mapped();
        while let Some(run) = differences.next_blocks(mapped_end, watch)? {
            store(run)?;
        }
        // What lies past the backing file's end has to be in the COW file: there is nothing else.
        let end = Sector(0) + geometry.capacity();
        let past_end = differences.end()..end;
        if !past_end.is_empty() {
            store(SectorRange::between(past_end))?;
        }
        write_bitmap((file, output), &map, &geometry, image.at_once())
    })?;
    Ok(Converted { size, data })
}

/// Whether the path of the image's own backing file is still that file's: the path stands in a
/// header, and was followed with care when the image was opened.
fn check_own_backing<H: ImageHost>(
    host: &H,
    image: &Image<H::File>,
    path: &Path,
    opened: &NewBacking<H::File>,
) -> Result<(), ImageError> {
    let Image::Cow(cow) = image else {
        return Ok(());
    };
    let Some(own) = cow.device.backing().filter(|_| cow.backing_path == path) else {
        return Ok(());
    };
    let examining = ImageError::host(path, "examining", FileOffset(0));
    match host
        .is_same_file(own, opened.held.file())
        .map_err(examining)?
    {
        true => Ok(()),
        false => Err(OpenError::Replaced {
            path: path.to_owned(),
        }
        .into()),
    }
}

fn new_header<F>(
    output: &Path,
    backing: &NewBacking<F>,
    size: Bytes,
    version: CowVersion,
) -> Result<(Header, Option<Extension>), ImageError> {
    let alignment = match version {
        CowVersion::V2 => SECTOR_SIZE as u32,
        CowVersion::V3 { alignment } => alignment,
    };
    let bad = |error| ImageError::Header {
        path: output.to_owned(),
        error,
    };
    let header = Header::v3(&backing.name, backing.held.mtime(), size, alignment).map_err(bad)?;
    if version != CowVersion::V2 {
        return Ok((header, Some(Extension::new(backing.held.len()))));
    }
    if size != backing.held.len() {
        return Err(ImageError::Size {
            path: output.to_owned(),
            found: size,
            expected: backing.held.len(),
            why: "a version 2 COW file is as large as its backing file",
        });
    }
    let header = Header {
        version: Version::V2,
        ..header
    };
    Ok((header, None))
}

pub(super) fn new_map(path: &Path, sectors: SectorCount) -> Result<SectorMap, ImageError> {
    SectorMap::new(sectors).map_err(|error| ImageError::refused(path, error.to_string()))
}

/// Writes a bitmap where there is nothing but a hole, `at_once` in one go.
pub(super) fn write_bitmap<F: HostFile>(
    (file, path): (&F, &Path),
    map: &SectorMap,
    geometry: &Geometry,
    at_once: AtOnce,
) -> Result<(), ImageError> {
    let mut buffer = Vec::new();
    let mut page = 0;
    while let Some(piece) = next_piece(map, geometry, (page, at_once.pages()), &mut buffer) {
        file.write_all_at(&buffer, piece.at)
            .map_err(ImageError::host(path, "writing the bitmap", piece.at))?;
        page = piece.next_page;
    }
    Ok(())
}
