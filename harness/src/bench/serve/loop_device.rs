//! The device as a file in a FUSE mount, under a loop device.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bench::programs::{missing, run_to_end};
use crate::bench::{BenchError, Row, Settings, Unit};

use super::contender::{Contender, Protocol};
use super::files::SIZE;
use super::fio::{FIO, Target, Work, fio};
use super::lab::{Content, Lab};
use super::turns::in_turns;

/// How many times the rate of the best peer it is to have.
const TIMES: f64 = 1.5;

const BLOCK: u64 = 4096;

/// Requests of a turn.
const REQUESTS: u64 = 32_768;

const LOSETUP: &str = "losetup";

const CASES: [(&str, &str); 2] = [("read", "randread"), ("write", "randwrite")];

/// A loop device over a file, until it is dropped.
struct Loop(PathBuf);

impl Loop {
    /// Over this file, past the page cache: the file's own server has that.
    fn over(file: &Path) -> Result<Loop, BenchError> {
        let mut command = Command::new(LOSETUP);
        command
            .args(["--find", "--show", "--direct-io=on"])
            .arg(file);
        let made = command.output();
        let failed = |problem: String| BenchError::Program {
            command: format!("{command:?}"),
            problem,
        };
        let made = made.map_err(|error| failed(driver::system_words(error)))?;
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr);
            return Err(failed(said.trim_end().to_owned()));
        }
        Ok(Loop(String::from_utf8_lossy(&made.stdout).trim().into()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let words = [Path::new("--detach"), &self.0];
        // The next turn has another one.
        let _ = run_to_end(Path::new(LOSETUP), &words);
    }
}

fn name(what: &str) -> String {
    format!("serve/FUSE under a loop device, 4 KiB {what}, depth 32")
}

/// Whether a row of these is asked for.
pub(super) fn is_wanted(settings: Settings<'_>) -> bool {
    CASES.iter().any(|(what, _)| settings.wanted(&name(what)))
}

pub(super) fn measure(
    lab: &mut Lab<'_>,
    each: &mut impl FnMut(Vec<Row>),
) -> Result<(), BenchError> {
    for (what, pattern) in CASES {
        let name = name(what);
        if !lab.settings.wanted(&name) {
            continue;
        }
        if let Some(needs) = needs() {
            each(vec![Row::skipped(name, Unit::PerSecond, &needs)]);
            continue;
        }
        lab.fill(Content::All)?;
        let lab = &*lab;
        let contenders = Contender::all(Protocol::Fuse, lab.settings.io);
        let rates = in_turns(lab.settings, &contenders, |one| turn(lab, one, pattern))?;
        each(rates.rows(&name, TIMES));
    }
    Ok(())
}

/// What is missing, in words.
fn needs() -> Option<String> {
    if !rustix::process::geteuid().is_root() || !Path::new("/dev/fuse").exists() {
        return Some("root and /dev/fuse".into());
    }
    missing(&[FIO, LOSETUP])
}

/// The requests a second of a turn.
fn turn(lab: &Lab<'_>, contender: Contender, pattern: &'static str) -> Result<f64, BenchError> {
    let serving = lab.serve(contender, Protocol::Fuse)?;
    // It goes before the server does, whatever becomes of the turn.
    let device = Loop::over(&contender.place(&lab.files, Protocol::Fuse))?;
    let target = Target::Device(&device.0);
    lab.make_warm(target)?;
    let work = Work {
        pattern,
        block: BLOCK,
        depth: 32,
        bytes: REQUESTS * BLOCK,
        size: SIZE.0,
    };
    let report = fio(lab.settings, target, work)?;
    serving.write_back()?;
    Ok(report.rate())
}
