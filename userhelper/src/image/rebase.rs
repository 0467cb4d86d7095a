//! Giving a COW file another backing file: with the disk staying what it is, by copying in
//! what differs, or unsafely, by rewriting the header alone.
//!
//! | power goes after | a reader finds | recovery |
//! |---|---|---|
//! | any part of what differs was copied in | the same disk over the old backing file | none needed; begun again it completes |
//! | all of it was flushed | the same disk over either | the same |
//! | the mark was written ([`super::backing_change`]) | the same, whatever the two files' sizes and times | ends the mark |
//! | the record was written ([`driver::cow::HeaderChange`]) | the same | ends the mark |
//! | part of the header was written | the same over the old backing file or the new one, or a header that is half changed and refused | finishes the header |
//! | all of the header was written | the same over the new one | ends the mark |
//! | the mark was ended | the same over the new one | none needed |
//!
//! A partial last sector has no place in the COW file: the new backing file has to have the same
//! bytes there (`partial_sector.rs`).
//!
//! The new backing file is made durable before anything else, in case it has just been copied.
//!
//! The other versions have no room for the mark, and no need for it: their header is changed as a
//! whole. It takes no record where it changes in one sector: in version 1, and in version 3 with
//! paths that its first sector has room for.

use std::path::{Path, PathBuf};

use driver::blk::{Completion, Request, Status, Tag};
use driver::cow::{HeaderChange, LONGEST_HEADER, OtherBacking};
use driver::driver::Driver;
use driver::host::{Access, HostFile};
use driver::open::{
    ChosenBacking, NewBacking, OpenError, OpenOptions, open, open_backing, reopen_backing,
};
use driver::ordered::Ordered;
use driver::units::{Bytes, FileOffset, Sector, SectorCount, SectorRange};

use crate::image_host::ImageHost;

use super::content::{Source, reading};
use super::differences::Differences;
use super::open::{
    CowImageFile, Image, Trust, close, cow_image_file, device_size, make_durable, open_for_change,
    options, specification,
};
use super::partial_sector::{Disk, RESIZE};
use super::{ImageError, Watch, backing_change};

/// Why an image of an old version cannot have a longer backing file, and the way out.
const LONGER: &str = "a COW file before version 3 is as large as its backing file. If this one was \
    made longer, a copy of it, COPY, that is cut to the size expected makes an image of version 3: \
    ubdlab image convert -f cow COW NEW --to v3 --source-backing COPY; then NEW takes this one: \
    ubdlab image rebase NEW --backing BACKING --unsafe";

/// What a rebase came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebased {
    /// How much is in the COW file now because the two backing files differ there.
    pub copied: Bytes,
    /// The size of the new backing file.
    pub backing_size: Bytes,
    /// The old backing file, if more users may read the COW file than it, and some of it was
    /// copied in.
    pub shown: Option<PathBuf>,
}

/// Zeros are written in parts of this length, so that the space they take for a moment is
/// bounded.
const ZEROS_AT_ONCE: SectorCount = SectorCount(1 << 17);

/// Gives the COW file at `path` the backing file `backing`; the disk stays what it is.
///
/// # Errors
/// See [`driver::open::OpenError`]; the host's; what the watcher says. The COW file is usable
/// over its old backing file then.
pub fn rebase<'a, H: ImageHost>(
    host: &H,
    path: &Path,
    backing: impl Into<ChosenBacking<'a>>,
    trust: Trust,
    watch: Watch<'_>,
) -> Result<Rebased, ImageError> {
    let mut cow = open_for_change(host, path, trust)?;
    let backing = open_new(host, &cow, backing.into())?;
    let reopened = reopen_backing(host, &specification(path, false), trust, &cow.device)?;
    let old = Image::Raw {
        file: reopened.ok_or_else(|| ImageError::NotCow {
            path: path.to_owned(),
        })?,
        size: device_size(&cow.device),
        path: cow.backing_path.clone(),
    };
    let NewBacking { held, name } = backing;
    let (len, mtime) = (held.len(), held.mtime());
    // Its lock is held until the header names it.
    let new = Image::Raw {
        size: len,
        file: held,
        path: name.clone(),
    };
    let disk = Disk {
        path,
        image: &old,
        resized_with: RESIZE,
    };
    disk.check_over(&new, path)?;
    let mut copied = Bytes(0);
    let mut differences = Differences::between(host, &old, &new)?;
    let end = Sector(0) + cow.device.capacity();
    while let Some(run) = differences.next_blocks(end, watch)? {
        check_bits(&cow.device, run, path)?;
        copied += copy_in(&mut cow.device, &old, run, path)?;
    }
    // The new backing file has nothing for what lies past its end.
    if differences.end() < end {
        let past_end = SectorRange::between(differences.end()..end);
        copied += copy_in(&mut cow.device, &old, past_end, path)?;
    }
    carry_out(&mut cow.device, Request::flush(Tag(0)), path)?;
    let shown = match &old {
        Image::Raw { file, path, .. } if copied > Bytes(0) => {
            let examining = ImageError::host(path, "examining", FileOffset(0));
            let shows = host.shows(cow.device.cow(), file.file());
            shows.map_err(examining)?.then(|| path.clone())
        }
        _ => None,
    };
    switch(cow, &name, mtime, len)?;
    Ok(Rebased {
        copied,
        backing_size: len,
        shown,
    })
}

/// Writes path, time and size of `backing` into the COW file at `path`, whatever it was made
/// for: the disk shows that file's content in every clean sector. Neither backing file is read.
///
/// # Errors
/// See [`driver::open::OpenError`]; the host's.
pub fn rebase_unsafely<'a, H: ImageHost>(
    host: &H,
    path: &Path,
    backing: impl Into<ChosenBacking<'a>>,
) -> Result<Rebased, ImageError> {
    let alone = OpenOptions {
        without_backing: true,
        ..options(Trust::Follow)
    };
    let opened = open(host, &specification(path, false), alone)?;
    if opened.interrupted.is_some() {
        return Err(ImageError::Unfinished {
            path: path.to_owned(),
            what: "resize",
        });
    }
    let cow = cow_image_file(path, opened);
    let backing = open_new(host, &cow, backing.into())?;
    let failed = ImageError::resize(path);
    let len = backing.held.len();
    backing_change::check_reach(&cow.device, len).map_err(&failed)?;
    let size = device_size(&cow.device);
    if len < size && size.whole_sectors().bytes() < size {
        return Err(ImageError::Size {
            path: backing.name,
            found: len,
            expected: size,
            why: "a COW file has whole sectors only, and the last bytes of a disk of another size \
                  are in its backing file",
        });
    }
    switch(cow, &backing.name, backing.held.mtime(), len)?;
    Ok(Rebased {
        copied: Bytes(0),
        backing_size: len,
        shown: None,
    })
}

/// Opens the new backing file and checks that the COW file can have it.
fn open_new<H: ImageHost>(
    host: &H,
    cow: &CowImageFile<H::File>,
    chosen: ChosenBacking<'_>,
) -> Result<NewBacking<H::File>, ImageError> {
    let backing = chosen.path;
    // Before the lock, which the COW file's own would refuse. What cannot be opened is told then.
    if let Ok(named) = host.open(backing, Access::ReadOnly) {
        let is_cow = host.is_same_file(cow.device.cow(), &named);
        if is_cow.map_err(ImageError::host(&cow.path, "examining", FileOffset(0)))? {
            return Err(OpenError::BacksItself {
                path: cow.path.clone(),
                backing: backing.to_owned(),
            }
            .into());
        }
    }
    let new = open_backing(host, &cow.path, chosen)?;
    let image = backing_change::image(&cow.device).map_err(ImageError::resize(&cow.path))?;
    if !backing_change::has_room_for_mark(image) && new.held.len() != image.header.size {
        return Err(ImageError::Size {
            path: backing.to_owned(),
            found: new.held.len(),
            expected: image.header.size,
            why: match new.held.len() > image.header.size {
                true => LONGER,
                false => "a COW file before version 3 is as large as its backing file",
            },
        });
    }
    check_naming(cow, &new)?;
    make_durable(host, backing, new.held.file())?;
    Ok(new)
}

/// Whether the header can be made to name the new backing file: before anything is copied.
fn check_naming<F: HostFile>(cow: &CowImageFile<F>, new: &NewBacking<F>) -> Result<(), ImageError> {
    let mut start = vec![0; LONGEST_HEADER.0 as usize];
    let (file, at) = (cow.device.cow(), FileOffset(0));
    file.read_zero_filled_at(&mut start, at)
        .map_err(ImageError::host(&cow.path, "reading the header", at))?;
    HeaderChange::new(&start, &new.name, new.held.mtime())
        .map(drop)
        .map_err(|error| ImageError::Header {
            path: cow.path.clone(),
            error,
        })
}

/// Makes the header name another backing file, durably, and closes the image.
fn switch<F: HostFile>(
    mut cow: CowImageFile<F>,
    name: &Path,
    mtime: u32,
    len: Bytes,
) -> Result<(), ImageError> {
    let path = &cow.path;
    let failed = ImageError::resize(path);
    let image = backing_change::image(&cow.device).map_err(&failed)?;
    let markable = backing_change::has_room_for_mark(image);
    let header = image.header.with_backing(name, mtime);
    let header = header.map_err(|error| ImageError::Header {
        path: path.clone(),
        error,
    })?;
    if markable {
        let other = OtherBacking { len, mtime };
        backing_change::begin_switch(&mut cow.device, other).map_err(&failed)?;
    }
    backing_change::put_header(&mut cow.device, header, len).map_err(&failed)?;
    close(cow.device, path)
}

/// Refuses to copy in what the COW file could not remember: in versions 1 and 2 the last few
/// sectors may have no bit.
fn check_bits<F: HostFile>(
    device: &Ordered<F>,
    run: SectorRange,
    path: &Path,
) -> Result<(), ImageError> {
    let image = backing_change::image(device).map_err(ImageError::resize(path))?;
    let mapped = Sector(0) + image.geometry.mapped();
    if run.end() <= mapped {
        return Ok(());
    }
    Err(ImageError::refused(
        path,
        format!(
            "the two backing files differ in or after sector {}, and sectors from {mapped} on have \
             no bit in this {} file, so they cannot be copied in: convert it with --to v3 first",
            run.start, image.header.version
        ),
    ))
}

/// Writes what the old backing file has for the clean sectors of `run` into the COW file.
fn copy_in<F: HostFile>(
    device: &mut Ordered<F>,
    old: &Image<F>,
    run: SectorRange,
    path: &Path,
) -> Result<Bytes, ImageError> {
    let mut copied = Bytes(0);
    let mut from = run.start;
    while let Some(clean) = device.map().next_clean(from, run.end()) {
        from = clean.end();
        let mut at = clean.start;
        while at < clean.end() {
            let end = FileOffset(clean.end().bytes().0);
            let piece = old
                .piece(FileOffset(at.bytes().0), end)
                .map_err(reading(old))?;
            let sectors = piece.range.len.whole_sectors().max(SectorCount(1));
            let range = match piece.source {
                Source::Zeros if piece.range.len.whole_sectors() > SectorCount(0) => {
                    let range = SectorRange::new(at, sectors.min(ZEROS_AT_ONCE));
                    carry_out(device, Request::write_zeroes(Tag(0), at, range.count), path)?;
                    // A hole is as good.
                    carry_out(device, Request::discard(Tag(0), at, range.count), path)?;
                    range
                }
                _ => {
                    let longest = device.limits().max_transfer;
                    let range = SectorRange::new(at, sectors.min(longest));
                    let mut data = vec![0; range.count.bytes().0 as usize];
                    let from = FileOffset(at.bytes().0);
                    old.read(&mut data, from).map_err(reading(old))?;
                    carry_out(device, Request::write(Tag(0), at, data), path)?;
                    range
                }
            };
            copied += range.count.bytes();
            at = range.end();
        }
    }
    Ok(copied)
}

/// Has the device do one request, which nobody else disturbs.
fn carry_out<F: HostFile>(
    device: &mut Ordered<F>,
    request: Request,
    path: &Path,
) -> Result<(), ImageError> {
    let served = device.serve(request);
    let completion = served.map_err(|error| ImageError::refused(path, error.to_string()))?;
    check(completion, path)
}

fn check(completion: Completion, path: &Path) -> Result<(), ImageError> {
    match (completion.status, completion.failure) {
        // A host that frees nothing keeps zeros there, which is as good.
        (Status::Ok | Status::NotSupported, _) => Ok(()),
        (_, Some(failure)) => Err(ImageError::host(
            path,
            "copying in what differs",
            failure.at,
        )(failure.error)),
        (status, None) => Err(ImageError::refused(
            path,
            format!("copying in what differs: {status:?}"),
        )),
    }
}
