//! A buffer for one block.

/// What the address of a buffer is a multiple of, so that direct I/O takes it. The buffers of the
/// driver that is measured lie no better.
const ALIGNMENT: usize = 512;

#[derive(Debug)]
pub(crate) struct Block {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Block {
    /// A buffer of `len` bytes.
    pub(crate) fn new(len: usize) -> Block {
        let memory = vec![0; len + ALIGNMENT];
        let address = memory.as_ptr().addr();
        let start = address.next_multiple_of(ALIGNMENT) - address;
        Block { memory, start, len }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..][..self.len]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..self.len]
    }

    /// The first byte; 0 of an empty block.
    pub(crate) fn first(&self) -> u64 {
        self.bytes().first().copied().unwrap_or_default().into()
    }
}
