//! Times that nobody can have recorded of another content.
//!
//! A COW file knows its backing file by its time, in whole seconds. A changed backing file must
//! not get back a time that it has had before: some COW file may have recorded it. What is written
//! gets the host's time, so nothing is written in a second that the file's time has reached
//! already; that is waited for. Afterwards the file is given a time past the second of the last
//! write: somebody who takes no locks may have recorded that of the half-changed file.

use std::ops::ControlFlow;
use std::path::Path;

use driver::host::{HostError, HostFile, Metadata, OperationKind};
use driver::ordered::Ordered;
use driver::resize::ResizeError;
use driver::since_1970;
use driver::units::FileOffset;

use crate::image::{ChangeError, Wait, Watch};
use crate::image_host::ImageHost;

use super::{EXAMINING, backing, examine, image};

/// The longest wait, in seconds. Our own tools leave a time at most one second ahead; one that is
/// further ahead was set by somebody, and that may be years.
pub const LONGEST_WAIT: i64 = 10;

/// The longest wait of somebody who does not own the backing file, in seconds: without it there
/// is no way to change that file.
const LONGEST_WAIT_OF_STRANGER: i64 = 60;

/// The latest time that the backing file is known to have had, in seconds since 1970: its present
/// one, or what a change noted that was interrupted.
pub(super) fn latest<H: ImageHost>(
    host: &H,
    device: &Ordered<H::File>,
) -> Result<i64, ResizeError> {
    let now = examine(host, backing(device)?)?.modified_seconds;
    let change = image(device)?.extension.and_then(|it| it.change);
    let noted = change.and_then(|change| change.in_place);
    Ok(noted.map_or(now, |noted| now.max(noted.latest)))
}

/// Waits until the present second is past `latest`, unless that is too far ahead. A user who may
/// not give the file any time has to wait for its next one anyway, and does so before anything is
/// written.
///
/// # Errors
/// The host's; [`ChangeError::Interrupted`].
pub(super) fn wait_past<H: ImageHost>(
    host: &H,
    device: &Ordered<H::File>,
    latest: i64,
    watch: Watch<'_>,
) -> Result<(), ChangeError> {
    let longest = match host.may_give_times(backing(device)?) {
        true => LONGEST_WAIT,
        false => LONGEST_WAIT_OF_STRANGER,
    };
    wait(host, device, latest.saturating_add(1), longest, watch)
}

/// Waits until it is this time, unless that is more than `longest` seconds ahead.
fn wait<H: ImageHost>(
    host: &H,
    device: &Ordered<H::File>,
    until: i64,
    longest: i64,
    watch: Watch<'_>,
) -> Result<(), ChangeError> {
    let seconds = until.saturating_sub(host.now_seconds());
    if seconds <= 0 {
        return Ok(());
    }
    let too_long = seconds > longest;
    watch.waits(Wait {
        backing: image(device)?.header.backing_path(),
        seconds,
        too_long,
    });
    if too_long {
        return Ok(());
    }
    match host.wait_until(until, &mut || watch.goes_on()) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(ChangeError::Interrupted),
    }
}

/// A time past `latest` and not before the present second.
pub(super) fn after<H: ImageHost>(host: &H, latest: i64) -> i64 {
    host.now_seconds().max(latest.saturating_add(1))
}

/// Whether the backing file, which is at `path`, can be given the later times that a change needs:
/// one at its beginning, and a later one at its end.
///
/// # Errors
/// The host's; [`ResizeError::Refused`] if it cannot.
pub(super) fn check<H: ImageHost>(
    host: &H,
    device: &Ordered<H::File>,
    path: &Path,
) -> Result<(), ResizeError> {
    let last = after(host, latest(host, device)?).saturating_add(1);
    let holds = host.holds_time(path, last);
    let at = FileOffset(0);
    match holds.map_err(ResizeError::host(OperationKind::SetModified, EXAMINING, at))? {
        true => Ok(()),
        false => Err(no_later(examine(host, backing(device)?)?.modified_seconds)),
    }
}

fn no_later(seconds: i64) -> ResizeError {
    ResizeError::Refused(format!(
        "the backing file was modified at {seconds} {}, and its file system holds no later time; \
         others that are over it could not tell that it is changed. Give it an earlier time with \
         touch, and then: ubdlab image rebase --unsafe",
        since_1970(&[seconds])
    ))
}

/// Gives the backing file this time, durably; what it is then. A file system that cannot hold
/// such a time may keep another one.
///
/// # Errors
/// The host's; [`ResizeError::Refused`] if the time is not past `latest` afterwards;
/// [`ChangeError::Interrupted`].
pub(super) fn give<H: ImageHost>(
    host: &H,
    device: &Ordered<H::File>,
    seconds: i64,
    latest: i64,
    watch: Watch<'_>,
) -> Result<Metadata, ChangeError> {
    let file = backing(device)?;
    let no_later = || no_later(latest);
    // The end of all times, which somebody may have written into the block: nothing is touched.
    if seconds <= latest {
        return Err(no_later().into());
    }
    let mut given = host.set_modified(file, seconds);
    if given == Err(HostError::PermissionDenied) && host.now_seconds() < seconds {
        // A user who does not own the file can give it only the present time.
        wait(host, device, seconds, LONGEST_WAIT_OF_STRANGER, watch)?;
        given = host.set_modified(file, seconds);
    }
    let giving = |kind| {
        let doing = "giving the backing file a later time";
        ResizeError::host(kind, doing, FileOffset(0))
    };
    given.map_err(giving(OperationKind::SetModified))?;
    host.sync_all(file)
        .map_err(giving(OperationKind::SyncData))?;
    let metadata = examine(host, file)?;
    match metadata.modified_seconds > latest {
        true => Ok(metadata),
        false => Err(no_later().into()),
    }
}

/// Whether the backing file has this time.
pub(super) fn still_has<F: HostFile, H: ImageHost<File = F>>(
    host: &H,
    device: &Ordered<F>,
    seconds: i64,
) -> bool {
    let metadata = backing(device).and_then(|file| examine(host, file));
    metadata.is_ok_and(|metadata| metadata.modified_seconds == seconds)
}
