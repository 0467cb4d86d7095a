//! In what state an image is, and what its owner does next: what stock UML says to it, and what an
//! interruption has left.

use std::path::Path;

use driver::size::format_size;
use driver::{shell_path, shown};
use userhelper::image::ImageError;
use userhelper::image::info::{BackingState, Info, info};
use userhelper::image::open::{Format, Trust};
use userhelper::image::resize::{BackingFacts, StockVerdict, stock_verdict};
use userhelper::real_files::RealHost;

use super::super::Failure;

/// What stock UML does with the image. It is the rest of a sentence that begins with "stock UML".
pub(super) fn stock_uml(info: &Info) -> String {
    if info.resize_in_progress.is_some() {
        return "refuses it: a resize is in progress".into();
    }
    let is_other = matches!(
        info.backing,
        BackingState::Differs(_) | BackingState::Missing(_)
    );
    if is_other {
        return "refuses it: its backing file is not the one that the file was made for".into();
    }
    let modified = info.backing_modified.map(|seconds| seconds as u32);
    let time = info.header.backing_mtime;
    if info.is_changing_backing() && modified.is_some_and(|modified| modified != time) {
        return "refuses it: a change of its backing file was interrupted, and the header has \
                another time than that file"
            .into();
    }
    let is_known = matches!(info.backing, BackingState::Matches);
    match verdict(info) {
        // What nobody has looked at is not vouched for.
        StockVerdict::Accepts if !is_known => {
            "takes it if its backing file is the right one".into()
        }
        verdict => verdict.to_string(),
    }
}

/// What stock UML says to the header and the length of an image whose backing file is as it was,
/// but for its time.
pub(super) fn verdict(info: &Info) -> StockVerdict {
    let backing = BackingFacts {
        len: info.backing_size,
        // What it is where nobody looked.
        modified_seconds: info
            .backing_modified
            .unwrap_or(info.header.backing_mtime.into()),
    };
    stock_verdict(&info.geometry, backing)
}

/// What is left to be done for stock UML, of an image that is larger than its backing file.
fn to_be_extended(path: &Path, verdict: StockVerdict) -> Option<String> {
    match verdict {
        StockVerdict::RefusesSize { size, backing } if size > backing => {
            let size = format_size(size);
            Some(format!(
                "ubdlab image resize {} {size} --extend-backing makes the backing file as large",
                shell_path(path)
            ))
        }
        _ => None,
    }
}

/// What `recover` says at its end of an image that was resized, as `resize` does at its own.
pub(super) fn after_recovery(path: &Path, trust: Trust) -> Vec<String> {
    let Ok(info) = info(&RealHost, path, trust) else {
        return Vec::new();
    };
    let next = to_be_extended(path, verdict(&info));
    [format!("stock UML {}", stock_uml(&info))]
        .into_iter()
        .chain(next)
        .collect()
}

/// What was interrupted and what ends that, if anything was.
/// Of a file that nobody has said is a COW file, what ends it is named with a condition: a guest
/// may have written that something was interrupted, and where the backing file is.
pub(super) fn interrupted(path: &Path, info: &Info, format: Format) -> Option<String> {
    let trusted = match format {
        Format::Guess => ", if it is a COW file that you trust,",
        Format::Raw | Format::Cow => "",
    };
    let recover = format!("ubdlab image recover {}{trusted}", shell_path(path));
    match info.resize_in_progress {
        Some(size) => Some(format!("a resize to {size}: {recover} finishes it")),
        None if info.is_changing_backing() => Some(format!(
            "a change of the backing file: {recover} ends it, or give the command again"
        )),
        None => None,
    }
}

/// What to say of a tool that was stopped: which state it has left the image in. `before` is the
/// rest of a sentence that is true where nothing in the image is half done.
pub(super) fn explain(error: ImageError, path: &Path, trust: Trust, before: &str) -> Failure {
    match error {
        ImageError::Interrupted => {
            let left = info(&RealHost, path, trust).ok();
            let left = left.and_then(|info| interrupted(path, &info, Format::Cow));
            let left = match left {
                Some(left) => format!("half done is {left}"),
                None => before.to_owned(),
            };
            Failure(format!(
                "{}: interrupted: nothing is lost; {left}",
                shown(path)
            ))
        }
        error @ ImageError::Host { .. } => failed(error, path, trust),
        error => error.into(),
    }
}

/// What to say of a tool that the host has failed. Where a change of the backing file is left half
/// done, it also says that nothing is lost, and what ends it.
fn failed(error: ImageError, path: &Path, trust: Trust) -> Failure {
    let Failure(error) = error.into();
    let left = info(&RealHost, path, trust).ok();
    match left.filter(Info::is_changing_backing) {
        None => Failure(error),
        Some(info) => {
            let (stock, recover) = (stock_uml(&info), shell_path(path));
            Failure(format!(
                "{error}; nothing is lost. Half done is a change of the backing file: give the \
                 command again, or end the change with `ubdlab image recover {recover}`; until \
                 then stock UML {stock}"
            ))
        }
    }
}
