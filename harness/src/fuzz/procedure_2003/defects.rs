//! What can be wrong with a resize that moves data, one switch each.

use std::fmt;
use std::str::FromStr;

use driver::linux::first_sentence;

macro_rules! defects {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal;)*) => {
        /// One defect of the model.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ResizeDefect {
            $($(#[doc = $doc])* $variant,)*
        }

        impl ResizeDefect {
            /// All of them.
            pub const ALL: &'static [ResizeDefect] = &[$(ResizeDefect::$variant),*];

            /// Its name in the catalogue.
            pub const fn name(self) -> &'static str {
                match self {
                    $(ResizeDefect::$variant => $name,)*
                }
            }

            /// What its documentation says of it, in the lines of the source.
            const fn documentation(self) -> &'static str {
                match self {
                    $(ResizeDefect::$variant => concat!($($doc, "\n"),*),)*
                }
            }
        }
    };
}

defects! {
    /// The data is moved first bytes first. As soon as it is longer than the distance moved,
    /// a sector is overwritten before it has been read.
    ForwardCopy = "forward-copy";
    /// The header with the new layout is committed before the data has moved; or the new
    /// file takes the old one's name before it is whole.
    HeaderBeforeData = "header-before-data";
    /// The new file takes the old one's name without having been synced.
    NoSyncBeforeRename = "no-sync-before-rename";
    /// The directory is not synced after the rename, so that the old file can come back with
    /// everything missing that was flushed since.
    NoDirectorySync = "no-directory-sync";
    /// New sectors are not marked dirty: they are read from the backing file, which ends
    /// before them.
    TailLeftClean = "tail-left-clean";
    /// A shrink leaves bits and data past the end, and a grow takes a set bit there for a
    /// sector that has been made ready: the old content shows.
    StaleBitsAfterShrinkThenGrow = "stale-bits-after-shrink-then-grow";
    /// The move goes on before the journal's record is durable, and overwrites what only
    /// that record allows to overwrite.
    ProgressNotDurable = "progress-not-durable";
    /// The bits of the old sectors are not carried over to the new layout's bitmap.
    BitmapNotMoved = "bitmap-not-moved";
    /// The guest goes on using the old places during the move, the window's among them.
    IoToOldLocationDuringMove = "io-to-old-location-during-move";
}

impl ResizeDefect {
    /// What is wrong, in a sentence, without its full stop.
    pub fn does(self) -> String {
        first_sentence(self.documentation())
    }
}

impl fmt::Display for ResizeDefect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no defect of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found {found:?}, expected the name of a defect of a resize, such as forward-copy")]
pub struct UnknownResizeDefect {
    /// The name.
    pub found: String,
}

impl FromStr for ResizeDefect {
    type Err = UnknownResizeDefect;

    fn from_str(name: &str) -> Result<ResizeDefect, UnknownResizeDefect> {
        let known = ResizeDefect::ALL.iter().find(|d| d.name() == name);
        known.copied().ok_or_else(|| UnknownResizeDefect {
            found: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_defect_is_found_by_its_name_and_no_other() {
        for &defect in ResizeDefect::ALL {
            assert_eq!(defect.name().parse(), Ok(defect));
            assert!(defect.does().len() > 20, "{defect}");
        }
        assert!("flush-noop".parse::<ResizeDefect>().is_err());
    }
}
