//! A device that is served, in this process and by the program.

use std::fmt::Display;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ExitStatus, Stdio};

use crossbeam_channel::{Receiver, bounded};
use driver::device_spec::DeviceSpec;
use driver::open::OpenOptions;
use harness::device::Io;
use harness::replay::ReplayDriver;
use harness::serve::control::{Answer, Asking, NoAnswer, Request};
use harness::serve::{Ending, Opening, Up};
use rustix::process::{Pid, Signal, kill_process};

use super::cli::{Sandbox, ubdlab_that_heeds_signals};

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

/// The program, serving `cow` of a sandbox.
pub(crate) struct Server {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Server {
    /// Starts it with its control socket at `ctl`, and waits until it serves.
    pub(crate) fn start(sandbox: &Sandbox, more: &[&str]) -> Server {
        let args = ["serve", "@cow", "--nbd", "@nbd", "--control", "@ctl"];
        let mut child = ubdlab_that_heeds_signals()
            .args(sandbox.args(&[&args, more].concat()))
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("serving ") {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it does not serve");
        }
        let kind = std::fs::metadata(sandbox.path("ctl")).unwrap().file_type();
        assert!(kind.is_socket());
        Server { child, stderr }
    }

    pub(crate) fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end: its status, and what it said since it serves.
    pub(crate) fn ended(mut self) -> (ExitStatus, Vec<String>) {
        let said = (&mut self.stderr).lines().map(Result::unwrap).collect();
        (self.child.wait().unwrap(), said)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Of one that has ended it does nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
