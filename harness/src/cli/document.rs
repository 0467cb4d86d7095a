//! Results in files, as JSON documents that say which format they have.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Failure;

/// The largest file that is read as a result.
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

    /// What is in a file.
    fn value(&self, file: &Path) -> Result<Value, Failure> {
        let failed = |doing: &str, error: &std::io::Error| {
            let cause = driver::system_words(error);
            Failure(format!("{}: {doing}: {cause}", driver::shown(file)))
        };
        let opened = File::open(file).map_err(|error| failed("opening", &error))?;
        let mut bytes = Vec::new();
        // One byte more tells a longer one, whatever its length says.
        let read = opened.take(LARGEST + 1).read_to_end(&mut bytes);
        read.map_err(|error| failed("reading", &error))?;
        let (shown, what) = (driver::shown(file), self.what);
        if bytes.len() as u64 > LARGEST {
            return Err(Failure(format!(
                "{shown}: found more than {LARGEST} bytes, expected {what}, which is shorter"
            )));
        }
        serde_json::from_slice(&bytes)
            .map_err(|error| Failure(format!("{shown}: not {what}: {error}")))
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

/// The format that a document says it has.
fn format_of(value: &Value) -> Option<&str> {
    value.get("format").and_then(Value::as_str)
}

/// The files in a directory whose names end like those of documents, by name. Hidden ones may be
/// half written.
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
        if name.ends_with(b".json") && !name.starts_with(b".") {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}
