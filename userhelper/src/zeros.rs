//! Zeros, as which holes are read.

/// Whether there is nothing but zeros, so that it may have been a hole.
pub(crate) fn is_zero(data: &[u8]) -> bool {
    let (words, rest) = data.as_chunks::<64>();
    words.iter().all(|word| *word == [0; 64]) && rest.iter().all(|&byte| byte == 0)
}
