//! Names that lead to a descriptor that the program was started with: `/dev/stdout`, `/dev/fd/3`,
//! `/proc/self/fd/3`, and links to them.
//!
//! Whoever opens such a name of a regular file gets a position of his own, at the file's start, and
//! whoever replaces what it leads to takes the file away from those who write into it too. So what
//! is written goes into the descriptor itself, where that stands.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use super::output_file::MOST_LINKS;
use super::startup::stdout_was_closed;
use super::{Failure, output, without_path};

/// Where a name leads that stands for a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    /// To this one of the program.
    Own(RawFd),
    /// To one of another process.
    Others,
}

/// Whether `name` leads to standard output.
pub(super) fn is_standard_output(name: &Path) -> bool {
    named(name) == Some(Named::Own(1))
}

/// Whether `name` leads to a descriptor.
pub(super) fn is_named_by(name: &Path) -> bool {
    named(name).is_some()
}

/// The descriptor that `name` leads to, to be written into at its own position; `None` if it leads
/// to none, or to a stream of another process, which can be opened by its name.
///
/// # Errors
/// If there is no such descriptor, if it takes no writes, or if it cannot be had.
pub(super) fn named_by(name: &Path) -> Option<Result<File, Failure>> {
    let file = match named(name)? {
        Named::Own(number) => own(number, name),
        Named::Others if is_stream(name) => return None,
        Named::Others => Err(
            "found a file that another process has open, expected one of this process, a pipe, a \
             FIFO or a character device"
                .to_owned(),
        ),
    };
    let failed = |why| Failure(format!("{}: writing: {why}", driver::shown(name)));
    Some(file.map_err(failed))
}

/// Follows `name`, link by link, as far as the first descriptor. What that leads to is the
/// descriptor's business.
fn named(name: &Path) -> Option<Named> {
    let mut name = name.to_owned();
    for _ in 0..MOST_LINKS {
        if let Some(named) = is_descriptor(&name) {
            return Some(named);
        }
        let next = std::fs::read_link(&name).ok()?;
        // An absolute path replaces all of it.
        name = name.parent().unwrap_or(Path::new("")).join(next);
    }
    None
}

/// Whether this very name is in a process's directory of descriptors: `/proc/7/fd/1`, or
/// `/proc/7/task/8/fd/1`.
fn is_descriptor(name: &Path) -> Option<Named> {
    let number: RawFd = name.file_name()?.to_str()?.parse().ok()?;
    let directory = match name.parent()? {
        here if here.as_os_str().is_empty() => Path::new("."),
        parent => parent,
    };
    let directory = std::fs::canonicalize(directory).ok()?;
    let below = directory.strip_prefix("/proc").ok()?;
    let parts: Vec<_> = below.iter().filter_map(|part| part.to_str()).collect();
    let process = match parts[..] {
        [process, "fd"] | [process, "task", _, "fd"] => process,
        _ => return None,
    };
    let is_own = std::fs::read_link("/proc/self").is_ok_and(|own| own == Path::new(process));
    Some(match is_own {
        true => Named::Own(number),
        false => Named::Others,
    })
}

fn is_stream(name: &Path) -> bool {
    let kind = std::fs::metadata(name).map(|found| found.file_type());
    kind.is_ok_and(|kind| kind.is_char_device() || kind.is_fifo())
}

/// A copy of the program's descriptor `number`, which shares its position and flags.
fn own(number: RawFd, name: &Path) -> Result<File, String> {
    let file = match number {
        1 if stdout_was_closed() => return Err(output::CLOSED.to_owned()),
        0 => copy_of(rustix::stdio::stdin()),
        1 => copy_of(rustix::stdio::stdout()),
        2 => copy_of(rustix::stdio::stderr()),
        _ => handed_down(number, name),
    }?;
    let flags = fcntl_getfl(&file).map_err(|error| without_path(&error.into()))?;
    if flags.contains(OFlags::PATH) || flags & OFlags::ACCMODE == OFlags::RDONLY {
        return Err("found a descriptor that is open for reading only".to_owned());
    }
    Ok(file)
}

fn copy_of(descriptor: impl AsFd) -> Result<File, String> {
    match fcntl_dupfd_cloexec(descriptor, 3) {
        Ok(copy) => Ok(File::from(copy)),
        Err(error) => Err(without_path(&error.into())),
    }
}

/// A copy of a descriptor that is none of the three standard ones. Those that the program has
/// opened itself are nobody's business: they are closed on exec, and one that was handed down is
/// not.
fn handed_down(number: RawFd, name: &Path) -> Result<File, String> {
    let not_open = || format!("found no descriptor {number} that the program was started with");
    let flags = flags_of(number).ok_or_else(not_open)?;
    if flags.contains(OFlags::CLOEXEC) {
        return Err(not_open());
    }
    let copy = pidfd_open(getpid(), PidfdFlags::empty())
        .and_then(|own| pidfd_getfd(own, number, PidfdGetfdFlags::empty()));
    let opened = |opened: io::Result<File>| opened.map_err(|error| without_path(&error));
    match copy {
        Ok(copy) => Ok(File::from(copy)),
        Err(Errno::BADF) => Err(not_open()),
        // Before Linux 5.6, or where a filter of system calls keeps it out. A stream has no
        // position, and what is appended does not ask for it.
        Err(_) if is_stream(name) => opened(File::options().write(true).open(name)),
        Err(_) if flags.contains(OFlags::APPEND) => opened(File::options().append(true).open(name)),
        Err(error) => Err(format!(
            "descriptor {number} cannot be shared on this system ({}): name standard output, or \
             open the descriptor for appending (>>)",
            without_path(&error.into())
        )),
    }
}

/// The flags that the kernel tells of a descriptor.
fn flags_of(number: RawFd) -> Option<OFlags> {
    let path: PathBuf = ["/proc/self/fdinfo", &number.to_string()].iter().collect();
    let told = std::fs::read_to_string(path).ok()?;
    let flags = told.lines().find_map(|line| line.strip_prefix("flags:"))?;
    let bits = u32::from_str_radix(flags.trim(), 8).ok()?;
    Some(OFlags::from_bits_retain(bits))
}
