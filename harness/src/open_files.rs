//! How many files this process may have open at a time.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Whether this process may have that number of files open. It raises its own limit to that if it
/// may, and no further: what it starts has the same limit, and some programs go through all numbers
/// below it.
pub fn may_open(files: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    let suffices = |limit: Option<u64>| limit.is_none_or(|limit| limit >= files);
    if suffices(limit.current) {
        return true;
    }
    let raised = Rlimit {
        current: match suffices(limit.maximum) {
            true => Some(files),
            false => limit.maximum,
        },
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).is_ok() && suffices(limit.maximum)
}
