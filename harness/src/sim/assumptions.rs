//! What the simulated host takes for granted about the machine underneath, in one
//! place. Every promise of the driver holds under the default; each assumption can
//! be weakened, to see which promise rests on it.
//!
//! Assumed without an option:
//! - A successful [`sync_data`](driver::host::HostFile::sync_data) makes the
//!   content and the length of its file durable, and no name.
//! - Of two unsynced changes of the same bytes that both survive, the later wins:
//!   the page cache holds one version of a page, and an older one can only have
//!   reached the disk before it.
//! - Unsynced changes of different files, and of files and names, are not ordered at
//!   all. In particular a rename may survive without the content of the file that it
//!   names: the bug of those who do not sync before they rename.
//! - A write that is cut short damages nothing outside its own range, and what is
//!   durable does not decay.
//! - After a failed sync, what it should have made durable is never tried again: Linux
//!   marks the pages clean. It may or may not be on the disk.
//! - A failed sync of a directory leaves its changes unsynced, and a later one that
//!   succeeds makes them durable: no journal drops a transaction and commits the next.
//! - A kill in the middle of a write leaves in the page cache what lies before some point of it,
//!   and nothing of what lies after. Other operations it does not cut short.
//! - A file's owner and mode are not subject to crashes.
//!
//! Not assumed, and so without an option: that a write under way is carried out whole when the
//! process is killed, and that an operation which reports an error has had no effect.
//! [`Fault::InPart`](super::Fault::InPart) does a part of it, and
//! [`Fault::IoAfter`](super::Fault::IoAfter) all of it. No promise of `ordered` rests on the
//! contrary. Promises do rest on where a kill can cut a write
//! ([`Assumptions::kill_unit`]), and on when an operation that has reported an error
//! has its effect ([`Assumptions::errors_are_final`]).

use serde::{Deserialize, Serialize};

use super::page::PAGE_SIZE;

/// The assumptions that have an option. [`Assumptions::default`] is what
/// `docs/format.md` asks of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Assumptions {
    /// The bytes, aligned to their own number, that a power cut leaves either wholly
    /// old or wholly new. By default 512, a sector. Weakened: 8, or 1, lets a sector
    /// tear; 4096 is the strengthening that a modern disk grants.
    /// 0 is taken as 1.
    pub atomic_unit: u64,
    /// The unsynced changes of the names in one directory survive in order: some
    /// first ones and none after them, as a journal replays them. Weakened: any
    /// subset of them survives.
    pub ordered_names: bool,
    /// A change of a file's length survives or does not. Weakened: of a cut, the length
    /// may survive without the removal of the content past it, which comes back
    /// when the file grows again; or the removal without the length. The shrink of a raw disk
    /// rests on this, which has nothing but its length to commit with.
    pub atomic_set_len: bool,
    /// A write past the end of the file lengthens it only as far as its sectors
    /// survive. Weakened: the new length may survive without them, showing zeros.
    pub length_follows_data: bool,
    /// A sync that reports success has made its data durable. Weakened: no sync
    /// does, as on a disk that acknowledges a flush and ignores it. (Single lies are
    /// [`Fault::LyingSync`](super::Fault::LyingSync).)
    pub sync_persists: bool,
    /// After a failed sync the host is started anew, or has got everything to the disk, before the
    /// file is opened again. Weakened: only the process ends. What the sync has given up stays
    /// in the page cache and counts as clean: whoever opens the file reads it, and no sync makes
    /// it durable. Promise 2 of `ordered` rests on this: a flush after such an opening is
    /// acknowledged, and a power cut takes what was read before it.
    #[serde(skip_serializing_if = "is_true")]
    pub restart_after_failed_sync: bool,
    /// What a failed sync has given up stays visible until the host is started anew. Weakened: it
    /// is gone at once, and what was durable before shows again, as on btrfs. Promise 1 rests
    /// on this: a read may go back to what was there before an acknowledged write.
    #[serde(skip_serializing_if = "is_true")]
    pub failed_sync_keeps_content: bool,
    /// The bytes, aligned to their own number, of which a write that a kill cuts short has done all
    /// or nothing. By default 4096, a page of the file: the kernel goes from page to page. Weakened
    /// to 512 nothing is lost; to 8 a sector is neither the old one nor the new one. That data
    /// comes by whole sectors, and a resize in place by one of the header, rests on sectors here
    /// as it does on [`Assumptions::atomic_unit`] where the power goes. 0 is taken as 1.
    #[serde(skip_serializing_if = "is_a_page")]
    pub kill_unit: u64,
    /// An operation that has reported an error has had all the effect that it will have. Weakened:
    /// of a write that suffers [`Fault::IoAfter`](super::Fault::IoAfter), the file sees nothing
    /// before the next change of it, and has it after that, as over a network where a request was
    /// given up and is still on its way. Promise 1 rests on this, and promise 2: such a write goes
    /// over one that was acknowledged, or flushed, after it had failed.
    #[serde(skip_serializing_if = "is_true")]
    pub errors_are_final: bool,
    /// A file's time of last modification is what it was made last, at once and for good:
    /// there is no clock. Weakened: every change of its content or length makes it the next
    /// tick of one, [`sync_data`](driver::host::HostFile::sync_data) may leave it out as
    /// fdatasync does, and a power cut leaves the one of the last
    /// [`sync_all`](userhelper::image_host::ImageHost::sync_all) or any that came later.
    #[serde(skip_serializing_if = "is_true")]
    pub steady_times: bool,
    /// Of a host whose times are not steady: its clock moves only when somebody waits for it, so
    /// that everything else happens within one second, and a file can be given a time ahead of
    /// it. By default every change is a second of its own.
    #[serde(skip_serializing_if = "is_false")]
    pub slow_clock: bool,
    /// Files can share extents, in whole pages, as on XFS or btrfs. By default they cannot, and
    /// what would be shared is copied.
    #[serde(skip_serializing_if = "is_false")]
    pub shares_extents: bool,
    /// Zeroing a range is not supported, as on file systems without extents: whoever wants zeros
    /// there writes them.
    #[serde(skip_serializing_if = "is_false")]
    pub no_zero_range: bool,
    /// The host tells holes from data. Weakened: from any position on, all of a file is data up to
    /// its end, as on network file systems without SEEK_DATA; the space that a file takes still
    /// is known.
    #[serde(skip_serializing_if = "is_true")]
    pub tells_holes: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_true(assumption: &bool) -> bool {
    *assumption
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(assumption: &bool) -> bool {
    !*assumption
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_a_page(unit: &u64) -> bool {
    *unit == PAGE_SIZE
}

impl Assumptions {
    /// The atomic unit; never 0, whatever was written in a file.
    pub(crate) fn unit(&self) -> u64 {
        self.atomic_unit.max(1)
    }

    /// The unit of a kill; never 0, whatever was written in a file.
    pub(crate) fn unit_of_a_kill(&self) -> u64 {
        self.kill_unit.max(1)
    }
}

impl Default for Assumptions {
    fn default() -> Self {
        Self {
            atomic_unit: driver::units::SECTOR_SIZE,
            ordered_names: true,
            atomic_set_len: true,
            length_follows_data: true,
            sync_persists: true,
            restart_after_failed_sync: true,
            failed_sync_keeps_content: true,
            kill_unit: PAGE_SIZE,
            errors_are_final: true,
            steady_times: true,
            slow_clock: false,
            shares_extents: false,
            no_zero_range: false,
            tells_holes: true,
        }
    }
}
