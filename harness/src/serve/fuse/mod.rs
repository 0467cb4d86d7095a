//! FUSE: the device as the file `disk` in a directory of its own, and `status.json` beside it.
//!
//! [`mount`] is the endpoint: it mounts the directory, and sees to it that the mount goes however
//! the program ends (`crate::mountpoint`). `files` answers the kernel: what is there, and what each
//! request means; `inodes` says what the kernel is told of the files. `requests` takes what the
//! device has to do from there to the device and back, `change` is a change on that way, `span`
//! says which sectors a range of bytes touches, and `turns` which change may begin when. `shared`
//! has what all threads need. `seek` finds data and holes, `document` keeps what `status.json`
//! says, and `errors` has the kernel's numbers for what can fail.
//!
//! The kernel keeps nothing of the content of `disk` (`FOPEN_DIRECT_IO`), nor its size for longer
//! than an answer takes: other clients change both. What a loop device over `disk` keeps, the loop
//! device keeps.
//!
//! # What does not begin or end with a sector
//!
//! A read is made as long as the sectors that it touches. A write, or a range of zeros, that begins
//! or ends within a sector reads that sector first and writes it whole. From before that is read
//! until the write is submitted, no other change that came through this endpoint and touches any of
//! its sectors begins. Such changes begin in the order in which they came.
//!
//! What another endpoint writes into the *same sector* in that time may be lost: the endpoints do
//! not keep each other out. Two clients that write one sector have to agree among themselves, as on
//! any disk that two machines share. Whole sectors need no such care.
//!
//! # What waits for what
//!
//! The threads that read requests from the kernel wait for nothing but room: for one of
//! `requests::MOST_IN_FLIGHT` requests, for a part of the memory of the export, and with a read,
//! for a place in the device's queue. A truncate has a thread of its own.
//!
//! The kernel itself lets nobody write, punch or sync a file while somebody truncates it. While a
//! truncate moves data, reads go on, and writes to `disk` wait until it has ended, also those of a
//! loop device. A resize over the control socket keeps no writes waiting.

mod change;
mod document;
mod errors;
mod files;
mod inodes;
pub mod mount;
mod requests;
mod seek;
mod shared;
mod span;
mod turns;

pub use mount::Fuse;
