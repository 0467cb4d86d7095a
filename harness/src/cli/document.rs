//! Results in files, as JSON documents that say which format they have.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

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

impl Expected {
    /// The documents in these files, and of directories in all files `*.json` that are no other
    /// documents of this program; each with its file.
    ///
    /// # Errors
    /// What cannot be read, or is no such document.
    pub(super) fn read<T: DeserializeOwned>(
        &self,
        given: &[PathBuf],
    ) -> Result<Vec<(PathBuf, T)>, Failure> {
        let mut documents = Vec::new();
        for path in given {
            let in_directory = path.is_dir();
            let files = match in_directory {
                true => json_files_in(path)?,
                false => vec![path.clone()],
            };
            for file in files {
                let value = self.value(&file)?;
                if in_directory && self.is_other(&value) {
                    continue;
                }
                let document = self.document(&file, value)?;
                documents.push((file, document));
            }
        }
        Ok(documents)
    }

    /// The document in a file.
    ///
    /// # Errors
    /// That it cannot be read, or is no such document.
    pub(super) fn read_one<T: DeserializeOwned>(&self, file: &Path) -> Result<T, Failure> {
        self.document(file, self.value(file)?)
    }

    /// What is in a file.
    fn value(&self, file: &Path) -> Result<Value, Failure> {
        let text = text(file, LARGEST, self.what)?;
        let what = self.what;
        serde_json::from_str(&text)
            .map_err(|error| Failure(format!("{}: not {what}: {error}", driver::shown(file))))
    }

    /// Whether this program has written it, and as something else.
    fn is_other(&self, value: &Value) -> bool {
        let Some(found) = format_of(value) else {
            return false;
        };
        // A later version of the format is meant, and cannot be read.
        let kind = self
            .format
            .trim_end_matches(|char: char| char.is_ascii_digit());
        found.starts_with("ubdlab ") && !found.starts_with(kind)
    }

    fn document<T: DeserializeOwned>(&self, file: &Path, value: Value) -> Result<T, Failure> {
        let Expected { format, what } = self;
        let wrong = |why: String| Failure(format!("{}: {why}", driver::shown(file)));
        match format_of(&value) {
            Some(found) if found == *format => {}
            Some(found) => {
                return Err(wrong(format!(
                    "found format {found:?}, expected {format:?}"
                )));
            }
            None => {
                return Err(wrong(format!(
                    "not {what}: found no format, expected {format:?}"
                )));
            }
        }
        serde_json::from_value(value).map_err(|error| wrong(format!("not {what}: {error}")))
    }
}

/// The text of a file of at most `most` bytes, which is to hold `what`.
///
/// # Errors
/// Why it cannot be read.
pub(super) fn text(file: &Path, most: u64, what: &str) -> Result<String, Failure> {
    let wrong = |why: String| Failure(format!("{}: {why}", driver::shown(file)));
    let opened = File::open(file)
        .map_err(|error| wrong(format!("opening: {}", driver::system_words(error))))?;
    let mut text = String::new();
    // A length says nothing of a pipe or a device.
    opened
        .take(most + 1)
        .read_to_string(&mut text)
        .map_err(|error| wrong(format!("reading: {}", driver::system_words(error))))?;
    if text.len() as u64 > most {
        return Err(wrong(format!(
            "found more than {most} bytes, expected {what}, which has at most as many"
        )));
    }
    Ok(text)
}

/// The format that a document says it has.
pub(super) fn format_of(value: &Value) -> Option<&str> {
    value.get("format").and_then(Value::as_str)
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
