//! A device that is served with a control socket, in this process and by the program.

use std::fmt::Display;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, bounded};
use driver::device_spec::DeviceSpec;
use driver::open::OpenOptions;
use driver::resize::{Resized, Strategy};
use driver::units::Bytes;
use harness::device::Io;
use harness::replay::ReplayDriver;
use harness::serve::control::{Answer, Asking, NoAnswer, Request};
use harness::serve::{CannotResize, Ending, Export, Opening, Up};
use userhelper::planner::{Shrink, Wish};

use super::cli::Sandbox;
use super::server::Server;

/// Brings a COW file up in this process; what asks for the end comes out of the channel.
pub(crate) fn bring_up(cow: &Path) -> (Up, Receiver<Ending>) {
    let opening = Opening {
        spec: DeviceSpec::of(cow),
        options: OpenOptions::default(),
        driver: ReplayDriver::Ordered,
        io: Io::Threads,
        allow_shrink: false,
    };
    let (ends, ending) = bounded(1);
    let tells = Box::new(|_: &dyn Display| {});
    (opening.bring_up(tells, ends).unwrap(), ending)
}

/// Asks, and waits for the last answer.
pub(crate) fn ask(asking: &mut Asking, request: &Request) -> Result<Answer, NoAnswer> {
    asking.ask(request)?;
    loop {
        match asking.next_answer()? {
            Answer::Resizing(_) => {}
            Answer::Recorded(_) if matches!(request, Request::Record { file: Some(_), .. }) => {}
            answer => return Ok(answer),
        }
    }
}

/// The program, serving `cow` of a sandbox, with its control socket at `ctl`.
pub(crate) fn start(sandbox: &Sandbox, more: &[&str]) -> Server {
    let args = ["@cow", "--nbd", "@nbd", "--control", "@ctl"];
    let server = Server::start(sandbox, &[&args, more].concat());
    let kind = std::fs::metadata(sandbox.path("ctl")).unwrap().file_type();
    assert!(kind.is_socket());
    server
}

/// Begins a reflow to this size of a device that holds data all over, and waits until some of it
/// has moved.
pub(crate) fn half_moved(
    export: &Export,
    new_size: Bytes,
) -> JoinHandle<Result<Resized, CannotResize>> {
    let end = export.capacity().0;
    let wish = Wish {
        new_size,
        strategy: Some(Strategy::Reflow),
        shrink: Shrink::Refuse,
        online: true,
    };
    let resized = export.clone();
    let resizing = std::thread::spawn(move || resized.resize(wish));
    let resize = || export.status().unwrap().resize;
    let frontier = || resize().and_then(|resize| resize.frontier_sector);
    while frontier().is_none_or(|frontier| frontier >= end) {
        std::thread::yield_now();
    }
    resizing
}
