//! `ubdlab bench serve`: a device that is served, beside other programs that serve one with a
//! copy-on-write layer over the same backing file: qemu's and nbdkit's. The client is the same for
//! all, fio, and each server is a process of its own. They take turns, with the same requests in
//! the same order.

mod contender;
mod files;
mod fio;
mod guest_disk;
mod idle;
mod lab;
mod loop_device;
mod nbd;
mod server;
mod turns;
mod waits;

use super::{BenchError, Row, Settings};
use lab::Lab;

/// Measures all rows that are asked for; calls `each` when a few of them are there.
///
/// # Errors
/// If files cannot be made or used, or the device's own server fails.
pub fn measure(settings: Settings<'_>, mut each: impl FnMut(Vec<Row>)) -> Result<(), BenchError> {
    let in_lab = [
        nbd::is_wanted,
        loop_device::is_wanted,
        guest_disk::is_wanted,
    ];
    if in_lab.iter().any(|is_wanted| is_wanted(settings)) {
        let mut lab = Lab::make(settings)?;
        nbd::measure(&mut lab, &mut each)?;
        loop_device::measure(&mut lab, &mut each)?;
        guest_disk::measure(&mut lab, &mut each)?;
    }
    idle::measure(settings, &mut each)?;
    waits::measure(settings, &mut each)
}
