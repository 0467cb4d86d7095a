//! A sync of the host's fails under a device in a FUSE mount: who syncs is told, then and later.

use std::fmt::Display;
use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crossbeam_channel::bounded;
use driver::device_spec::DeviceSpec;
use driver::open::{OpenOptions, open};
use harness::device::{SharedDevice, Stepped};
use harness::serve::fuse::Fuse;
use harness::serve::{Endpoint, Export};
use nix::fcntl::OFlag;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use userhelper::real_files::RealHost;

use crate::support::cli::Sandbox;
use crate::support::failing::{Failing, about};
use crate::support::fuse::Directory;

fn error_of<T: std::fmt::Debug>(result: std::io::Result<T>) -> Errno {
    Errno::from_io_error(&result.unwrap_err()).unwrap()
}

#[test]
fn after_a_failed_sync_every_sync_fails_and_reads_go_on() {
    let sandbox = Sandbox::with_device();
    let Some(directory) = Directory::new(&sandbox, "m") else {
        return;
    };
    let cow = sandbox.path("cow");
    let opened = open(&RealHost, &DeviceSpec::of(&cow), OpenOptions::default()).unwrap();
    let fails = Arc::new(AtomicBool::new(false));
    let host = Failing::when(&fails);
    let shared = SharedDevice::start(Stepped::on(opened.device, Box::new(host))).unwrap();
    let about = about(cow);
    let told = Arc::new(Mutex::new(Vec::new()));
    let tells = Arc::clone(&told);
    let tells = move |line: &dyn Display| tells.lock().unwrap().push(line.to_string());
    let (ends, _) = bounded(1);
    let export = Export::new(about, shared.handle(), Box::new(tells), ends);
    let mounted = Fuse::mount(&export, directory.path()).unwrap();

    let mut options = File::options();
    options.read(true).write(true);
    let file = options.open(directory.disk()).unwrap();
    let dsync = OFlag::O_DSYNC.bits();
    let durable = options.custom_flags(dsync).open(directory.disk()).unwrap();
    file.write_all_at(&[1; 4096], 0).unwrap();
    file.sync_all().unwrap();
    fails.store(true, Ordering::SeqCst);
    file.write_all_at(&[2; 4096], 0).unwrap();
    assert_eq!(error_of(file.sync_all()), Errno::IO);
    // The host syncs again, but what it has lost meanwhile nobody knows.
    fails.store(false, Ordering::SeqCst);
    assert_eq!(error_of(file.sync_data()), Errno::IO);
    assert_eq!(error_of(durable.write_all_at(&[3; 512], 8192)), Errno::IO);
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    assert_eq!(fallocate(&durable, punch, 8192, 4096), Err(Errno::IO));
    // And whoever opens it now is told too.
    let other = options.open(directory.disk()).unwrap();
    assert_eq!(error_of(other.sync_all()), Errno::IO);
    let mut found = [0; 4096];
    file.read_exact_at(&mut found, 0).unwrap();
    assert_eq!(found, [2; 4096]);
    let status = std::fs::read(directory.status()).unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    assert_eq!(status["failed_sync"], true);
    drop((file, durable, other));

    Box::new(mounted).stop();
    assert!(!directory.is_mounted());
    drop(export);
    // The device says so at its end too, and what was durable before is there.
    assert!(shared.stop().unwrap().close().is_err());
    sandbox.succeeds(&["image", "check", "@cow"]);
}
