//! Running other programs, and this one, from their start to their end.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::BenchError;
use crate::clock;

/// Whether there is a program of this name.
pub(super) fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Those of the programs that are missing, in words; `None` if all are there.
pub(super) fn missing(programs: &[&str]) -> Option<String> {
    let missing: Vec<_> = programs
        .iter()
        .copied()
        .filter(|program| !is_there(program))
        .collect();
    (!missing.is_empty()).then(|| missing.join(" and "))
}

/// Runs a program; how long that took.
pub(super) fn run<A: AsRef<OsStr>>(
    program: &Path,
    arguments: &[A],
) -> Result<Duration, BenchError> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let started = clock::start();
    let output = command.output();
    let time = started.elapsed();
    let problem = match output {
        Ok(output) if output.status.success() => return Ok(time),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            format!("{}: {}", output.status, said.trim_end())
        }
        Err(error) => error.to_string(),
    };
    Err(BenchError::Program {
        command: format!("{command:?}"),
        problem,
    })
}

/// A copy as `cp` makes one, with what is a hole or zeros as a hole: how long that took, and
/// how long with the sync of the copy. Where `cp` could share, it must not here.
pub(super) fn cp(from: &Path, to: &Path) -> Result<[Duration; 2], BenchError> {
    let sparse = [OsStr::new("--sparse=always"), OsStr::new("--reflink=never")];
    let copied = run(
        Path::new("cp"),
        &[sparse[0], sparse[1], from.as_os_str(), to.as_os_str()],
    )?;
    Ok([copied, copied + sync(to)?])
}

/// A copy that shares every extent, and its sync: how long that took.
pub(super) fn cp_shared(from: &Path, to: &Path) -> Result<Duration, BenchError> {
    let words = [
        OsStr::new("--reflink=always"),
        from.as_os_str(),
        to.as_os_str(),
    ];
    Ok(run(Path::new("cp"), &words)? + sync(to)?)
}

/// Makes a file durable; how long that took.
pub(super) fn sync(path: &Path) -> Result<Duration, BenchError> {
    let started = clock::start();
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(BenchError::file(path, "syncing"))?;
    Ok(started.elapsed())
}

/// Writes everything back that waits for it in the file system of `path`, so that it does not
/// disturb what is measured next.
pub(super) fn settle(path: &Path) {
    // Without it the figures are noisier, not wrong.
    let _ = run(Path::new("sync"), &[OsStr::new("-f"), path.as_os_str()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(missing(&["sh"]), None);
        let found = missing(&["sh", "no-such-program", "nor-this-one"]);
        assert_eq!(found.unwrap(), "no-such-program and nor-this-one");
    }

    #[test]
    fn a_program_that_fails_is_quoted() {
        let error = run(Path::new("sh"), &["-c", "echo no >&2; exit 4"]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit status: 4: no"), "{text}");
        assert!(run(Path::new("sh"), &["-c", "exit 0"]).is_ok());
    }
}
