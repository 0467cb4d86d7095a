//! Reading a finding, from whoever it is: its changes are carried out in memory, and so their
//! number and what they take is bounded while they are read, and so is every part of the text.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, Read};

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::mount::Limits;
use crate::sim::tree::Recorded;

use super::finding_file::{BadFinding, FORMAT, FindingFile};
use super::kept_change::KeptChange;

/// The longest text of one change. The longest write takes less, also where nothing can be
/// compressed.
const LONGEST_CHANGE: u64 = 128 << 20;

/// What a text may have beside what grows with the limits.
const SOME_TEXT: u64 = 1 << 20;

/// The longest text of the changes of a directory with these limits: content as base64 is a third
/// longer.
fn longest(limits: Limits) -> u64 {
    const OF_A_CHANGE: u64 = 512;
    let changes = limits.changes.saturating_mul(OF_A_CHANGE);
    let content = (limits.bytes / 3).saturating_mul(4);
    content.saturating_add(changes).saturating_add(SOME_TEXT)
}

/// The longest text beside that: what survives of each change, and of each sector of a torn one.
fn longest_beside(limits: Limits) -> u64 {
    const OF_A_CHANGE: u64 = 16;
    const BYTES_A_LETTER: u64 = 64;
    let changes = limits.changes.saturating_mul(OF_A_CHANGE);
    let content = limits.bytes / BYTES_A_LETTER;
    content.saturating_add(changes).saturating_add(SOME_TEXT)
}

impl FindingFile {
    /// Reads one whose changes are within these limits.
    ///
    /// # Errors
    /// If it is none, or exceeds them.
    pub fn read(from: impl Read, limits: Limits) -> Result<FindingFile, BadFinding> {
        let bounds = Bounds::new(limits);
        let from = Bounded {
            from: io::BufReader::new(from),
            bounds: &bounds,
        };
        let mut deserializer = serde_json::Deserializer::from_reader(from);
        let read = Whole(&bounds).deserialize(&mut deserializer);
        let read = read.and_then(|read| deserializer.end().map(|()| read));
        read.map_err(|error| match bounds.wrong.take() {
            Some(wrong) => wrong,
            None if error.is_io() => BadFinding::Reading(error.into()),
            None => BadFinding::Text(error),
        })
    }
}

/// What bounds a text that is read.
struct Bounds {
    limits: Limits,
    /// The bytes that were read.
    read: Cell<u64>,
    /// Those that may be, for what is read now, and what is wrong if there are more.
    until: Cell<u64>,
    too_long: RefCell<Option<BadFinding>>,
    /// What is wrong with the text.
    wrong: RefCell<Option<BadFinding>>,
}

impl Bounds {
    fn new(limits: Limits) -> Bounds {
        let bounds = Bounds {
            limits,
            read: Cell::new(0),
            until: Cell::new(0),
            too_long: RefCell::new(None),
            wrong: RefCell::new(None),
        };
        bounds.allow_beside(longest_beside(limits));
        bounds
    }

    /// This much more that is no change.
    fn allow_beside(&self, bytes: u64) {
        let most = longest_beside(self.limits);
        self.allow(
            bytes,
            BadFinding::TooLong {
                what: "beside its changes",
                most,
            },
        );
    }

    /// A further change, which has this number.
    fn allow_change(&self, number: usize) {
        let most = longest(self.limits);
        match most.saturating_sub(self.read.get()) {
            left @ ..LONGEST_CHANGE => self.allow(
                left,
                BadFinding::TooLong {
                    what: "of changes",
                    most,
                },
            ),
            _ => {
                let why = format!("found more than {LONGEST_CHANGE} bytes of text");
                self.allow(LONGEST_CHANGE, BadFinding::Change { number, why });
            }
        }
    }

    fn allow(&self, bytes: u64, too_long: BadFinding) {
        self.until.set(self.read.get().saturating_add(bytes));
        self.too_long.replace(Some(too_long));
    }

    fn left(&self) -> u64 {
        self.until.get().saturating_sub(self.read.get())
    }

    /// Ends the reading with this.
    fn wrong<E: Error>(&self, wrong: BadFinding) -> E {
        let error = E::custom(&wrong);
        self.wrong.replace(Some(wrong));
        error
    }
}

/// A text that is read no further than its bounds allow.
struct Bounded<'a, R> {
    from: R,
    bounds: &'a Bounds,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let found = self.from.read(buffer)?;
        let bounds = self.bounds;
        bounds.read.set(bounds.read.get() + found as u64);
        if bounds.read.get() > bounds.until.get() {
            // It may be asked for more after that.
            if let Some(too_long) = bounds.too_long.take() {
                bounds.wrong.replace(Some(too_long));
            }
            return Err(io::Error::other("found more text than expected"));
        }
        Ok(found)
    }
}

/// All of it.
struct Whole<'a>(&'a Bounds);

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Format,
    Command,
    Check,
    Within,
    Directory,
    End,
    Assumptions,
    Point,
    Begin,
    Crash,
    Changes,
}

impl<'de> DeserializeSeed<'de> for Whole<'_> {
    type Value = FindingFile;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<FindingFile, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = FindingFile;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a finding")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FindingFile, A::Error> {
        let Whole(bounds) = self;
        let (mut format, mut command, mut check, mut end) = (None, None, None, None);
        let (mut within, mut directory) = (None, None);
        let (mut assumptions, mut point, mut begin) = (None, None, None);
        let (mut crash, mut changes) = (None, None);
        while let Some(field) = map.next_key()? {
            match field {
                Field::Format => {
                    let found: String = map.next_value()?;
                    // Of another format nothing else would be as expected.
                    if found != FORMAT {
                        return Err(bounds.wrong(BadFinding::Format { found }));
                    }
                    once(&mut format, "format", found)?;
                }
                Field::Command => once(&mut command, "command", map.next_value()?)?,
                Field::Check => once(&mut check, "check", map.next_value()?)?,
                Field::Within => once(&mut within, "within", map.next_value()?)?,
                Field::Directory => once(&mut directory, "directory", map.next_value()?)?,
                Field::End => once(&mut end, "end", map.next_value()?)?,
                Field::Assumptions => once(&mut assumptions, "assumptions", map.next_value()?)?,
                Field::Point => once(&mut point, "point", map.next_value()?)?,
                Field::Begin => once(&mut begin, "begin", map.next_value()?)?,
                Field::Crash => once(&mut crash, "crash", map.next_value()?)?,
                Field::Changes => {
                    let left = bounds.left();
                    let read = map.next_value_seed(Changes(bounds))?;
                    bounds.allow_beside(left);
                    once(&mut changes, "changes", read)?;
                }
            }
        }
        Ok(FindingFile {
            format: there(format, "format")?,
            command: there(command, "command")?,
            check: there(check, "check")?,
            within: there(within, "within")?,
            directory: there(directory, "directory")?,
            end: there(end, "end")?,
            assumptions: there(assumptions, "assumptions")?,
            point: there(point, "point")?,
            begin: there(begin, "begin")?,
            crash: there(crash, "crash")?,
            changes: there(changes, "changes")?,
        })
    }
}

fn once<T, E: Error>(field: &mut Option<T>, name: &'static str, value: T) -> Result<(), E> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::duplicate_field(name)),
    }
}

fn there<T, E: Error>(field: Option<T>, name: &'static str) -> Result<T, E> {
    field.ok_or_else(|| E::missing_field(name))
}

/// The list of changes.
struct Changes<'a>(&'a Bounds);

impl<'de> DeserializeSeed<'de> for Changes<'_> {
    type Value = Vec<Recorded>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Vec<Recorded>, D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Changes<'_> {
    type Value = Vec<Recorded>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of changes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Recorded>, A::Error> {
        let Changes(bounds) = self;
        let limits = bounds.limits;
        let mut changes = Vec::new();
        let mut space = 0_u64;
        loop {
            let number = changes.len();
            bounds.allow_change(number);
            let Some(kept) = list.next_element::<KeptChange>()? else {
                return Ok(changes);
            };
            if number as u64 >= limits.changes {
                let most = limits.changes;
                return Err(bounds.wrong(BadFinding::TooManyChanges { most }));
            }
            let recorded = kept.recorded();
            let recorded =
                recorded.map_err(|why| bounds.wrong(BadFinding::Change { number, why }))?;
            space = space.saturating_add(recorded.change.space());
            if space > limits.bytes {
                let most = limits.bytes;
                return Err(bounds.wrong(BadFinding::TooMuch { number, most }));
            }
            changes.push(recorded);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        nodes: 10,
        bytes: 1 << 10,
        changes: 10,
        logged: 1 << 10,
    };

    const CHANGE: &str = r#"{"kind": "write", "at_ns": 0, "change": "settle"}"#;

    fn text(check: &str, changes: &str) -> String {
        format!(
            r#"{{"format": "{FORMAT}", "command": "c", "check": {check}, "within": "/",
            "directory": "/work", "end": "ended", "assumptions": {{}}, "point": 0, "begin": 0, "crash": "kill", "changes": {changes}}}"#
        )
    }

    fn read(text: &str) -> Result<FindingFile, String> {
        // What is not read is no part of it.
        let from = text.as_bytes().chain(io::repeat(b' '));
        let limited = from.take(1 << 30);
        FindingFile::read(limited, LIMITS).map_err(|error| error.to_string())
    }

    fn exact(text: &str) -> Result<FindingFile, String> {
        FindingFile::read(text.as_bytes(), LIMITS).map_err(|error| error.to_string())
    }

    #[test]
    fn a_finding_is_read_no_further_than_its_limits() {
        let list = |count| format!("[{}]", vec![CHANGE; count].join(","));
        let read_list = exact(&text("\"true\"", &list(10)));
        assert_eq!(read_list.unwrap().changes.len(), 10);
        let error = exact(&text("\"true\"", &list(11))).unwrap_err();
        assert_eq!(error, "found more than 10 changes");
        // Nor does what never ends take memory, or time.
        for endless in [
            "{",
            r#"{"check": ""#,
            text("\"true\"", "[").trim_end_matches('}'),
        ] {
            let error = read(endless).unwrap_err();
            assert!(error.starts_with("found more than "), "{endless}: {error}");
        }
    }

    #[test]
    fn what_is_no_finding_is_told_with_what_is_wrong() {
        for (text, expected) in [
            (
                "{}",
                "not a finding of ubdlab crash: missing field `format` at line 1 column 2",
            ),
            (
                r#"{"point": 1, "point": 1}"#,
                "not a finding of ubdlab crash: duplicate field `point` at line 1 column 24",
            ),
            (
                r#"{"format": "ubdlab crash finding 7", "news": 1}"#,
                "found format \"ubdlab crash finding 7\", expected \"ubdlab crash finding 1\"",
            ),
        ] {
            assert_eq!(exact(text).unwrap_err(), expected);
        }
    }

    #[test]
    fn text_of_other_bytes_comes_back() {
        let check = exact(&text("[255, 97]", "[]")).unwrap().check;
        assert_eq!(check.text().as_encoded_bytes(), [255, 97]);
        assert!(exact(&text("[256]", "[]")).is_err());
    }
}
