//! Running other programs, and this one, from their start to their end.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{BenchError, Settings};
use crate::clock;
pub(in crate::bench) use crate::programs::find;

/// Those of the programs that are missing, in words; `None` if all are there.
pub(in crate::bench) fn missing(programs: &[&str]) -> Option<String> {
    let missing: Vec<_> = programs
        .iter()
        .copied()
        .filter(|program| find(program).is_none())
        .collect();
    (!missing.is_empty()).then(|| missing.join(" and "))
}

/// Runs a program, and ends it when the measuring is to end; how long that took.
pub(in crate::bench) fn run<A: AsRef<OsStr>>(
    settings: Settings<'_>,
    program: &Path,
    arguments: &[A],
) -> Result<Duration, BenchError> {
    settings.check_stop()?;
    let ran = run_with(program, arguments, Some(settings.stop));
    settings.check_stop()?;
    ran
}

/// Runs a program to its end; how long that took.
pub(in crate::bench) fn run_to_end<A: AsRef<OsStr>>(
    program: &Path,
    arguments: &[A],
) -> Result<Duration, BenchError> {
    run_with(program, arguments, None)
}

/// How often a running program is looked after.
const LOOK: Duration = Duration::from_millis(50);

fn run_with<A: AsRef<OsStr>>(
    program: &Path,
    arguments: &[A],
    stop: Option<&AtomicBool>,
) -> Result<Duration, BenchError> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let (ended, has_ended) = mpsc::channel::<()>();
    let (output, time) = std::thread::scope(|scope| {
        let started = clock::start();
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return (Err(error), started.elapsed()),
        };
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
        if let (Some(stop), Ok(process)) = (stop, process) {
            scope.spawn(move || {
                while has_ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                    if stop.load(Ordering::Relaxed) {
                        // It may have ended by itself.
                        let _ = pidfd_send_signal(&process, Signal::TERM);
                        return;
                    }
                }
            });
        }
        let output = child.wait_with_output();
        let time = started.elapsed();
        drop(ended);
        (output, time)
    });
    let problem = match output {
        Ok(output) if output.status.success() => return Ok(time),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            format!("{}: {}", output.status, said.trim_end())
        }
        Err(error) => driver::system_words(error),
    };
    Err(BenchError::Program {
        command: format!("{command:?}"),
        problem,
    })
}

/// A copy as `cp` makes one, with what is a hole or zeros as a hole: how long that took, and
/// how long with the sync of the copy. Where `cp` could share, it must not here.
pub(in crate::bench) fn cp(
    settings: Settings<'_>,
    from: &Path,
    to: &Path,
) -> Result<[Duration; 2], BenchError> {
    let sparse = [OsStr::new("--sparse=always"), OsStr::new("--reflink=never")];
    let copied = run(
        settings,
        Path::new("cp"),
        &[sparse[0], sparse[1], from.as_os_str(), to.as_os_str()],
    )?;
    Ok([copied, copied + sync(to)?])
}

/// A copy that shares every extent, and its sync: how long that took.
pub(in crate::bench) fn cp_shared(
    settings: Settings<'_>,
    from: &Path,
    to: &Path,
) -> Result<Duration, BenchError> {
    let words = [
        OsStr::new("--reflink=always"),
        from.as_os_str(),
        to.as_os_str(),
    ];
    Ok(run(settings, Path::new("cp"), &words)? + sync(to)?)
}

/// Makes a file durable; how long that took.
pub(in crate::bench) fn sync(path: &Path) -> Result<Duration, BenchError> {
    let started = clock::start();
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(BenchError::file(path, "syncing"))?;
    Ok(started.elapsed())
}

/// Writes everything back that waits for it in the file system of `path`, so that it does not
/// disturb what is measured next.
pub(in crate::bench) fn settle(settings: Settings<'_>, path: &Path) {
    // Without it the figures are noisier, not wrong.
    let _ = run(
        settings,
        Path::new("sync"),
        &[OsStr::new("-f"), path.as_os_str()],
    );
}

#[cfg(test)]
mod tests {
    use driver::units::Bytes;

    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(missing(&["sh"]), None);
        let found = missing(&["sh", "no-such-program", "nor-this-one"]);
        assert_eq!(found.unwrap(), "no-such-program and nor-this-one");
    }

    #[test]
    fn a_program_that_fails_is_quoted() {
        let error = run_to_end(Path::new("sh"), &["-c", "echo no >&2; exit 4"]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit status: 4: no"), "{text}");
        assert!(run_to_end(Path::new("sh"), &["-c", "exit 0"]).is_ok());
    }

    #[test]
    fn a_program_is_ended_when_the_measuring_is() {
        let stop = AtomicBool::new(false);
        let directory = tempfile::tempdir().unwrap();
        let begun = directory.path().join("begun");
        let begun = &begun;
        let settings = Settings {
            directory: directory.path(),
            program: Path::new("/"),
            dirty: Bytes(0),
            io: None,
            only: &crate::bench::Only::default(),
            stop: &stop,
        };
        let started = clock::start();
        let ran = std::thread::scope(|scope| {
            let program = [
                "-c",
                "touch \"$0\" && exec sleep 600",
                begun.to_str().unwrap(),
            ];
            let ran = scope.spawn(move || run(settings, Path::new("sh"), &program));
            while !begun.exists() && !ran.is_finished() {
                std::thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
            ran.join().unwrap()
        });
        assert!(matches!(ran, Err(BenchError::Interrupted)), "{ran:?}");
        assert!(started.elapsed() < Duration::from_secs(300));
    }
}
