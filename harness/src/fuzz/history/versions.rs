//! The versions of one sector, in the order of submission, and what is known of each.

use driver::units::Sector;

use super::held::Held;

/// A moment that has not come, or is not known.
pub(super) const NEVER: u64 = u64::MAX;

/// What a request makes, or has made, of the sector.
#[derive(Clone, Copy, Debug)]
pub(super) struct Version {
    pub(super) held: Held,
    /// Also its place in the order.
    pub(super) submitted: u64,
    /// When its request ended; [`NEVER`] while that is in flight.
    pub(super) ended: u64,
    /// When it had taken effect at the latest; [`NEVER`] if it is not known whether it has.
    pub(super) in_effect: u64,
    /// Acknowledged is as good as in effect. Not so for a discard.
    pub(super) is_write: bool,
    /// It was seen not to have taken effect.
    pub(super) absent: bool,
    /// A later version is durable: a crash does not show it.
    pub(super) overwritten: bool,
}

impl Version {
    /// What was there before everything.
    pub(super) fn durable(held: Held) -> Version {
        Version {
            held,
            submitted: 0,
            ended: 0,
            in_effect: 0,
            is_write: true,
            absent: false,
            overwritten: false,
        }
    }
}

/// The place in the order of the latest version known to be in effect before `moment`.
fn floor(versions: &[Version], moment: u64) -> u64 {
    let before = versions.iter().filter(|v| v.in_effect < moment);
    before.map(|v| v.submitted).max().unwrap_or(0)
}

/// Whether a read submitted at `moment` that ends now may show `version`.
pub(super) fn is_readable(versions: &[Version], version: &Version, moment: u64) -> bool {
    !version.absent && version.submitted >= floor(versions, moment)
}

/// Takes note of what a read submitted at `moment` shows as it ends now. Whether it may.
pub(super) fn show(
    versions: &mut [Version],
    sector: Sector,
    content: &[u8],
    moment: u64,
    now: u64,
) -> bool {
    if let [only] = versions {
        return only.held.is_in(sector, content);
    }
    let floor = floor(versions, moment);
    let is_shown = |v: &Version| !v.absent && v.submitted >= floor && v.held.is_in(sector, content);
    // In the order of submission: the earliest that it can be, and the latest.
    let Some(first) = versions.iter().position(is_shown) else {
        return false;
    };
    let last = versions.iter().rposition(is_shown).unwrap_or(first);
    let shown = versions[first..=last].iter().filter(|v| is_shown(v));
    // If it can be any of several, one of them is in effect once all their requests have ended.
    let all_ended = shown.map(|v| v.ended).max().unwrap_or(NEVER);
    let since = match first == last {
        true => all_ended.min(now),
        false => all_ended,
    };
    versions[first].in_effect = versions[first].in_effect.min(since);
    for later in &mut versions[last + 1..] {
        later.absent |= later.ended < moment;
    }
    true
}

/// What was in effect when the flush was submitted at `flushed` is durable.
pub(super) fn make_durable(versions: &mut [Version], flushed: u64) {
    let covered = |v: &&Version| v.ended < flushed && v.in_effect < flushed;
    let latest = versions.iter().filter(covered).map(|v| v.submitted).max();
    if let Some(latest) = latest {
        overwrite(versions, latest);
    }
}

/// The version submitted then is durable.
pub(super) fn overwrite(versions: &mut [Version], by: u64) {
    for version in versions.iter_mut().filter(|v| v.submitted < by) {
        version.overwritten = true;
    }
}

/// Drops what neither a crash nor a read submitted at `reader` or later can show.
pub(super) fn forget(versions: &mut Vec<Version>, reader: u64) {
    let floor = floor(versions, reader);
    versions.retain(|v| !v.overwritten || !v.absent && v.submitted >= floor);
}
