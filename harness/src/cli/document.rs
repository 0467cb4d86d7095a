//! Results in files, as JSON documents that say which format they have.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::shard::merge::{Merging, OfShards};

use super::Failure;

/// The largest file that is read as a result or a checkpoint. Each has a few hundred findings at
/// most, of some kilobytes, or the figures of many volumes.
const LARGEST: u64 = 256 << 20;

/// What a command expects in the files that it is given.
pub(super) struct Expected {
    /// What such a document says it is.
    pub(super) format: &'static str,
    /// What it is, in words.
    pub(super) what: &'static str,
}

/// All that is looked at before it is known what a document is.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    format: Option<String>,
}

/// What is in a file, and the format that it says it has.
struct Text {
    format: Option<String>,
    text: String,
}

impl Expected {
    /// Adds up the documents in these files, and of directories in all files `*.json` that are no
    /// other documents of this program. No more than one of them is held beside the sum. The files,
    /// and the sum.
    ///
    /// # Errors
    /// What cannot be read, is no such document, does not pass `check` or does not fit to the
    /// others.
    pub(super) fn add_up<R: OfShards + DeserializeOwned, E: fmt::Display>(
        &self,
        given: &[PathBuf],
        check: impl Fn(&R) -> Result<(), E>,
    ) -> Result<(Vec<PathBuf>, Merging<R>), Failure> {
        let (mut read, mut sum) = (Vec::new(), Merging::default());
        for path in given {
            let in_directory = path.is_dir();
            let files = match in_directory {
                true => json_files_in(path)?,
                false => vec![path.clone()],
            };
            for file in files {
                let Text { format, text } = self.text(&file)?;
                if in_directory && self.is_other(format.as_deref()) {
                    continue;
                }
                let result = self.document(&file, format, &text)?;
                drop(text);
                let wrong = |why| Failure(format!("{}: {why}", driver::shown(&file)));
                check(&result).map_err(wrong)?;
                read.push(file.clone());
                sum.add(file, result).map_err(Failure::operation)?;
            }
        }
        Ok((read, sum))
    }

    /// The document in a file.
    ///
    /// # Errors
    /// That it cannot be read, or is no such document.
    pub(super) fn read_one<T: DeserializeOwned>(&self, file: &Path) -> Result<T, Failure> {
        let Text { format, text } = self.text(file)?;
        self.document(file, format, &text)
    }

    fn text(&self, file: &Path) -> Result<Text, Failure> {
        let text = text(file, LARGEST, self.what, "")?;
        let format = format_of(&text).map_err(|error| self.not_in(file, error))?;
        Ok(Text { format, text })
    }

    /// The document of which this is the text. It is made of that directly: values of any JSON
    /// would take many times the memory.
    fn document<T: DeserializeOwned>(
        &self,
        file: &Path,
        format: Option<String>,
        text: &str,
    ) -> Result<T, Failure> {
        let expected = self.format;
        let Some(found) = format else {
            let why = format!("found no format, expected {expected:?}");
            return Err(self.not_in(file, why));
        };
        if found != expected {
            let file = driver::shown(file);
            return Err(Failure(format!(
                "{file}: found format {found:?}, expected {expected:?}"
            )));
        }
        serde_json::from_str(text).map_err(|error| self.not_in(file, error))
    }

    /// That a file holds no such document.
    fn not_in(&self, file: &Path, why: impl fmt::Display) -> Failure {
        let (file, what) = (driver::shown(file), self.what);
        Failure(format!("{file}: not {what}: {why}"))
    }

    /// Whether this program writes such a format, for something else.
    fn is_other(&self, found: Option<&str>) -> bool {
        // A later version of the format is meant, and cannot be read.
        let kind = self
            .format
            .trim_end_matches(|char: char| char.is_ascii_digit());
        found.is_some_and(|found| found.starts_with("ubdlab ") && !found.starts_with(kind))
    }
}

/// The text of a file of at most `most` bytes, which is to hold `what`. With more of them the
/// message ends with `way_out`.
///
/// # Errors
/// Why it cannot be read.
pub(super) fn text(file: &Path, most: u64, what: &str, way_out: &str) -> Result<String, Failure> {
    let wrong = |why: String| Failure(format!("{}: {why}", driver::shown(file)));
    let opened = File::open(file)
        .map_err(|error| wrong(format!("opening: {}", driver::system_words(error))))?;
    let len = opened.metadata().map_or(0, |found| found.len());
    let mut text = String::new();
    // It is no more than a hint: a length says nothing of a pipe or a device.
    let _ = text.try_reserve_exact(usize::try_from(len.min(most)).unwrap_or(0));
    opened
        .take(most.saturating_add(1))
        .read_to_string(&mut text)
        .map_err(|error| wrong(format!("reading: {}", driver::system_words(error))))?;
    if text.len() as u64 > most {
        return Err(wrong(format!(
            "found more than {most} bytes, expected {what}, which has at most as many{way_out}"
        )));
    }
    Ok(text)
}

/// The format that a document says it has, of which this is the text.
///
/// # Errors
/// That it is no JSON.
pub(super) fn format_of(text: &str) -> Result<Option<String>, serde_json::Error> {
    match serde_json::from_str::<Head>(text) {
        Ok(Head { format }) => Ok(format),
        // It is JSON of another shape.
        Err(error) if error.is_data() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The regular files in a directory whose names end like those of documents, by name. Hidden ones
/// may be half written, and a FIFO has no end.
fn json_files_in(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: std::io::Error| {
        let cause = driver::system_words(error);
        Failure(format!("{}: reading: {cause}", driver::shown(directory)))
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        let path = entry.path();
        if name.ends_with(b".json") && !name.starts_with(b".") && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
