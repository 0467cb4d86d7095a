//! What is read of a COW file when it is opened.

use std::path::Path;

use crate::cow::{
    Extension, ExtensionState, Geometry, Header, PAGE_BYTES, PagesAtOnce, SectorMap, Version,
};
use crate::host::{HostFile, OperationKind};
use crate::name_backing::read_start;
use crate::units::{Bytes, Sector};

use super::error::OpenError;
use super::{failed, host};

/// Reads and decodes the header of an open COW file.
///
/// # Errors
/// [`OpenError::Header`], or the host's error.
pub fn read_header<F: HostFile>(file: &F, path: &Path) -> Result<Header, OpenError> {
    let start = read_start(file).map_err(failed(path, "reading the header"))?;
    Header::decode(&start).map_err(|error| OpenError::Header {
        path: path.to_owned(),
        error,
    })
}

/// Reads the extension block of an open COW file; only V3 has one.
///
/// # Errors
/// The host's.
pub fn read_extension<F: HostFile>(
    file: &F,
    header: &Header,
    path: &Path,
) -> Result<ExtensionState, OpenError> {
    if header.version != Version::V3 {
        return Ok(ExtensionState::Absent);
    }
    let mut block = [0; Extension::LEN];
    file.read_zero_filled_at(&mut block, Extension::OFFSET)
        .map_err(host(
            path,
            OperationKind::Read,
            "reading the extension block",
        ))?;
    Ok(Extension::decode(&block))
}

/// Reads the bitmap, skipping its holes: what it costs grows with what is dirty.
pub(super) fn read_map<F: HostFile>(
    file: &F,
    path: &Path,
    geometry: &Geometry,
    at_once: PagesAtOnce,
) -> Result<SectorMap, OpenError> {
    let mut map = SectorMap::new(geometry.capacity()).map_err(|error| OpenError::TooLarge {
        path: path.to_owned(),
        error,
    })?;
    let bitmap = geometry.mapped_bitmap();
    let reading = |kind| host(path, kind, "reading the bitmap");
    let mut buffer = Vec::new();
    let mut loaded_to = 0;
    for run in file.data_runs(bitmap) {
        let run = run.map_err(reading(OperationKind::NextData))?;
        let first = (run.start - bitmap.start).0 / PAGE_BYTES as u64;
        let end = (run.end() - bitmap.start).0.div_ceil(PAGE_BYTES as u64);
        // Two runs may touch the same page.
        let mut page = first.max(loaded_to);
        while page < end {
            let at = Bytes(page * PAGE_BYTES as u64);
            let pages = (end - page).min(at_once.count()) * PAGE_BYTES as u64;
            buffer.resize((bitmap.len - at).0.min(pages) as usize, 0);
            file.read_exact_at(&mut buffer, bitmap.start + at)
                .map_err(reading(OperationKind::Read))?;
            for bytes in buffer.chunks(PAGE_BYTES) {
                map.load_page(page as usize, bytes);
                page += 1;
            }
        }
        loaded_to = loaded_to.max(end);
    }
    Ok(map)
}

/// A sector in the COW file has its data there. Without this check the next write would hide that
/// a file was cut: it extends the file with a hole.
pub(super) fn check_data(
    path: &Path,
    geometry: &Geometry,
    map: &SectorMap,
    len: Bytes,
) -> Result<(), OpenError> {
    let whole = Bytes(len.0.saturating_sub(geometry.data_offset.0)).whole_sectors();
    let past_end = map.next_dirty(Sector(0) + whole, Sector(0) + geometry.capacity());
    match past_end {
        Some(run) => Err(OpenError::DataCutShort {
            path: path.to_owned(),
            found: len,
            expected: geometry.place_of(run.end()),
        }),
        None => Ok(()),
    }
}
