//! After a failed sync a device that is served says so in every status and to every client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::bounded;
use driver::device_spec::DeviceSpec;
use driver::open::{OpenOptions, open};
use harness::device::{SharedDevice, Stepped};
use harness::serve::address::Address;
use harness::serve::control::Control;
use harness::serve::nbd::Nbd;
use harness::serve::nbd::message::{Command, command_flags};
use harness::serve::{Endpoint, Export};
use userhelper::real_files::RealHost;

use crate::support::cli::Sandbox;
use crate::support::failing::{Failing, about};
use crate::support::nbd::Client;

const IO: u32 = 5;

#[test]
fn a_failed_sync_is_told_in_every_status_and_to_every_client() {
    let sandbox = Sandbox::with_device();
    let spec = DeviceSpec::of(sandbox.path("cow"));
    let opened = open(&RealHost, &spec, OpenOptions::default()).unwrap();
    let syncs_fail = Arc::new(AtomicBool::new(false));
    let host = Failing::when(&syncs_fail);
    let device = SharedDevice::start(Stepped::on(opened.device, Box::new(host))).unwrap();
    let about = about(sandbox.path("cow"));
    let (ends, _ending) = bounded(1);
    let tells = Box::new(|_: &dyn std::fmt::Display| ());
    let export = Export::new(about, device.handle(), tells, ends);
    let address = Address::Unix(sandbox.path("s"));
    let nbd = Nbd::listen(&export, &address, false, Duration::from_secs(20)).unwrap();
    let control = Control::listen(&sandbox.path("ctl"), export.clone()).unwrap();
    let failed_sync = || sandbox.report(&["ctl", "@ctl", "status"])["failed_sync"].clone();

    let mut client = Client::connect(&sandbox.path("s"));
    assert_eq!(client.write(0, 0, &[7; 4096]), 0);
    client.flush();
    assert_eq!(failed_sync(), false);

    syncs_fail.store(true, Ordering::SeqCst);
    assert_eq!(client.write(0, 4096, &[8; 4096]), 0);
    assert_eq!(client.ask(Command::Flush, 0, 0, 0), IO);
    // The disk is well again, and what it has lost is not known.
    syncs_fail.store(false, Ordering::SeqCst);
    for _ in 0..2 {
        assert_eq!(failed_sync(), true);
        assert_eq!(client.ask(Command::Flush, 0, 0, 0), IO);
        let mut other = Client::connect(&sandbox.path("s"));
        assert_eq!(other.ask(Command::Flush, 0, 0, 0), IO);
        assert_eq!(other.write(command_flags::FUA, 8192, &[9; 512]), IO);
        // What promises nothing goes on.
        assert_eq!(other.read(0, 4096), [7; 4096]);
        assert_eq!(other.write(0, 0, &[7; 4096]), 0);
    }
    let text = sandbox.succeeds(&["ctl", "@ctl", "status"]);
    assert!(text.contains("\nstate      A SYNC HAS FAILED: "), "{text}");
    sandbox.refuses(
        &["ctl", "@ctl", "flush"],
        "a sync has failed: what was written since the last flush that succeeded may be lost; start \
         the host anew before the device is opened again",
    );
    let refused = sandbox.run(&["ctl", "@ctl", "resize", "+1M"]);
    assert_eq!(refused.status.code(), Some(3));
    let said = sandbox.text(&refused.stderr);
    assert!(said.contains("a sync has failed"), "{said}");

    drop(client);
    Box::new(nbd).stop();
    drop(export);
    let closed = device.stop().unwrap().close();
    control.end(closed.clone());
    assert!(closed.is_err(), "it is not durable");
}
