//! Carrying a device's host operations out on real files, many at a time.
//!
//! [`Threads`] has a pool of threads that wait in system calls, and works everywhere. [`Uring`]
//! gives many operations to the kernel in one call and waits for whichever ends first, with a
//! thread beside it for the few kinds that are not asked for so; many containers do not allow that.
//! Short writes, which only copy into the page cache, it carries out at once.

mod aside;
mod at_once;
mod threads;
mod uring;

pub use threads::Threads;
pub use uring::{NoUring, Uring};
