//! The way of a request through the `ordered` driver: to a host in memory, where all of the
//! time is the driver's and a copy, and to files in the page cache. `ubdlab bench io` has the
//! bare system calls beside it; this is for finding out what a change of the code did.

use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};
use driver::blk::{Request, Status, Tag};
use driver::device_spec::DeviceSpec;
use driver::driver::Driver;
use driver::host::{HostFile, HostNames};
use driver::memory::MemoryHost;
use driver::open::{OpenOptions, open};
use driver::ordered::Ordered;
use driver::units::{Sector, SectorCount};
use userhelper::real_files::RealHost;

/// The size of the device: what is measured stays in the processor's caches for the most part.
const SECTORS: u64 = 16 << 11;

/// A request of 4 KiB.
const REQUEST: SectorCount = SectorCount(8);

/// An odd number of requests apart: all over the device, each place once.
const STEP: u64 = 1021 * REQUEST.0;

/// A device over a backing file without holes, in an empty directory of that host.
fn device<H: HostNames>(host: &H, directory: &std::path::Path) -> Ordered<H::File> {
    let backing = directory.join("backing.img");
    let file = host.create_new(&backing).expect("an empty directory");
    let content = vec![0x5a; SectorCount(SECTORS).bytes().0 as usize];
    file.write_all_at(&content, driver::units::FileOffset(0))
        .expect("there is room");
    drop(file);
    let spec = DeviceSpec {
        backing: Some(backing),
        ..DeviceSpec::of(directory.join("device.cow"))
    };
    let opened = open(host, &spec, OpenOptions::default());
    opened.expect("nothing is there yet").device
}

fn serve<F: HostFile>(device: &mut Ordered<F>, request: Request) -> Request {
    let completion = device.serve(request).expect("nothing else is queued");
    assert_eq!(completion.status, Status::Ok);
    completion.request
}

/// A request again and again, at one position after another.
fn at_each_position<F: HostFile>(
    criterion: &mut Criterion,
    name: String,
    device: &mut Ordered<F>,
    request: Request,
) {
    let mut group = criterion.benchmark_group("io");
    group.throughput(Throughput::Bytes(REQUEST.bytes().0));
    let mut request = Some(request);
    let mut at = 0;
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            let mut next = request.take().expect("it came back");
            at = (at + STEP) % SECTORS;
            next.start = Sector(at);
            request = Some(serve(device, next));
        });
    });
    group.finish();
}

fn requests<F: HostFile>(criterion: &mut Criterion, host: &str, device: &mut Ordered<F>) {
    let read = Request::read(Tag(0), Sector(0), REQUEST);
    let write = Request::write(Tag(0), Sector(0), vec![1; REQUEST.bytes().0 as usize]);
    let name = |what: &str| format!("{what}/{host}");
    at_each_position(criterion, name("read clean"), device, read.clone());
    for at in (0..SECTORS).step_by(REQUEST.0 as usize) {
        let mut write = write.clone();
        write.start = Sector(at);
        serve(device, write);
    }
    serve(device, Request::flush(Tag(0)));
    at_each_position(criterion, name("read dirty"), device, read);
    at_each_position(criterion, name("overwrite"), device, write);
}

/// A first write, and the flush after it; in memory only, for a disk's time to sync is its own.
fn first_write_and_flush(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("io");
    let data = vec![1; REQUEST.bytes().0 as usize];
    group.bench_function("first write and flush/in memory", |bencher| {
        bencher.iter_batched_ref(
            || device(&MemoryHost::new(), "/".as_ref()),
            |device| {
                serve(device, Request::write(Tag(0), Sector(0), data.clone()));
                serve(device, Request::flush(Tag(0)));
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .without_plots()
        .configure_from_args();
    let mut in_memory = device(&MemoryHost::new(), "/".as_ref());
    requests(&mut criterion, "in memory", &mut in_memory);
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let mut on_files = device(&RealHost, directory.path());
    requests(&mut criterion, "on files", &mut on_files);
    first_write_and_flush(&mut criterion);
    criterion.final_summary();
}
