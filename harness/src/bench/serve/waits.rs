//! What a client waits while the device that it uses grows, and its data moves.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use driver::units::Bytes;
use rustix::process::{Pid, Signal, kill_process};

use crate::bench::programs::missing;
use crate::bench::resize::{Layout, MORE, Shape};
use crate::bench::{BenchError, Row, Settings, Unit};
use crate::clock::{Clock, WallClock};
use crate::serve::control::{Answer, Asking, NoAnswer, Request, WishedStrategy};

use super::contender::io_name;
use super::fio::{FIO, Report, Target, Work, read_report, words};
use super::server::Server;

/// The longest that a client is to wait.
const LONGEST_MS: f64 = 50.0;

/// The device's size.
const SIZE: Bytes = Bytes(1 << 30);

/// Requests a second that the client sends, whatever became of those before. Half are reads.
const RATE: u64 = 2000;

/// Requests that are served before the device grows, to compare with.
const BEFORE: u64 = 2000;

/// The most requests in flight. Those that a wait keeps from being sent are not counted, so there
/// have to be more than come in the longest wait.
const DEPTH: usize = 512;

/// From one look at the server to the next.
const LOOK_NS: u64 = 10_000_000;

fn name(shape: Shape, what: &str) -> String {
    format!("serve/reflow of 1 GiB, {}: {what}", shape.name())
}

/// The figures of a device that grows.
const WHAT: [&str; 4] = [
    "longest wait",
    "longest wait without it",
    "requests",
    "data moved",
];

fn is_shape_wanted(settings: Settings<'_>, shape: Shape) -> bool {
    WHAT.iter().any(|what| settings.wanted(&name(shape, what)))
}

pub(super) fn measure(
    settings: Settings<'_>,
    each: &mut impl FnMut(Vec<Row>),
) -> Result<(), BenchError> {
    for shape in Shape::BOTH {
        if !is_shape_wanted(settings, shape) {
            continue;
        }
        match missing(&[FIO]) {
            Some(needs) => each(vec![Row::skipped(
                name(shape, WHAT[0]),
                Unit::Milliseconds,
                &needs,
            )]),
            None => each(rows(settings, shape)?),
        }
    }
    Ok(())
}

fn rows(settings: Settings<'_>, shape: Shape) -> Result<Vec<Row>, BenchError> {
    let names = Names::within(settings.directory);
    let layout = Layout::new(SIZE, settings.dirty, shape);
    layout.make(settings, &names.cow, &names.backing)?;
    let before = under_load(settings, &names, |_| Ok(()))?;
    let mut moved = 0;
    let during = under_load(settings, &names, |control| {
        moved = grow(control)?;
        Ok(())
    })?;
    for path in [&names.cow, &names.backing] {
        std::fs::remove_file(path).map_err(BenchError::file(path, "removing"))?;
    }
    let [longest, quiet, requests, data] = WHAT.map(|what| name(shape, what));
    let ms = |report: &Report| report.longest_ns() as f64 / 1e6;
    let mib = moved as f64 / f64::from(1 << 20);
    Ok(vec![
        Row::new(longest, ms(&during), Unit::Milliseconds).target(LONGEST_MS),
        Row::new(quiet, ms(&before), Unit::Milliseconds),
        Row::new(requests, during.requests() as f64, Unit::Count),
        Row::new(data, mib, Unit::Mebibytes),
    ])
}

struct Names {
    cow: PathBuf,
    backing: PathBuf,
    nbd: PathBuf,
    control: PathBuf,
    report: PathBuf,
}

impl Names {
    fn within(directory: &Path) -> Names {
        let named = |name: &str| directory.join(name);
        Names {
            cow: named("grown.cow"),
            backing: named("grown.img"),
            nbd: named("grown.nbd"),
            control: named("grown.ctl"),
            report: named("grown.json"),
        }
    }
}

/// Serves the device to a client, and does something with it meanwhile. What the client says.
fn under_load(
    settings: Settings<'_>,
    names: &Names,
    act: impl FnOnce(&mut Asking) -> Result<(), BenchError>,
) -> Result<Report, BenchError> {
    let mut command = Command::new(settings.program);
    command.arg("serve").arg(&names.cow);
    command.arg("--nbd").arg(&names.nbd);
    command.arg("--control").arg(&names.control);
    command.args(["--io", io_name(settings.io.unwrap_or_default())]);
    // The control socket is listened on last.
    let _server = Server::start(settings, command, &names.control)?;
    let mut control = Asking::connect(&names.control).map_err(told)?;
    let mut client = Client::start(names)?;
    let clock = WallClock::start();
    while requests(&mut control)? < BEFORE {
        settings.check_stop()?;
        client.is_running()?;
        clock.sleep_until_ns(clock.now_ns() + LOOK_NS);
    }
    act(&mut control)?;
    client.stop()?;
    read_report(&names.report, &client.words)
}

fn told(error: NoAnswer) -> BenchError {
    BenchError::Device(error.to_string())
}

fn unexpected(answer: &Answer) -> BenchError {
    BenchError::Device(format!(
        "found an unexpected answer of the server: {answer:?}"
    ))
}

/// What the server has done.
fn requests(control: &mut Asking) -> Result<u64, BenchError> {
    control.ask(&Request::Status {}).map_err(told)?;
    match control.next_answer().map_err(told)? {
        Answer::Status(status) => Ok(status.requests),
        other => Err(unexpected(&other)),
    }
}

/// Grows the device by a reflow. The bytes that were moved.
fn grow(control: &mut Asking) -> Result<u64, BenchError> {
    let request = Request::Resize {
        size_bytes: Some((SIZE + MORE).0),
        change_bytes: None,
        strategy: Some(WishedStrategy::Reflow),
        shrink: false,
        lose_data: false,
        detach: false,
    };
    control.ask(&request).map_err(told)?;
    loop {
        match control.next_answer().map_err(told)? {
            Answer::Resizing(_) => {}
            Answer::Resized(resized) => return Ok(resized.moved_bytes),
            other => return Err(unexpected(&other)),
        }
    }
}

/// A client that goes on until it is stopped.
struct Client {
    child: Child,
    words: Vec<String>,
}

impl Client {
    fn start(names: &Names) -> Result<Client, BenchError> {
        let work = Work {
            pattern: "randrw",
            block: 4096,
            depth: DEPTH,
            bytes: SIZE.0,
            size: SIZE.0,
        };
        let mut words = words(Target::Nbd(&names.nbd), work);
        // Without an end, at fixed times.
        words.extend([
            "--time_based".to_owned(),
            "--runtime=3600".to_owned(),
            format!("--rate_iops={},{}", RATE / 2, RATE / 2),
            format!("--output={}", names.report.display()),
        ]);
        let mut command = Command::new(FIO);
        command
            .args(&words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let started = command.spawn().map_err(|error| BenchError::Program {
            command: format!("{command:?}"),
            problem: driver::system_words(error),
        });
        Ok(Client {
            child: started?,
            words,
        })
    }

    /// That it has not ended.
    fn is_running(&mut self) -> Result<(), BenchError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.failed(format!("it ended early: {status}"))),
            Err(error) => Err(self.failed(driver::system_words(error))),
        }
    }

    /// Lets it say what it has seen.
    fn stop(&mut self) -> Result<(), BenchError> {
        self.is_running()?;
        let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
        match self.child.wait() {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failed(driver::system_words(error))),
        }
    }

    fn failed(&self, problem: String) -> BenchError {
        BenchError::Program {
            command: format!("{:?}", Command::new(FIO).args(&self.words)),
            problem,
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // One that has been waited for is no longer there to be ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
