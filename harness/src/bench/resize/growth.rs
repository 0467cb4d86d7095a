//! What the ways to resize cost against the size of the device and against what is dirty on
//! it.

use driver::units::Bytes;

use super::case::MORE;
use super::image::{Layout, Names, Shape, remove};
use super::rebuild::{rebuild, resize_arguments};
use super::reflow::reflow;
use super::{BenchError, Settings, turns};
use crate::bench::programs::{cp, run, settle};
use crate::bench::{Growth, Order, Row, Unit};

const TURNS: usize = 3;

const GIB: u64 = 1 << 30;

/// Devices over three decades, all with this much dirty, within this much of them: so the
/// part of the bitmap that is not a hole is the same.
const DEVICES: [Bytes; 4] = [
    Bytes(GIB),
    Bytes(10 * GIB),
    Bytes(100 * GIB),
    Bytes(1000 * GIB),
];
const DIRTY: Bytes = Bytes(32 << 20);
const SPAN: Bytes = Bytes(GIB);

/// What is dirty over three decades, on a device of this size.
const DEVICE: Bytes = Bytes(16 * GIB);
const PARTS: [u64; 4] = [1000, 100, 10, 1];

/// One of the ways.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    /// How it is to grow with what is dirty. With the size of the device none is to.
    with_dirty: Order,
    /// The seconds that it takes.
    run: fn(Settings<'_>, &Names, Bytes) -> Result<f64, BenchError>,
}

const WAYS: [Way; 3] = [
    Way {
        name: "headroom",
        with_dirty: Order::Constant,
        run: |settings, names, size| {
            rebuild(settings, names, size)?;
            let mut size = size;
            let [seconds] = turns(settings, TURNS, || {
                size += MORE;
                let arguments = resize_arguments(names, size, "headroom");
                Ok([run(settings, settings.program, &arguments)?])
            })?;
            Ok(seconds)
        },
    },
    Way {
        name: "rebuild",
        with_dirty: Order::Linear,
        run: |settings, names, size| {
            let rebuilt = || Ok([rebuild(settings, names, size)?]);
            let [seconds] = turns(settings, TURNS, rebuilt)?;
            Ok(seconds)
        },
    },
    Way {
        name: "reflow",
        with_dirty: Order::Linear,
        run: |settings, names, size| {
            let [seconds] = turns(settings, TURNS, || {
                remove(&names.device)?;
                cp(settings, &names.kept, &names.device)?;
                settle(settings, &names.device);
                Ok([reflow(settings, &names.device, size)?.time])
            })?;
            Ok(seconds)
        },
    },
];

pub(super) fn measure(
    settings: Settings<'_>,
    each: &mut impl FnMut(Vec<Row>),
) -> Result<(), BenchError> {
    let devices = DEVICES.map(|size| {
        let label = format!("device of {size}");
        let layout = Layout::within(size, DIRTY, Shape::Extents, SPAN);
        (label, size.0 as f64, layout)
    });
    let constant = |_: Way| Order::Constant;
    grow(settings, "device size", &devices, constant, each)?;
    let dirty = PARTS.map(|part| {
        let dirty = Bytes(settings.dirty.0 / part);
        let layout = Layout::new(DEVICE, dirty, Shape::Extents);
        let label = format!("{} dirty", layout.dirty);
        (label, layout.dirty.0 as f64, layout)
    });
    grow(settings, "dirty bytes", &dirty, |way| way.with_dirty, each)
}

fn grow(
    settings: Settings<'_>,
    against: &str,
    points: &[(String, f64, Layout)],
    order: impl Fn(Way) -> Order,
    each: &mut impl FnMut(Vec<Row>),
) -> Result<(), BenchError> {
    let name = |way: &Way| format!("resize/growth/{} against {against}", way.name);
    let ways = WAYS.iter().filter(|way| settings.wanted(&name(way)));
    let mut growths: Vec<_> = ways
        .map(|way| (way, Growth::new(name(way), Unit::Milliseconds)))
        .collect();
    if growths.is_empty() {
        return Ok(());
    }
    let names = Names::within(settings.directory);
    for (label, at, layout) in points {
        names.clear()?;
        layout.make(settings, &names.kept, &names.backing)?;
        for (way, growth) in &mut growths {
            let seconds = (way.run)(settings, &names, layout.size + MORE)?;
            growth.point(label, *at, seconds * 1e3);
        }
    }
    names.clear()?;
    for (way, growth) in growths {
        each(growth.rows(order(*way)));
    }
    Ok(())
}
