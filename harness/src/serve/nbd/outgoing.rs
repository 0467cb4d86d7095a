//! Replies that go out together: in one system call, and without copying their data.

use std::io::IoSlice;

/// Pieces of data that go out together; each comes after some bytes of its own. The system takes
/// twice as many and one.
const MOST_PIECES: usize = 256;

/// The most data that is kept to go out together, in bytes.
const MOST_DATA: usize = 512 << 10;

/// Messages in their order.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// All but data.
    pub(super) heads: Vec<u8>,
    /// Data, and where among the heads it comes.
    data: Vec<(usize, Vec<u8>)>,
    data_len: usize,
}

impl Outgoing {
    /// Data comes next.
    pub(super) fn push_data(&mut self, data: Vec<u8>) {
        self.data_len += data.len();
        self.data.push((self.heads.len(), data));
    }

    /// Whether it should go out before more comes.
    pub(super) fn is_full(&self) -> bool {
        self.data.len() >= MOST_PIECES || self.data_len >= MOST_DATA
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> usize {
        self.heads.len() + self.data_len
    }

    /// Its bytes, in order.
    pub(super) fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut slices = Vec::with_capacity(2 * self.data.len() + 1);
        let mut from = 0;
        for (at, data) in &self.data {
            slices.extend([&self.heads[from..*at], data].map(IoSlice::new));
            from = *at;
        }
        slices.push(IoSlice::new(&self.heads[from..]));
        slices
    }

    /// It has gone out.
    pub(super) fn clear(&mut self) {
        self.heads.clear();
        self.data.clear();
        self.data_len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_out_in_the_order_in_which_they_came() {
        let mut outgoing = Outgoing::default();
        let mut expected = Vec::new();
        for n in 0..=254_u8 {
            assert!(!outgoing.is_full());
            outgoing.heads.extend([n; 3]);
            expected.extend([n; 3]);
            for len in [usize::from(n), 1] {
                if n % 2 == 0 {
                    outgoing.push_data(vec![n; len]);
                    expected.extend(vec![n; len]);
                }
            }
        }
        assert!(outgoing.is_full());
        let sent: Vec<u8> = outgoing
            .slices()
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect();
        assert!(sent == expected);
        assert_eq!(outgoing.len(), expected.len());
        outgoing.clear();
        assert_eq!((outgoing.len(), outgoing.is_full()), (0, false));
        outgoing.push_data(vec![0; MOST_DATA]);
        assert!(outgoing.is_full());
    }
}
