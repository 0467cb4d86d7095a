//! The resize that moves nothing, beside that of a qcow2 file. Both are processes from their
//! start to their end.

use std::ffi::OsString;
use std::path::Path;

use super::case::{Case, MORE};
use super::image::remove;
use super::rebuild::{rebuild, resize_arguments};
use super::{BenchError, turns};
use crate::bench::programs::{missing, run, settle};
use crate::bench::{Row, Unit};

pub(super) const WHAT: &str = "headroom";

const TURNS: usize = 9;

pub(super) fn measure(case: &Case<'_>) -> Result<Vec<Row>, BenchError> {
    let names = &case.names;
    let name = case.name(WHAT);
    // A rebuilt device has the room that is wanted here.
    rebuild(case.settings, names, case.new_size())?;
    remove(&names.other)?;
    let peer = missing(&["qemu-img"]);
    let qemu_img = |words: &[&str]| {
        let mut words: Vec<OsString> = words.iter().map(OsString::from).collect();
        words.insert(1, names.other.clone().into());
        words.insert(1, "-q".into());
        run(case.settings, Path::new("qemu-img"), &words)
    };
    if peer.is_none() {
        let size = case.new_size().0.to_string();
        qemu_img(&["create", &size, "-f", "qcow2"])?;
    }
    settle(case.settings, &names.device);
    let mut size = case.new_size();
    let [ours, theirs] = turns(case.settings, TURNS, || {
        size += MORE;
        let arguments = resize_arguments(names, size, "headroom");
        let ours = run(case.settings, case.settings.program, &arguments)?;
        let theirs = match peer {
            None => qemu_img(&["resize", &size.0.to_string()])?,
            Some(_) => ours,
        };
        Ok([ours, theirs])
    })?;
    remove(&names.other)?;
    let row = Row::new(name, ours * 1e3, Unit::Milliseconds);
    Ok(vec![match peer {
        None => row
            .against("qemu-img resize, qcow2", theirs * 1e3)
            .target(1.0),
        Some(needs) => Row {
            baseline: Some(format!("qemu-img resize, qcow2: skipped, needs {needs}")),
            ..row
        },
    }])
}
