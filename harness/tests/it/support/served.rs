//! A device that is served with a control socket, in this process and by the program.

use std::fmt::Display;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crossbeam_channel::{Receiver, bounded};
use driver::device_spec::DeviceSpec;
use driver::open::OpenOptions;
use harness::device::Io;
use harness::replay::ReplayDriver;
use harness::serve::control::{Answer, Asking, NoAnswer, Request};
use harness::serve::{Ending, Opening, Up};

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
