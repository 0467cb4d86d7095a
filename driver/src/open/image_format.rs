//! Formats of images that are more than a disk's content: a backing file is none of them, and who
//! reads one as a raw disk reads its header, tables or footer as content. The one list of what they
//! begin or end with.

use crate::cow::Header;
use crate::host::{FailedOperation, HostFile, OperationKind};
use crate::units::{FileOffset, SECTOR_SIZE};

/// A format of disks that is more than their content, and so not for a backing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    /// A COW file of User-Mode Linux.
    Cow,
    /// QEMU's qcow2, and qcow before it.
    Qcow,
    /// QEMU's QED.
    Qed,
    /// VMware's VMDK: a sparse extent, or the text that describes extents.
    Vmdk,
    /// VirtualBox's VDI.
    Vdi,
    /// Hyper-V's VHDX.
    Vhdx,
    /// The dynamic VHD of Virtual PC.
    Vhd,
    /// One of fixed size, which is a raw disk with a footer.
    FixedVhd,
    /// Parallels' HDD.
    Parallels,
    /// Apple's DMG, which ends with what tells it.
    Dmg,
    /// What gzip compressed.
    Gzip,
    /// What xz compressed.
    Xz,
    /// What zstd compressed.
    Zstd,
    /// What bzip2 compressed.
    Bzip2,
}

/// What files begin with: where it stands in the file, the bytes, and the format.
const MAGICS: [(usize, &[u8], ImageFormat); 14] = [
    (0, b"QFI\xfb", ImageFormat::Qcow),
    (0, b"QED\0", ImageFormat::Qed),
    (0, b"KDMV", ImageFormat::Vmdk),
    (0, b"COWD", ImageFormat::Vmdk),
    (0, b"# Disk DescriptorFile", ImageFormat::Vmdk),
    (64, b"\x7f\x10\xda\xbe", ImageFormat::Vdi),
    (0, b"vhdxfile", ImageFormat::Vhdx),
    (0, b"conectix", ImageFormat::Vhd),
    (0, b"WithoutFreeSpace", ImageFormat::Parallels),
    (0, b"WithouFreSpacExt", ImageFormat::Parallels),
    (0, b"\x1f\x8b\x08", ImageFormat::Gzip),
    (0, b"\xfd7zXZ\0", ImageFormat::Xz),
    (0, b"\x28\xb5\x2f\xfd", ImageFormat::Zstd),
    (0, b"BZh", ImageFormat::Bzip2),
];

/// What the last sector of files begins with. Files of the first are a disk up to there.
const FOOTERS: [(&[u8], ImageFormat); 2] = [
    (b"conectix", ImageFormat::FixedVhd),
    (b"koly", ImageFormat::Dmg),
];

/// The longest of those, in bytes.
const FOOTER_LEN: usize = 8;

/// How much of a file tells its format, in bytes.
const PREFIX_LEN: usize = 68;

impl ImageFormat {
    /// That of a file, going by what it and its last sector begin with; `None` of a raw disk.
    ///
    /// # Errors
    /// The host's.
    pub fn of<F: HostFile>(file: &F) -> Result<Option<ImageFormat>, FailedOperation> {
        let read = |buffer: &mut [u8], at| {
            let filled = file.read_zero_filled_at(buffer, at);
            filled.map_err(OperationKind::Read.failed())
        };
        let mut prefix = [0; PREFIX_LEN];
        read(&mut prefix, FileOffset(0))?;
        if let Some(format) = ImageFormat::of_prefix(&prefix) {
            return Ok(Some(format));
        }
        let len = file.len().map_err(OperationKind::Len.failed())?;
        let Some(last) = len.0.checked_sub(SECTOR_SIZE) else {
            return Ok(None);
        };
        let mut footer = [0; FOOTER_LEN];
        read(&mut footer, FileOffset(last))?;
        Ok(ImageFormat::of_footer(&footer))
    }

    fn of_footer(footer: &[u8; FOOTER_LEN]) -> Option<ImageFormat> {
        let found = FOOTERS.iter().find(|(magic, _)| footer.starts_with(magic));
        found.map(|&(_, format)| format)
    }

    fn of_prefix(prefix: &[u8; PREFIX_LEN]) -> Option<ImageFormat> {
        let [a, b, c, d, ..] = *prefix;
        if Header::has_magic(&[a, b, c, d]) {
            return Some(ImageFormat::Cow);
        }
        let found = MAGICS.iter().find(|(at, magic, _)| {
            let rest = prefix.get(*at..).unwrap_or_default();
            rest.starts_with(magic)
        });
        let format = found.map(|&(_, _, format)| format)?;
        // Its magic is three letters: the level and the first block's number follow.
        let is_whole = format != ImageFormat::Bzip2
            || prefix[3].is_ascii_digit() && prefix[4..].starts_with(b"1AY&SY");
        is_whole.then_some(format)
    }

    /// How a file is seen to be of this format.
    pub fn looks(self) -> String {
        let verb = if self.has_footer() { "ends" } else { "begins" };
        format!("{verb} like {}", self.name())
    }

    /// Whether it is a format of disks, and not one of compressed files.
    pub fn is_disk(self) -> bool {
        !matches!(
            self,
            ImageFormat::Gzip | ImageFormat::Xz | ImageFormat::Zstd | ImageFormat::Bzip2
        )
    }

    /// What a file of this format has beside a disk.
    pub fn more(self) -> &'static str {
        if self.has_footer() {
            "footer"
        } else {
            "header"
        }
    }

    /// What of a disk that would be taken for.
    pub fn misread_as(self) -> &'static str {
        if self.has_footer() {
            "last sector"
        } else {
            "first sectors"
        }
    }

    fn has_footer(self) -> bool {
        FOOTERS.iter().any(|&(_, format)| format == self)
    }

    /// Its name after an article.
    pub fn name(self) -> &'static str {
        match self {
            ImageFormat::Cow => "a COW file",
            ImageFormat::Qcow => "a qcow2 image",
            ImageFormat::Qed => "a QED image",
            ImageFormat::Vmdk => "a VMDK image",
            ImageFormat::Vdi => "a VDI image",
            ImageFormat::Vhdx => "a VHDX image",
            ImageFormat::Vhd => "a VHD image",
            ImageFormat::FixedVhd => "a VHD image of fixed size",
            ImageFormat::Parallels => "a Parallels image",
            ImageFormat::Dmg => "a DMG image",
            ImageFormat::Gzip => "a file that gzip compressed",
            ImageFormat::Xz => "a file that xz compressed",
            ImageFormat::Zstd => "a file that zstd compressed",
            ImageFormat::Bzip2 => "a file that bzip2 compressed",
        }
    }

    /// How a raw disk is made of one.
    pub fn to_raw(self) -> &'static str {
        match self {
            ImageFormat::Cow => "Merge it into a raw disk first (ubdlab image merge)",
            ImageFormat::Qcow
            | ImageFormat::Qed
            | ImageFormat::Vmdk
            | ImageFormat::Vdi
            | ImageFormat::Vhdx
            | ImageFormat::Vhd
            | ImageFormat::Parallels
            | ImageFormat::Dmg => "Convert it into a raw disk first (qemu-img convert -O raw)",
            // Without a header nothing tells qemu-img what it is.
            ImageFormat::FixedVhd => {
                "Convert it into a raw disk first (qemu-img convert -f vpc -O raw)"
            }
            ImageFormat::Gzip => "Decompress it first (gzip -dc <FILE >DISK)",
            ImageFormat::Xz => "Decompress it first (xz -dc <FILE >DISK)",
            ImageFormat::Zstd => "Decompress it first (zstd -dc <FILE >DISK)",
            ImageFormat::Bzip2 => "Decompress it first (bzip2 -dc <FILE >DISK)",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(at: usize, magic: &[u8]) -> Option<ImageFormat> {
        let mut prefix = [0; PREFIX_LEN];
        prefix[at..][..magic.len()].copy_from_slice(magic);
        ImageFormat::of_prefix(&prefix)
    }

    #[test]
    fn each_magic_is_found_whole_and_in_its_place_only() {
        for (at, magic, format) in MAGICS {
            let whole = match format {
                ImageFormat::Bzip2 => b"BZh91AY&SY",
                _ => magic,
            };
            assert_eq!(found(at, whole), Some(format));
            let cut = &whole[..whole.len() - 1];
            // What ends with a zero is whole without it in front of zeros.
            let of_cut = whole.ends_with(b"\0").then_some(format);
            assert_eq!(found(at, cut), of_cut);
            if at > 0 {
                assert_eq!(found(0, whole), None);
            }
        }
        for (magic, format) in FOOTERS {
            let mut footer = [0; FOOTER_LEN];
            footer[..magic.len()].copy_from_slice(magic);
            assert_eq!(ImageFormat::of_footer(&footer), Some(format));
            footer[magic.len() - 1] ^= 1;
            assert_eq!(ImageFormat::of_footer(&footer), None);
        }
        assert_eq!(found(0, b"OOOM"), Some(ImageFormat::Cow));
        assert_eq!(found(0, b"BZh is how a text may begin"), None);
        assert_eq!(found(0, b"\xeb\x63\x90"), None);
    }
}
