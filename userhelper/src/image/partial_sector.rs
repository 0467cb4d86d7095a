//! The partial last sector of a disk whose size is no multiple of 512 bytes. A COW file has no
//! room for it: such a disk has its last bytes in the backing file, and another backing file has
//! to have them too.

use std::path::Path;

use driver::host::HostFile;
use driver::units::{Bytes, FileOffset, SECTOR_SIZE};

use super::ImageError;
use super::content::reading;
use super::open::Image;

/// A disk that is to be put over another backing file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disk<'a, F> {
    /// The file that people know it by.
    pub(super) path: &'a Path,
    /// What its last bytes are read from.
    pub(super) image: &'a Image<F>,
    /// The program that can make it larger.
    pub(super) resized_with: &'static str,
}

/// The program that makes a COW file's disk larger.
pub(super) const RESIZE: &str = "ubdlab image resize";

impl<'a, F: HostFile> Disk<'a, F> {
    /// The disk that is in this image.
    pub(super) fn of(image: &'a Image<F>) -> Disk<'a, F> {
        Disk {
            path: image.path(),
            image,
            resized_with: match image {
                Image::Cow(_) => RESIZE,
                Image::Raw { .. } => "truncate --size",
            },
        }
    }

    /// Refuses, in the name of the COW file at `cow`, to put the disk over `backing` if its
    /// partial last sector would hold something else then.
    ///
    /// # Errors
    /// [`ImageError::PartialSector`]; the host's.
    pub(super) fn check_over(&self, backing: &Image<F>, cow: &Path) -> Result<(), ImageError> {
        let size = self.image.size();
        let at = FileOffset(size.whole_sectors().bytes().0);
        let len = (size.0 % SECTOR_SIZE) as usize;
        let mut tails = [[0; SECTOR_SIZE as usize]; 2];
        for (tail, image) in tails.iter_mut().zip([self.image, backing]) {
            image.read(&mut tail[..len], at).map_err(reading(image))?;
        }
        if tails[0] == tails[1] {
            return Ok(());
        }
        Err(ImageError::PartialSector {
            path: cow.to_owned(),
            disk: self.path.to_owned(),
            size,
            last: Bytes(len as u64),
            backing: backing.path().to_owned(),
            resized_with: self.resized_with,
        })
    }
}
