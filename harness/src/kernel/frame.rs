//! Messages between the laboratory and its guest: JSON in frames, over a serial line of UML's.
//!
//! UML prints to the same descriptor before its guest speaks. So a frame begins with a mark, and
//! what comes before one is passed over.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a frame begins with.
const MARK: &[u8] = b"\x02ubdlab ";

/// The digits of a frame's length, and a byte after them.
const LENGTH: usize = 8 + 1;

/// The longest message, in bytes.
const LONGEST: usize = 32 << 20;

/// A frame that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("a message of the guest: {0}")]
pub struct BadFrame(String);

/// A message in its frame.
///
/// # Errors
/// If it cannot be written as JSON.
pub(super) fn framed(message: &impl Serialize) -> Result<Vec<u8>, BadFrame> {
    let text = serde_json::to_vec(message).map_err(|error| BadFrame(error.to_string()))?;
    let mut frame = MARK.to_vec();
    frame.extend(format!("{:08x}\n", text.len()).bytes());
    frame.extend(text);
    Ok(frame)
}

/// What has come of frames.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    /// More has come.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// The next message, if all of it has come.
    ///
    /// # Errors
    /// If it is none.
    pub(super) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, BadFrame> {
        let mark = self.bytes.windows(MARK.len()).position(|at| at == MARK);
        let Some(mark) = mark else {
            // It may have come in part.
            let passed = self.bytes.len().saturating_sub(MARK.len() - 1);
            self.bytes.drain(..passed);
            return Ok(None);
        };
        self.bytes.drain(..mark);
        let begin = MARK.len() + LENGTH;
        let Some(digits) = self.bytes.get(MARK.len()..begin - 1) else {
            return Ok(None);
        };
        let digits = String::from_utf8_lossy(digits).into_owned();
        let len = usize::from_str_radix(&digits, 16)
            .ok()
            .filter(|len| *len <= LONGEST);
        let len = len.ok_or_else(|| {
            BadFrame(format!(
                "found length {digits:?}, expected at most {LONGEST:08x}"
            ))
        })?;
        let Some(text) = self.bytes.get(begin..begin + len) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(text);
        self.bytes.drain(..begin + len);
        message
            .map(Some)
            .map_err(|error| BadFrame(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_whole_however_their_bytes_come_and_whatever_is_printed_before() {
        let messages = ["", "first", "\u{2}ubdlab 00000003\nabc"];
        let mut bytes = b"Checking that ptrace works...OK\r\n\x02ubd".to_vec();
        for message in messages {
            bytes.extend(framed(&message).unwrap());
        }
        for step in [1, 2, 7, bytes.len()] {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for part in bytes.chunks(step) {
                frames.add(part);
                while let Some(message) = frames.next::<String>().unwrap() {
                    found.push(message);
                }
            }
            assert_eq!(found, messages, "{step} bytes at a time");
        }
    }

    #[test]
    fn a_length_that_no_message_has_is_an_error() {
        let mut frames = Frames::default();
        frames.add(b"\x02ubdlab ffffffff\n");
        let error = frames.next::<String>().unwrap_err().to_string();
        assert_eq!(
            error,
            "a message of the guest: found length \"ffffffff\", expected at most 02000000"
        );
    }
}
