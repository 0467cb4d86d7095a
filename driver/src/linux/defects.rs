//! The defects of Linux's ubd driver, one switch each. Numbers are those of the project's
//! catalogue (`docs/defects.md`); a variant's documentation says what is wrong, which
//! kernels have it, and what the model does with the switch off.

use std::fmt;
use std::str::FromStr;

macro_rules! defects {
    ($($(#[doc = $doc:literal])* $variant:ident = $number:literal, $name:literal;)*) => {
        /// One defect. Its discriminant is its number in the catalogue.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Defect {
            $($(#[doc = $doc])* $variant = $number,)*
        }

        impl Defect {
            /// All that the model can express, in the order of their numbers.
            pub const ALL: &'static [Defect] = &[$(Defect::$variant),*];

            /// Its name in the catalogue.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Defect::$variant => $name,)*
                }
            }

            /// What its documentation says of it, in the lines of the source.
            const fn documentation(self) -> &'static str {
                match self {
                    $(Defect::$variant => concat!($($doc, "\n"),*),)*
                }
            }
        }
    };
}

defects! {
    /// A flush does nothing and is acknowledged, because the I/O thread works by segments
    /// and a flush has none. 6.12; in 2.6 there is no flush at all, which is the same to the
    /// guest. Hides [`Defect::FlushWrongFile`]. A FUA write is a write and a flush; closing
    /// syncs nothing either. Fixed: all three sync the COW file.
    FlushNoop = 1, "flush-noop";
    /// A flush syncs the file that reads of clean sectors use: the backing file. 6.12.
    /// Fixed: it syncs the COW file.
    FlushWrongFile = 2, "flush-wrong-file";
    /// Data and bitmap are written without a barrier between them: after a power cut the
    /// bit can be there without the data. 6.12 and 2.6. Fixed: the COW file is synced
    /// before the words of the bitmap are written.
    UnorderedPublish = 3, "unordered-publish";
    /// If the pipe is full, the bits that were set for the request stay set; its second
    /// submission finds them and writes no bitmap. 6.12. Fixed: they are cleared again.
    RequeueLosesBitmap = 4, "requeue-loses-bitmap";
    /// If the data of a write cannot be written, its bits stay set, and those of the segments
    /// after it. 6.12 and 2.6. Fixed: they are cleared, and the requests queued after it are
    /// planned again.
    ErrorLeavesBit = 5, "error-leaves-bit";
    /// If the words of the bitmap cannot be written, the bits stay set in memory, so that
    /// no later write of the sectors writes them. 6.12 and 2.6. Fixed: as
    /// [`Defect::ErrorLeavesBit`].
    BitmapWriteNeverRetried = 6, "bitmap-write-never-retried";
    /// A write of which the host did nothing counts as done, without its bitmap. (One that
    /// was done in part is an I/O error with this switch.) 6.12. Fixed: the rest of a short
    /// write is written, and no progress is an error.
    ZeroWriteIsSuccess = 7, "zero-write-is-success";
    /// After a segment of several runs the request goes on by the length of the last run only,
    /// and so every later segment is at the wrong place. 6.12. With [`Defect::ShortReadRestart`] it
    /// goes on, after a short read, by the length of the rest that was read last: seen on 6.1.
    /// Fixed: by that of the segment.
    LastRunOffset = 8, "last-run-offset";
    /// The rest of a short read is read from the same place in the file again. 6.12 and
    /// 2.6. Fixed: from where the first part ended.
    ShortReadRestart = 9, "short-read-restart";
    /// A request that fits into the pipe only in part is handed over in part, and whole
    /// when it is submitted again. As each part counts towards its completion, it completes
    /// before its last segments are done. From the multi-queue driver up to 5.10; not in
    /// 6.12, not in 2.6. Fixed: whole or not at all.
    PartialRequeueDuplicates = 10, "partial-requeue-duplicates";
    /// Two words are written also from the last one on: eight bytes (zeros here, what memory held
    /// there) land past the bitmap. Fixed in the kernel before 2.6. Fixed: the two last words are
    /// written.
    EndOfMapOverrun = 13, "end-of-map-overrun";
    /// With one word of bitmap, the two last words begin eight bytes before it: what is
    /// there (in V1 and V2 the end of the header) becomes zeros here, what memory held in
    /// the kernel. 6.12 and 2.6. Fixed: one word is written.
    OneWordUnderflow = 14, "one-word-underflow";
    /// The bitmap of V1 and V2 lacks the byte for the last sectors if their number is no
    /// multiple of 8: their bits are lost when the file is opened again, or lie in the data
    /// area. 6.12 and 2.6. Fixed: writes of those sectors are refused with an I/O error.
    V1V2ShortBitmap = 15, "v1-v2-short-bitmap";
    /// The bitmap is read with one read whose length nobody checks; the rest is clean here,
    /// what memory held in the kernel. 6.12 and 2.6. Fixed: read whole, or refused.
    ShortBitmapRead = 16, "short-bitmap-read";
    /// The offsets of bitmap and data are 32 bits with a sign. 6.12 and 2.6. Fixed: 64.
    IntOffsets = 17, "int-offsets";
    /// With only the COW file named, the limits of a device without COW apply: a segment of
    /// more than 64 sectors (a discard, zeros) does not fit its mask, and the kernel
    /// panics. 6.12 (since 6.9). Fixed: the limits are those of a COW device.
    LimitBeforeHeader = 18, "limit-before-header";
    /// The V3 layout that 64-bit hosts wrote is read as if it were the ordinary one. 2.6
    /// (up to December 2005). Fixed: it is recognised.
    V3WideLayout = 19, "v3-64-bit-layout";
    /// Switching the backing file of a V1 or V2 file writes a V3 header, which reaches over
    /// its bitmap. 6.12 and 2.6. A header as 64-bit hosts wrote it becomes an ordinary V3 header
    /// too. That loses nothing: no alignment puts the bitmap of the two at different places. Fixed:
    /// the header keeps its version, and is synced.
    BackingSwitchClobbersV1V2 = 20, "backing-switch-clobbers-v1-v2";
    /// Sector size and alignment are believed, and divided by. 6.12 and 2.6. Fixed: refused.
    HeaderUnchecked = 21, "header-unchecked";
    /// The backing file's time is compared as 32 bits: a change exactly 2^32 seconds later
    /// is not noticed. 2.6, on the 32-bit hosts of its time; a running 6.1 notices it. Fixed:
    /// compared whole. (That a change within the same second is not noticed is the format's
    /// own: it has no room for more.)
    MtimeSeconds = 22, "mtime-seconds";
    /// A new COW file is written in place, header first and its last byte later, and nothing
    /// is synced, nor its name. 6.12 and 2.6. Fixed: made under another name and synced; its
    /// name is synced again whenever it is opened.
    CreateNotAtomic = 24, "create-not-atomic";
    /// The lock on a file goes when any descriptor of the file is closed, such as the one that
    /// the header was read with. 6.12 and 2.6. Fixed: held until the device is closed.
    LockLostOnClose = 25, "lock-lost-on-close";
    /// If a discard fails, the bits that it set stay set. 6.12. Fixed: as
    /// [`Defect::ErrorLeavesBit`].
    FailedDiscardLeavesBits = 26, "failed-discard-leaves-bits";
    /// The words of the bitmap are written whole: where it ends within one, up to seven bytes of
    /// what memory holds after it go to the file, into the gap before the data. They are
    /// [`FOREIGN_MEMORY`] here, and were a guest's data in the kernel. 6.12 and 2.6. Fixed: they
    /// are zeros.
    MemoryPastTheBitmap = 27, "memory-past-the-bitmap";
    /// A read of the header that fails is passed over, and the device is opened by what the
    /// kernel's memory holds there. That is what an opening before has read
    /// ([`OpenSpec::remembered`](super::OpenSpec::remembered)); if it is no header, the device is
    /// refused all the same. 6.12 and 2.6. Fixed: refused.
    FailedHeaderReadIsSuccess = 28, "failed-header-read-is-success";
    /// The I/O thread hears each failure of its host as no error and as nothing done: the errno
    /// that it shares with the kernel's thread has been overwritten. A read brings zeros, a
    /// discard, zeros and a sync are successes, and a write is one with
    /// [`Defect::ZeroWriteIsSuccess`]. 2.6 to 6.14; mended in 6.15. There it is a matter of a few
    /// instructions, and few failures are misheard. A model that mishears each one is like no
    /// kernel, and so it is in neither set. Fixed: failures are heard.
    SharedErrno = 29, "shared-errno";
}

/// What stands for memory that does not belong to the driver, in each of its bytes.
pub const FOREIGN_MEMORY: u8 = 0xa5;

impl Defect {
    /// Its number in the catalogue, from 1.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// What is wrong, in a sentence, without its full stop.
    pub fn does(self) -> String {
        first_sentence(self.documentation())
    }

    const fn bit(self) -> u32 {
        1 << self.number()
    }
}

/// The first sentence of documentation, on one line.
pub fn first_sentence(documentation: &str) -> String {
    let words: Vec<&str> = documentation.split_whitespace().collect();
    let text = words.join(" ");
    let sentence = text.split(". ").next().unwrap_or_default();
    sentence.trim_end_matches('.').to_owned()
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no defect of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found {found:?}, expected the name of a defect of the ubd driver, such as flush-noop")]
pub struct UnknownDefect {
    /// The name.
    pub found: String,
}

impl FromStr for Defect {
    type Err = UnknownDefect;

    fn from_str(name: &str) -> Result<Defect, UnknownDefect> {
        let known = Defect::ALL.iter().find(|defect| defect.name() == name);
        known.copied().ok_or_else(|| UnknownDefect {
            found: name.to_owned(),
        })
    }
}

/// The defects that a model has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Defects(u32);

impl Defects {
    /// Those of Linux 6.12.
    pub const LINUX_6_12: Defects = Defects::LINUX_COMMON
        .with(Defect::FlushWrongFile)
        .with(Defect::RequeueLosesBitmap)
        .with(Defect::ZeroWriteIsSuccess)
        .with(Defect::LastRunOffset)
        .with(Defect::LimitBeforeHeader)
        .with(Defect::FailedDiscardLeavesBits);

    /// Those of Linux 2.6.0 and its time.
    pub const LINUX_2_6: Defects = Defects::LINUX_COMMON
        .with(Defect::V3WideLayout)
        .with(Defect::MtimeSeconds);

    /// Those that were there all the time.
    const LINUX_COMMON: Defects = Defects::none()
        .with(Defect::FlushNoop)
        .with(Defect::UnorderedPublish)
        .with(Defect::ErrorLeavesBit)
        .with(Defect::BitmapWriteNeverRetried)
        .with(Defect::ShortReadRestart)
        .with(Defect::OneWordUnderflow)
        .with(Defect::V1V2ShortBitmap)
        .with(Defect::ShortBitmapRead)
        .with(Defect::IntOffsets)
        .with(Defect::BackingSwitchClobbersV1V2)
        .with(Defect::HeaderUnchecked)
        .with(Defect::CreateNotAtomic)
        .with(Defect::LockLostOnClose)
        .with(Defect::MemoryPastTheBitmap)
        .with(Defect::FailedHeaderReadIsSuccess);

    /// No defect: the model keeps every promise.
    pub const fn none() -> Defects {
        Defects(0)
    }

    /// Only this one.
    pub const fn only(defect: Defect) -> Defects {
        Defects(defect.bit())
    }

    /// These and that one.
    pub const fn with(self, defect: Defect) -> Defects {
        Defects(self.0 | defect.bit())
    }

    /// These without that one.
    pub const fn without(self, defect: Defect) -> Defects {
        Defects(self.0 & !defect.bit())
    }

    /// Whether it is one of these.
    pub const fn contains(self, defect: Defect) -> bool {
        self.0 & defect.bit() != 0
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// These, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Defect> {
        let all = Defect::ALL.iter().copied();
        all.filter(move |&defect| self.contains(defect))
    }
}

impl FromIterator<Defect> for Defects {
    fn from_iter<I: IntoIterator<Item = Defect>>(defects: I) -> Defects {
        defects.into_iter().fold(Defects::none(), Defects::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_defect_is_found_by_its_name_and_no_other() {
        for &defect in Defect::ALL {
            assert_eq!(defect.name().parse(), Ok(defect));
            let only = Defects::only(defect);
            assert_eq!(only.iter().collect::<Vec<_>>(), [defect]);
            assert!(only.without(defect).is_empty());
        }
        assert!("flush".parse::<Defect>().is_err());
        for defect in Defect::ALL {
            let does = defect.does();
            assert!(
                does.len() > 20 && !does.contains(['`', '|', '\n']),
                "{defect}: {does}"
            );
        }
    }

    #[test]
    fn what_was_repaired_or_comes_at_times_is_in_neither_kernel() {
        for gone in [Defect::PartialRequeueDuplicates, Defect::EndOfMapOverrun] {
            assert!(!Defects::LINUX_6_12.contains(gone));
            assert!(!Defects::LINUX_2_6.contains(gone));
        }
        assert!(!Defects::LINUX_6_12.contains(Defect::SharedErrno));
        assert!(!Defects::LINUX_2_6.contains(Defect::SharedErrno));
        assert_eq!(Defects::LINUX_6_12.iter().count(), 21);
        assert_eq!(Defects::LINUX_2_6.iter().count(), 17);
    }
}
