//! The files of a case on the simulated host.

/// The COW file of every case.
pub const COW: &str = "/disk/cow";
/// The backing file of every case.
pub const BACKING: &str = "/disk/backing";
/// A copy of the backing file under another name: a life may open the device with it.
pub const OTHER_BACKING: &str = "/disk/backing2";
/// One with other contents and the same size, where a case rebases.
pub const THIRD_BACKING: &str = "/disk/backing3";
/// A shorter one with other contents, where a case rebases to a file far away: its path is so long
/// that it goes over the end of the header's first sector.
pub const FAR_BACKING: &str = "/disk/far/\
    0123456789abcdef0123456789abcdef0123456789abcdef/\
    0123456789abcdef0123456789abcdef0123456789abcdef/\
    0123456789abcdef0123456789abcdef0123456789abcdef/\
    0123456789abcdef0123456789abcdef0123456789abcdef/\
    0123456789abcdef0123456789abcdef0123456789abcdef/\
    0123456789abcdef0123456789abcdef0123456789abcdef/\
    0123456789abcdef0123456789abcdef0123456789abcdef/\
    0123456789abcdef0123456789abcdef0123456789abcdef/\
    0123456789abcdef0123456789abcdef0123456789abcdef/\
    0123456789abcdef0123456789abcdef0123456789abcdef/\
    0123456789abcdef0123456789abcdef0123456789abcdef/\
    0123456789abcdef0123456789abcdef0123456789abcdef/\
    backing4";
/// When it was modified last.
pub const BACKING_SECONDS: i64 = 1_000_000_000;
