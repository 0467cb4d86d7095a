//! Whether two disks hold the same, whatever files they are made of.

use driver::units::{Bytes, FileOffset, SectorCount};

use crate::image_host::ImageHost;

use super::content::reading;
use super::differences::Differences;
use super::open::Image;
use super::{ImageError, Watch, report};

/// What a comparison came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// The sizes of the two disks.
    pub sizes: [Bytes; 2],
    /// Where they differ first. Bytes of one disk past the other's end differ where they are not
    /// zero.
    pub first: Option<FileOffset>,
    /// How many sectors differ.
    pub sectors: SectorCount,
}

/// Compares two disks, sector by sector.
///
/// # Errors
/// The host's.
pub fn compare<H: ImageHost>(
    host: &H,
    a: &Image<H::File>,
    b: &Image<H::File>,
    watch: Watch<'_>,
) -> Result<Comparison, ImageError> {
    let mut first = None;
    let mut sectors = SectorCount(0);
    let mut differences = Differences::between(host, a, b)?;
    while let Some(run) = differences.next(watch)? {
        sectors += run.count;
        if first.is_none() {
            first = Some(FileOffset(run.start.bytes().0) + first_byte(a, b, run.start.bytes())?);
        }
    }
    // What is left is less than a sector of one of them, and any amount of the other, which
    // has to be zero: a shorter disk has nothing there.
    let mut at = FileOffset(differences.end().bytes().0);
    let end = FileOffset(a.size().max(b.size()).0);
    let mut buffers = [vec![0; 1 << 16], vec![0; 1 << 16]];
    while at < end {
        let len = (end - at).min(Bytes(1 << 16));
        let skip = hole_in_both(a, b, at)?;
        if skip > Bytes(0) {
            at += skip;
            continue;
        }
        for (buffer, image) in buffers.iter_mut().zip([a, b]) {
            buffer.resize(len.0 as usize, 0);
            image.read(buffer, at).map_err(reading(image))?;
        }
        for (n, (a, b)) in buffers[0]
            .chunks(512)
            .zip(buffers[1].chunks(512))
            .enumerate()
        {
            if let Some(byte) = a.iter().zip(b).position(|(a, b)| a != b) {
                sectors += SectorCount(1);
                first.get_or_insert(at + Bytes((n * 512 + byte) as u64));
            }
        }
        at += len;
        report(watch, at - FileOffset(0), end - FileOffset(0))?;
    }
    Ok(Comparison {
        sizes: [a.size(), b.size()],
        first,
        sectors,
    })
}

/// The first byte that differs in a sector that does.
fn first_byte<F: driver::host::HostFile>(
    a: &Image<F>,
    b: &Image<F>,
    sector: Bytes,
) -> Result<Bytes, ImageError> {
    let at = FileOffset(sector.0);
    let (mut in_a, mut in_b) = ([0; 512], [0; 512]);
    a.read(&mut in_a, at).map_err(reading(a))?;
    b.read(&mut in_b, at).map_err(reading(b))?;
    let byte = in_a.iter().zip(&in_b).position(|(a, b)| a != b);
    Ok(Bytes(byte.unwrap_or(0) as u64))
}

/// How far both disks are a hole, or over, from `at` on.
fn hole_in_both<F: driver::host::HostFile>(
    a: &Image<F>,
    b: &Image<F>,
    at: FileOffset,
) -> Result<Bytes, ImageError> {
    let mut least = a.size().max(b.size()) - (at - FileOffset(0));
    for image in [a, b] {
        let end = FileOffset(image.size().0);
        if at < end {
            let piece = image.piece(at, end).map_err(reading(image))?;
            least = match piece.source {
                super::content::Source::Zeros => least.min(piece.range.len),
                super::content::Source::File(..) => Bytes(0),
            };
        }
    }
    Ok(least)
}
