//! What a check can find.

use driver::cow::HeaderError;
use driver::open::OpenError;
use driver::units::{Bytes, FileOffset};

/// How grave a finding is, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Nothing is wrong; good to know.
    Note,
    /// Space is taken that nobody can use.
    Leak,
    /// Data is lost or in danger, or the file is not as its format has it.
    Corruption,
}

impl std::fmt::Display for Severity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Severity::Note => "note",
            Severity::Leak => "leak",
            Severity::Corruption => "corruption",
        })
    }
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The header cannot be one.
    BadHeader,
    /// No file can be laid out like this.
    BadLayout,
    /// The file ends within its bitmap.
    BitmapCutShort,
    /// The file ends before the data of a dirty sector.
    DataCutShort,
    /// The file ends before its data area does; nothing that is dirty is lost.
    FileShort,
    /// Bits are set that belong to no sector.
    BitsPastEnd,
    /// There is no backing file.
    BackingMissing,
    /// The backing file is not the one that the COW file was made for.
    BackingChanged,
    /// The backing path leads where it was not to be followed to, so no backing file was opened.
    BackingOutside,
    /// A reflow was interrupted.
    InterruptedResize,
    /// A merge, a rebase or the extension of the backing file was interrupted.
    InterruptedBackingChange,
    /// The journal of an interrupted reflow says nothing.
    BadJournal,
    /// The extension block is damaged; what it said is known.
    DamagedExtension,
    /// The extension block is damaged; what it said is not known.
    LostExtension,
    /// Data in clean sectors, which nobody reads.
    StaleData,
    /// Data past the end of the data area.
    TrailingData,
    /// The file is longer than its data area by a hole.
    TrailingHole,
    /// The backing file has a time that no header holds.
    BackingTime,
    /// The backing file begins like an image, and is read as a raw disk.
    BackingIsImage,
    /// Stock Linux cannot reach the data.
    BeyondStock,
    /// The bitmap of an old version is too short for the device.
    ShortBitmap,
}

impl Fault {
    /// Its name, for programs.
    pub fn name(self) -> &'static str {
        match self {
            Fault::BadHeader => "bad-header",
            Fault::BadLayout => "bad-layout",
            Fault::BitmapCutShort => "bitmap-cut-short",
            Fault::DataCutShort => "data-cut-short",
            Fault::FileShort => "file-short",
            Fault::BitsPastEnd => "bits-past-end",
            Fault::BackingMissing => "backing-missing",
            Fault::BackingChanged => "backing-changed",
            Fault::BackingOutside => "backing-outside",
            Fault::InterruptedResize => "interrupted-resize",
            Fault::InterruptedBackingChange => "interrupted-backing-change",
            Fault::BadJournal => "bad-journal",
            Fault::DamagedExtension => "damaged-extension",
            Fault::LostExtension => "lost-extension",
            Fault::StaleData => "stale-data",
            Fault::TrailingData => "trailing-data",
            Fault::TrailingHole => "trailing-hole",
            Fault::BackingTime => "backing-time-beyond-header",
            Fault::BackingIsImage => "backing-is-image",
            Fault::BeyondStock => "beyond-stock-limit",
            Fault::ShortBitmap => "short-bitmap",
        }
    }

    fn severity(self) -> Severity {
        match self {
            Fault::StaleData | Fault::TrailingData => Severity::Leak,
            Fault::TrailingHole
            | Fault::BackingTime
            | Fault::BackingIsImage
            | Fault::BeyondStock
            | Fault::ShortBitmap => Severity::Note,
            _ => Severity::Corruption,
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub fault: Fault,
    /// Where in the COW file.
    pub at: FileOffset,
    /// How much space it takes, of a leak.
    pub leaked: Bytes,
    /// What was found and what was expected, in words.
    pub text: String,
}

impl Finding {
    pub(super) fn new(fault: Fault, at: FileOffset, text: String) -> Finding {
        Finding {
            fault,
            at,
            leaked: Bytes(0),
            text,
        }
    }

    /// How grave it is.
    pub fn severity(&self) -> Severity {
        self.fault.severity()
    }

    /// The finding that kept an image from being opened, or the error again where it could
    /// not be looked at.
    pub(super) fn of_open_error(error: OpenError) -> Result<Finding, OpenError> {
        let (fault, at) = match &error {
            OpenError::Header {
                error: HeaderError::HalfChanged { offset },
                ..
            } => (Fault::InterruptedBackingChange, FileOffset(*offset)),
            // There is nothing to check: it is another file.
            OpenError::Header {
                error: HeaderError::BadMagic { .. } | HeaderError::TooShort { found: ..4, .. },
                ..
            } => return Err(error),
            OpenError::Header { .. } => (Fault::BadHeader, FileOffset(0)),
            OpenError::Layout { at, .. } => (Fault::BadLayout, *at),
            OpenError::TooLarge { .. } => (Fault::BadLayout, FileOffset(0)),
            OpenError::BitmapCutShort { found, .. } => (Fault::BitmapCutShort, FileOffset(found.0)),
            OpenError::DataCutShort { found, .. } => (Fault::DataCutShort, FileOffset(found.0)),
            OpenError::Journal { at, .. } => (Fault::BadJournal, *at),
            _ => return Err(error),
        };
        Ok(Finding::new(fault, at, problem_of(&error)))
    }
}

/// An error's text without the file's name, which the report has already, and its place.
fn problem_of(error: &OpenError) -> String {
    match error {
        OpenError::Header {
            error: HeaderError::HalfChanged { .. },
            ..
        } => "the header is half changed to another backing file".into(),
        OpenError::Header { error, .. } => error.to_string(),
        OpenError::Layout { error, .. } => error.to_string(),
        OpenError::TooLarge { error, .. } => error.to_string(),
        OpenError::BitmapCutShort { expected, .. } => {
            format!("the file ends here, its bitmap goes on up to byte {expected}")
        }
        OpenError::DataCutShort { expected, .. } => {
            format!("the file ends here, its data goes on up to byte {expected}")
        }
        OpenError::Journal { problem, .. } => {
            format!("an interrupted resize is recorded, but {problem}")
        }
        other => other.to_string(),
    }
}
