//! Formats of images that are more than a disk's content: a backing file is none of them.

use crate::cow::Header;

/// A format of disks that is more than their content, and so not for a backing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    /// A COW file of User-Mode Linux.
    Cow,
    /// QEMU's qcow2, and qcow before it.
    Qcow,
}

impl ImageFormat {
    /// That of a file that begins like this.
    pub fn of(magic: &[u8; 4]) -> Option<ImageFormat> {
        match magic {
            b"QFI\xfb" => Some(ImageFormat::Qcow),
            magic => Header::has_magic(magic).then_some(ImageFormat::Cow),
        }
    }

    /// Its name after an article.
    pub fn name(self) -> &'static str {
        match self {
            ImageFormat::Cow => "a COW file",
            ImageFormat::Qcow => "a qcow2 image",
        }
    }

    /// How a raw disk is made of one.
    pub(super) fn to_raw(self) -> &'static str {
        match self {
            ImageFormat::Cow => "Merge it into a raw disk first (ubdlab image merge)",
            ImageFormat::Qcow => "Convert it into a raw disk first (qemu-img convert -O raw)",
        }
    }
}
