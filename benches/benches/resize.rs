//! Resizes of an image in memory, where all of the time is the relocation's and copies.
//! `ubdlab bench resize` has files and other programs beside it.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};
use driver::blk::{Request, Tag};
use driver::driver::Driver;
use driver::memory::MemoryHost;
use driver::open::create;
use driver::resize::Strategy;
use driver::units::{Bytes, Sector};
use userhelper::image::open::Trust;
use userhelper::image::resize::{carry_out, open_for_resize, plan_resize};
use userhelper::planner::{Shrink, Wish};

const SIZE: Bytes = Bytes(64 << 20);
const NEW_SIZE: Bytes = Bytes(128 << 20);

/// Dirty extents of 4 KiB, each with a gap of the same length after it.
const EXTENTS: u64 = 4096;

/// A COW file, `cow`, laid out like this.
fn image(alignment: u32) -> MemoryHost {
    let (host, cow) = (MemoryHost::new(), Path::new("cow"));
    host.file("disk", &vec![0x11; SIZE.0 as usize]);
    create(&host, cow, Path::new("disk"), Some(alignment)).expect("there is none yet");
    let opened = open_for_resize(&host, cow, Trust::default(), false);
    let mut device = opened.expect("it was just created").device;
    for extent in 0..EXTENTS {
        let request = Request::write(Tag(0), Sector(extent * 16), vec![0x22; 4096]);
        device.serve(request).expect("nothing else is queued");
    }
    device.close().expect("memory does not fail");
    host
}

fn resize(host: &MemoryHost, strategy: Strategy) {
    let opened = open_for_resize(host, Path::new("cow"), Trust::default(), false);
    let mut cow = opened.expect("nobody has it open");
    let wish = Wish {
        new_size: NEW_SIZE,
        strategy: Some(strategy),
        shrink: Shrink::Refuse,
        online: false,
    };
    let plan = plan_resize(host, &cow, wish).expect("it can be done");
    carry_out(host, &mut cow, &plan, &mut |_, _| ControlFlow::Continue(()))
        .expect("memory does not fail");
    cow.device.close().expect("memory does not fail");
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .nresamples(2000)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let mut group = criterion.benchmark_group("16 MiB dirty in 4 KiB extents");
    group.throughput(Throughput::Bytes(EXTENTS * 4096));
    for (name, strategy, alignment) in [
        ("headroom", Strategy::Headroom, 1 << 20),
        ("rebuild", Strategy::Rebuild, 4096),
        ("reflow", Strategy::Reflow, 4096),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || image(alignment),
                |host| resize(host, strategy),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
    criterion.final_summary();
}
