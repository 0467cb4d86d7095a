//! The sockets that whoever started the program has opened for it: `LISTEN_FDS` says how many, from
//! descriptor 3 on, and `LISTEN_PID` for whom.

use std::sync::OnceLock;

/// Says how many there are.
const COUNT: &str = "LISTEN_FDS";

/// The first descriptor that is handed over.
pub(super) const FIRST: usize = 3;

/// The most descriptors that are taken.
const MOST: usize = 64;

/// Of the descriptors from the first on, those that were open when the program began.
static OPEN: OnceLock<usize> = OnceLock::new();

/// Looks which descriptors the program was started with. What it opens before this would be taken
/// for a socket that was handed over.
pub fn note() {
    if std::env::var_os(COUNT).is_none() {
        return;
    }
    let is_open = |number: &usize| {
        let name = format!("/proc/self/fd/{number}");
        std::fs::symlink_metadata(name).is_ok()
    };
    let open = (FIRST..FIRST + MOST).take_while(is_open).count();
    // It is noted once.
    let _ = OPEN.set(open);
}

/// How many descriptors were handed over; zero where nothing says so.
///
/// # Errors
/// If there cannot be as many.
pub(super) fn count() -> Result<usize, String> {
    let asked = std::env::var_os(COUNT);
    let (Some(asked), true) = (asked, std::env::var_os("LISTEN_PID").is_some()) else {
        return Ok(0);
    };
    let asked = asked.to_string_lossy();
    let count = asked.parse().ok().filter(|count| *count <= MOST);
    let count = count.ok_or_else(|| {
        format!("found {COUNT}={asked}, expected the number of sockets, at most {MOST}")
    })?;
    let open = OPEN.get().copied().unwrap_or(0);
    match count <= open {
        true => Ok(count),
        false => Err(format!(
            "found that descriptor {} is closed, expected {COUNT}={count} sockets from \
             descriptor {FIRST} on",
            FIRST + open
        )),
    }
}
