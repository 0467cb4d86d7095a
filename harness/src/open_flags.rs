//! A flag that Linux's `open` takes, as the kernel has it.

use nix::fcntl::OFlag;

/// Linux's `O_DSYNC`. Not rustix's `OFlags::DSYNC`, which is `O_SYNC` on Linux (1.1.6): that has
/// one more bit, so that a file opened with `O_DSYNC` does not contain it.
pub(crate) const O_DSYNC: i32 = OFlag::O_DSYNC.bits();

/// Whether what is written through a file that was opened with these flags is durable when it is
/// answered. `O_SYNC` has the bit of `O_DSYNC` too.
pub(crate) fn is_durable(flags: i32) -> bool {
    flags & O_DSYNC != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_flags_make_writes_durable_and_no_other_does() {
        assert!(is_durable(OFlag::O_DSYNC.bits()));
        assert!(is_durable(OFlag::O_SYNC.bits()));
        let others = OFlag::O_DIRECT | OFlag::O_RDWR | OFlag::O_APPEND;
        assert!(!is_durable(others.bits()));
    }
}
