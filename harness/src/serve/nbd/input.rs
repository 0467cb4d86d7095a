//! What a client sends, read ahead. There are many clients, and most of them say little: the buffer
//! is short until a client sends more at once than it holds.

use std::io::{self, BufRead, Read};

/// The most that is read from the socket at once.
pub(super) const READ_AHEAD: usize = 32 << 10;

/// The length of a buffer at first: several requests.
const AT_FIRST: usize = 512;

/// Reads ahead from `R`.
#[derive(Debug)]
pub(super) struct Input<R> {
    from: R,
    buffer: Vec<u8>,
    /// Where what was read and is not taken yet begins.
    start: usize,
    /// Where it ends.
    end: usize,
    /// The last read has filled the buffer: there may be more than it holds.
    was_full: bool,
}

impl<R: Read> Input<R> {
    pub(super) fn new(from: R) -> Input<R> {
        Input {
            from,
            buffer: vec![0; AT_FIRST],
            start: 0,
            end: 0,
            was_full: false,
        }
    }

    /// What was read and is not taken yet.
    pub(super) fn buffer(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Gives the memory of a long buffer back, if nothing is in it.
    pub(super) fn shorten(&mut self) {
        if self.buffer().is_empty() && self.buffer.len() > AT_FIRST {
            self.buffer = vec![0; AT_FIRST];
            (self.start, self.end) = (0, 0);
            self.was_full = false;
        }
    }

    /// Makes room for the next read, where nothing is in the buffer.
    fn make_room(&mut self) {
        (self.start, self.end) = (0, 0);
        if self.was_full && self.buffer.len() < READ_AHEAD {
            self.buffer = vec![0; (2 * self.buffer.len()).min(READ_AHEAD)];
        }
        self.was_full = false;
    }
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, data: &mut [u8]) -> io::Result<usize> {
        // What the buffer does not hold goes past it.
        if self.buffer().is_empty() && data.len() >= self.buffer.len() {
            return self.from.read(data);
        }
        let ahead = self.fill_buf()?;
        let count = ahead.len().min(data.len());
        data[..count].copy_from_slice(&ahead[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl<R: Read> BufRead for Input<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.make_room();
            self.end = self.from.read(&mut self.buffer)?;
            self.was_full = self.end == self.buffer.len();
        }
        Ok(self.buffer())
    }

    fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a request takes on the wire.
    const REQUEST: usize = 28;

    /// Sends a request at a time, for ever.
    struct Requests;

    impl Read for Requests {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            buffer[..REQUEST].fill(1);
            Ok(REQUEST)
        }
    }

    fn sent() -> Vec<u8> {
        (0..100_000u32).map(|n| (n % 251) as u8).collect()
    }

    #[test]
    fn what_is_taken_is_what_was_sent_however_it_is_taken() {
        let sent = sent();
        let mut input = Input::new(sent.as_slice());
        let mut taken = Vec::new();
        for len in [REQUEST, 4096, REQUEST, 100, 9000, REQUEST, 40_000, 1] {
            let mut data = vec![0; len];
            input.read_exact(&mut data).unwrap();
            taken.extend(data);
            assert_eq!(taken, sent[..taken.len()]);
            assert!(sent[taken.len()..].starts_with(input.buffer()));
        }
        input.read_to_end(&mut taken).unwrap();
        assert_eq!(taken, sent);
    }

    #[test]
    fn a_buffer_grows_with_what_comes_at_once_and_is_given_back() {
        let sent = sent();
        let mut input = Input::new(sent.as_slice());
        let mut lengths = Vec::new();
        loop {
            let len = input.fill_buf().unwrap().len();
            if len == 0 {
                break;
            }
            lengths.push(len);
            // One with something in it stays.
            input.shorten();
            assert_eq!(input.buffer().len(), len);
            input.consume(len);
        }
        assert_eq!(lengths[..3], [AT_FIRST, 2 * AT_FIRST, 4 * AT_FIRST]);
        assert_eq!(lengths.iter().max(), Some(&READ_AHEAD));
        assert_eq!(lengths.iter().sum::<usize>(), sent.len());
        assert_eq!(input.buffer.len(), READ_AHEAD);
        input.shorten();
        assert_eq!(input.buffer.len(), AT_FIRST);
    }

    #[test]
    fn one_request_at_a_time_needs_no_long_buffer() {
        let mut input = Input::new(Requests);
        for _ in 0..1000 {
            input.read_exact(&mut [0; REQUEST]).unwrap();
        }
        assert_eq!(input.buffer.len(), AT_FIRST);
    }
}
