//! `ubdlab bench resize`: the ways to resize a COW file, beside the programs that do as much
//! with as many bytes: `qemu-img resize`, `cp --sparse=always`, `uml_moo`. Everything that is
//! read is in the page cache, on both sides; both sides make their result equally durable; each
//! turn has fresh files, and the contenders take turns.

mod case;
mod growth;
mod headroom;
mod image;
mod live;
mod live_client;
mod merge;
mod mount;
mod rebuild;
mod reflow;
mod shared;

use std::path::Path;
use std::time::Duration;

use driver::device_spec::DeviceSpec;

use super::{BenchError, Row, Settings, median};
pub(super) use case::MORE;
use case::{Case, row_name};
use image::Names;
pub(super) use image::{Layout, Shape};

/// Measures all rows that are asked for; calls `each` when a few of them are there.
///
/// # Errors
/// If files cannot be made or used, or a program that is there fails.
pub fn measure(settings: Settings<'_>, mut each: impl FnMut(Vec<Row>)) -> Result<(), BenchError> {
    devices(settings, &mut each)?;
    shared::measure(settings, &mut each)?;
    merge::measure(settings, &mut each)?;
    growth::measure(settings, &mut each)
}

/// One device after another, with each shape of what is dirty on it, through all that is done to
/// it: the files are made once for all of it.
fn devices(settings: Settings<'_>, each: &mut impl FnMut(Vec<Row>)) -> Result<(), BenchError> {
    for size in case::SIZES {
        for shape in Shape::BOTH {
            let layout = Layout::new(size, settings.dirty, shape);
            let wanted = |what: &str| settings.wanted(&row_name(what, &layout));
            let all = [headroom::WHAT, rebuild::WHAT, reflow::WHAT, live::WHAT];
            if !all.into_iter().any(wanted) {
                continue;
            }
            let case = Case {
                settings,
                names: Names::within(settings.directory),
                layout,
            };
            case.names.clear()?;
            layout.make(settings, &case.names.kept, &case.names.backing)?;
            if wanted(rebuild::WHAT) {
                each(rebuild::measure(&case)?);
            }
            if wanted(headroom::WHAT) {
                each(headroom::measure(&case)?);
            }
            if wanted(reflow::WHAT) {
                each(reflow::measure(&case)?);
            }
            if wanted(live::WHAT) {
                each(live::measure(&case)?);
            }
            case.names.clear()?;
        }
    }
    Ok(())
}

/// Runs a turn several times; the median of each of the times that it gives, in seconds.
fn turns<const N: usize>(
    settings: Settings<'_>,
    count: usize,
    mut turn: impl FnMut() -> Result<[Duration; N], BenchError>,
) -> Result<[f64; N], BenchError> {
    let mut times = [const { Vec::new() }; N];
    for _ in 0..count {
        settings.check_stop()?;
        for (times, time) in times.iter_mut().zip(turn()?) {
            times.push(time.as_secs_f64());
        }
    }
    Ok(times.map(|times| median(&times)))
}

/// The device whose COW file is this.
fn specification(cow: &Path) -> DeviceSpec {
    DeviceSpec::of(cow)
}
