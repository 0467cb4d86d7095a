//! The device specification of UML's command line:
//!
//! ```text
//! ubd<device><flags>=<file>[,<backing file>[,<size>]]
//! ```
//!
//! The device is a number from 0 to 15 or a letter from a to p; each flag (`r`, `s`,
//! `c`, `d`) may be given once, in any order; `:` separates as well as `,` does. A
//! path can contain neither, for there is no way to escape one: as in UML.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::size::{SizeError, Unexpected, format_size, parse_device_size};
use crate::units::Bytes;

/// The devices that can be named.
pub const MAX_DEVICES: u8 = 16;

/// What a device specification says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSpec {
    /// Which device, from 0; the letter a is device 0.
    pub index: u8,
    /// Flag `r`: the device cannot be written.
    pub read_only: bool,
    /// Flag `s`: every write reaches the disk before it is acknowledged.
    pub synchronous: bool,
    /// Flag `c`: the files are not locked, for others use them at the same time.
    pub shared: bool,
    /// Flag `d`: the file is never looked at for a COW header, it is a raw disk.
    pub data: bool,
    /// The COW file, or the raw disk.
    pub file: PathBuf,
    /// The backing file of the COW file.
    pub backing: Option<PathBuf>,
    /// The size that the device is to have.
    pub size: Option<Bytes>,
}

impl DeviceSpec {
    /// The first device, of this file and whatever its header names, with no flag set.
    pub fn of(file: impl Into<PathBuf>) -> DeviceSpec {
        DeviceSpec {
            index: 0,
            read_only: false,
            synchronous: false,
            shared: false,
            data: false,
            file: file.into(),
            backing: None,
            size: None,
        }
    }
}

/// Why a text is not a device specification. Positions are bytes from its start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceSpecError {
    /// It does not begin with `ubd`.
    #[error("device {text:?}: at byte 0: found {found}, expected ubd")]
    NotUbd {
        /// The whole text.
        text: String,
        /// What is there instead.
        found: Unexpected,
    },
    /// There is no device of this name.
    #[error(
        "device {text:?}: at byte {at}: found {found}, \
         expected a number from 0 to 15 or a letter from a to p"
    )]
    NotADevice {
        /// The whole text.
        text: String,
        /// Where the device should be named.
        at: usize,
        /// What is there instead.
        found: Unexpected,
    },
    /// There is no such flag.
    #[error(
        "device {text:?}: at byte {at}: found {found}, expected one of the flags r, s, c, d or ="
    )]
    NotAFlag {
        /// The whole text.
        text: String,
        /// Where the flag should be.
        at: usize,
        /// What is there instead.
        found: Unexpected,
    },
    /// A flag is given twice.
    #[error("device {text:?}: at byte {at}: found {found} again, expected each flag only once")]
    RepeatedFlag {
        /// The whole text.
        text: String,
        /// Where it is for the second time.
        at: usize,
        /// The flag.
        found: Unexpected,
    },
    /// A path is empty.
    #[error("device {text:?}: at byte {at}: found {found}, expected the path of the {expected}")]
    EmptyPath {
        /// The whole text.
        text: String,
        /// Where the path should be.
        at: usize,
        /// What is there instead.
        found: Unexpected,
        /// Which file's path it is.
        expected: &'static str,
    },
    /// The size is none, or none that a device can have.
    #[error("device {text:?}: {error}")]
    Size {
        /// The whole text.
        text: String,
        /// What is wrong, and where in the whole text.
        error: SizeError,
    },
}

impl FromStr for DeviceSpec {
    type Err = DeviceSpecError;

    fn from_str(text: &str) -> Result<Self, DeviceSpecError> {
        let mut parser = Parser { text, at: 0 };
        parser.prefix()?;
        let index = parser.index()?;
        let [read_only, synchronous, shared, data] = parser.flags()?;
        let file = parser.path("COW file or disk")?;
        let mut backing = None;
        if parser.separator() {
            backing = Some(parser.path("backing file")?);
        }
        let mut size = None;
        if parser.separator() {
            size = Some(parser.size()?);
        }
        Ok(Self {
            index,
            read_only,
            synchronous,
            shared,
            data,
            file,
            backing,
            size,
        })
    }
}

/// As [`FromStr`] reads it, with the device as a letter and commas. A path with a
/// separator in it, or a size without a backing file, has no such form.
impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ubd{}", char::from(b'a' + self.index % MAX_DEVICES))?;
        let flags = [self.read_only, self.synchronous, self.shared, self.data];
        for (given, flag) in flags.into_iter().zip(FLAGS) {
            if given {
                write!(f, "{flag}")?;
            }
        }
        write!(f, "={}", self.file.display())?;
        if let Some(backing) = &self.backing {
            write!(f, ",{}", backing.display())?;
        }
        if let Some(size) = self.size {
            write!(f, ",{}", format_size(size))?;
        }
        Ok(())
    }
}

const FLAGS: [char; 4] = ['r', 's', 'c', 'd'];

const SEPARATORS: [char; 2] = [',', ':'];

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn text(&self) -> String {
        self.text.to_owned()
    }

    fn prefix(&mut self) -> Result<(), DeviceSpecError> {
        if !self.text.starts_with("ubd") {
            return Err(DeviceSpecError::NotUbd {
                text: self.text(),
                found: match self.text.chars().take(3).collect::<String>() {
                    none if none.is_empty() => Unexpected::End,
                    start => Unexpected::Text(start),
                },
            });
        }
        self.at = "ubd".len();
        Ok(())
    }

    fn index(&mut self) -> Result<u8, DeviceSpecError> {
        let rest = self.rest();
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (index, len) = match rest.bytes().next() {
            Some(letter @ b'a'..=b'p') => (Some(letter - b'a'), 1),
            // UML reads 010 as an octal number; better not to read it at all.
            Some(b'0') if digits > 1 => (None, digits),
            _ => (rest[..digits].parse().ok(), digits),
        };
        match index {
            Some(index) if index < MAX_DEVICES => {
                self.at += len;
                Ok(index)
            }
            _ => Err(DeviceSpecError::NotADevice {
                text: self.text(),
                at: self.at,
                found: match digits {
                    0 => Unexpected::first_of(rest),
                    _ => Unexpected::Text(rest[..digits].to_owned()),
                },
            }),
        }
    }

    /// The flags, in the order of [`FLAGS`], and the `=` after them.
    fn flags(&mut self) -> Result<[bool; 4], DeviceSpecError> {
        let mut given = [false; 4];
        loop {
            let (text, at) = (self.text(), self.at);
            let found = Unexpected::first_of(self.rest());
            let next = self.rest().chars().next();
            if next == Some('=') {
                self.at += 1;
                return Ok(given);
            }
            let Some(flag) = FLAGS.iter().position(|&flag| Some(flag) == next) else {
                return Err(DeviceSpecError::NotAFlag { text, at, found });
            };
            if given[flag] {
                return Err(DeviceSpecError::RepeatedFlag { text, at, found });
            }
            given[flag] = true;
            self.at += 1;
        }
    }

    /// A path up to the next separator.
    fn path(&mut self, expected: &'static str) -> Result<PathBuf, DeviceSpecError> {
        let rest = self.rest();
        let len = rest.find(SEPARATORS).unwrap_or(rest.len());
        if len == 0 {
            return Err(DeviceSpecError::EmptyPath {
                text: self.text(),
                at: self.at,
                found: Unexpected::first_of(rest),
                expected,
            });
        }
        self.at += len;
        Ok(rest[..len].into())
    }

    fn separator(&mut self) -> bool {
        let found = self.rest().starts_with(SEPARATORS);
        self.at += usize::from(found);
        found
    }

    fn size(&self) -> Result<Bytes, DeviceSpecError> {
        parse_device_size(self.rest()).map_err(|error| DeviceSpecError::Size {
            text: self.text(),
            error: error.shifted(self.at),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> DeviceSpec {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_specification_is_read_whole() {
        let spec = parse("ubda=cow,backing,400M");
        let expected = DeviceSpec {
            index: 0,
            read_only: false,
            synchronous: false,
            shared: false,
            data: false,
            file: "cow".into(),
            backing: Some("backing".into()),
            size: Some(Bytes(400 << 20)),
        };
        assert_eq!(spec, expected);
        assert_eq!(spec.to_string(), "ubda=cow,backing,400M");
    }

    #[test]
    fn colons_separate_too_also_beside_commas() {
        let spec = parse("ubd0r=/x/root.cow:/x/root.img");
        assert!(spec.read_only);
        assert_eq!(spec.to_string(), "ubdar=/x/root.cow,/x/root.img");
        assert_eq!(parse("ubda=a:b,1k"), parse("ubda=a,b:1K"));
    }

    #[test]
    fn the_first_letter_is_the_device_and_the_others_are_flags() {
        let spec = parse("ubddscdr=disk");
        assert_eq!(
            (spec.index, spec.backing.as_ref(), spec.size),
            (3, None, None)
        );
        assert!(spec.read_only && spec.synchronous && spec.shared && spec.data);
        assert_eq!(spec.to_string(), "ubddrscd=disk");
        let spec = parse("ubd15c==disk");
        assert_eq!((spec.index, spec.shared, spec.data), (15, true, false));
        assert_eq!(spec.file, PathBuf::from("=disk"));
        assert_eq!(parse("ubdp=x").index, 15);
    }

    #[test]
    fn every_error_says_where_what_was_found_and_what_was_expected() {
        let device = "expected a number from 0 to 15 or a letter from a to p";
        let flag = "expected one of the flags r, s, c, d or =";
        for (text, message) in [
            ("", "at byte 0: found the end, expected ubd"),
            ("hda=x", "at byte 0: found \"hda\", expected ubd"),
            ("ubd", &format!("at byte 3: found the end, {device}")),
            ("ubdz=x", &format!("at byte 3: found 'z', {device}")),
            ("ubd16=x", &format!("at byte 3: found \"16\", {device}")),
            ("ubd300=x", &format!("at byte 3: found \"300\", {device}")),
            ("ubd010=x", &format!("at byte 3: found \"010\", {device}")),
            ("ubd=x", &format!("at byte 3: found '=', {device}")),
            ("ubda", &format!("at byte 4: found the end, {flag}")),
            ("ubdax=x", &format!("at byte 4: found 'x', {flag}")),
            ("ubd0é=x", &format!("at byte 4: found 'é', {flag}")),
            (
                "ubdarsr=x",
                "at byte 6: found 'r' again, expected each flag only once",
            ),
            (
                "ubda=",
                "at byte 5: found the end, expected the path of the COW file or disk",
            ),
            (
                "ubda=,b",
                "at byte 5: found ',', expected the path of the COW file or disk",
            ),
            (
                "ubda=é,",
                "at byte 8: found the end, expected the path of the backing file",
            ),
            (
                "ubda=a,:4M",
                "at byte 7: found ':', expected the path of the backing file",
            ),
            (
                "ubda=a,b,",
                "at byte 9: found the end, expected a size such as 400M",
            ),
            (
                "ubda=a,b,4M,c",
                "at byte 11: found ',', expected nothing after the suffix",
            ),
            (
                "ubda=a,b,0",
                "at byte 9: found \"0\", expected the size of a device, which is not zero",
            ),
            (
                "ubda=a,b,513",
                "at byte 9: found \"513\", expected a multiple of 512 bytes: the nearest sizes of whole \
                 sectors are 512 and 1024",
            ),
        ] {
            let error = text.parse::<DeviceSpec>().expect_err(text);
            assert_eq!(error.to_string(), format!("device {text:?}: {message}"));
        }
    }

    fn spec() -> impl Strategy<Value = DeviceSpec> {
        let path = || "[^,:]{1,12}".prop_map(PathBuf::from);
        let size = (1..1_u64 << 54).prop_map(|sectors| Bytes(sectors * 512));
        (
            0..MAX_DEVICES,
            any::<[bool; 4]>(),
            path(),
            proptest::option::of((path(), proptest::option::of(size))),
        )
            .prop_map(|(index, flags, file, backing)| {
                let [read_only, synchronous, shared, data] = flags;
                DeviceSpec {
                    index,
                    read_only,
                    synchronous,
                    shared,
                    data,
                    file,
                    size: backing.as_ref().and_then(|(_, size)| *size),
                    backing: backing.map(|(path, _)| path),
                }
            })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(spec in spec()) {
            prop_assert_eq!(spec.to_string().parse(), Ok(spec));
        }

        #[test]
        fn any_text_is_a_specification_or_an_error(
            text in "\\PC*|ubd[a-z0-9é]{1,3}[rscd=]{0,5}=?[a-zé,:]{0,8}[,:][0-9é]{0,20}[kMGTé]?",
        ) {
            if let Ok(spec) = text.parse::<DeviceSpec>() {
                prop_assert_eq!(spec.to_string().parse(), Ok(spec));
            }
        }
    }
}
