//! Documents of this command in files: their text, and what format they say they have.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::Failure;

/// The largest file that is read as a result or a checkpoint. Each has a few hundred findings at
/// most, of some kilobytes.
const LARGEST: u64 = 256 << 20;

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
pub(super) fn format(value: &Value) -> Option<&str> {
    value.get("format").and_then(Value::as_str)
}

/// The document in a file, which has to be of this format.
///
/// # Errors
/// Why it cannot be read, or is none.
pub(super) fn read<T: DeserializeOwned>(
    file: &Path,
    expected: &str,
    what: &str,
) -> Result<T, Failure> {
    of(file, json(file, what)?, expected, what)
}

/// The document that a file holds, which has to be of this format.
///
/// # Errors
/// That it is none.
pub(super) fn of<T: DeserializeOwned>(
    file: &Path,
    value: Value,
    expected: &str,
    what: &str,
) -> Result<T, Failure> {
    let wrong = |why: String| Failure(format!("{}: {why}", driver::shown(file)));
    match format(&value) {
        Some(found) if found == expected => {
            serde_json::from_value(value).map_err(|error| wrong(format!("not {what}: {error}")))
        }
        Some(found) => Err(wrong(format!(
            "found format {found:?}, expected {expected:?}"
        ))),
        None => Err(wrong(format!(
            "not {what}: found no format, expected {expected:?}"
        ))),
    }
}

/// What is in a file that is to hold `what`.
///
/// # Errors
/// Why it cannot be read, or is no JSON.
pub(super) fn json(file: &Path, what: &str) -> Result<Value, Failure> {
    let text = text(file, LARGEST, what)?;
    serde_json::from_str(&text)
        .map_err(|error| Failure(format!("{}: not {what}: {error}", driver::shown(file))))
}
