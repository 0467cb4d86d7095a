//! Who serves a device: ours and its peers, in each way that they have to do their I/O.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bench::programs::missing;
use crate::bench::{BenchError, Settings};
use crate::device::Io;

use super::files::{Files, SIZE};
use super::server::Server;

/// What qemu does its I/O by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aio {
    Threads,
    /// Linux's own, past the page cache: it has it in no other way.
    Native,
    Uring,
}

impl Aio {
    const ALL: [Aio; 3] = [Aio::Threads, Aio::Uring, Aio::Native];

    fn name(self) -> &'static str {
        match self {
            Aio::Threads => "threads",
            Aio::Native => "native",
            Aio::Uring => "io_uring",
        }
    }
}

/// A way to serve a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    /// `ubdlab serve`, with this as `--io`.
    Ours(Io),
    /// `qemu-nbd` on qcow2.
    QemuNbd(Aio),
    /// `qemu-storage-daemon` on qcow2.
    StorageDaemon(Aio),
    /// nbdkit with its cow filter over a file. What is written there is gone with the process.
    CowFilter,
    /// nbdkit with a disk that has no content: what the client and the socket take by themselves.
    NoDisk,
}

/// What a server offers its device by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Nbd,
    Fuse,
    VhostUser,
}

/// What is written to, and read again by whoever serves it next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disk {
    Ours,
    Qcow2,
    CowFilter,
}

impl Contender {
    /// Who takes turns at this protocol, ours first: as it is by default, or only as asked for.
    pub(super) fn all(protocol: Protocol, io: Option<Io>) -> Vec<Contender> {
        let ours = match io {
            Some(io) => vec![io],
            None => vec![Io::Auto, Io::Threads, Io::Inline],
        };
        let ours: Vec<_> = ours.into_iter().map(Contender::Ours).collect();
        let storage = Aio::ALL.map(Contender::StorageDaemon);
        let mut all = [&ours[..], &storage].concat();
        if protocol == Protocol::Nbd {
            all.extend(Aio::ALL.map(Contender::QemuNbd));
            all.extend([Contender::CowFilter, Contender::NoDisk]);
        }
        all
    }

    /// As in a row.
    pub(super) fn name(self) -> String {
        match self {
            Contender::Ours(io) => format!("ubdlab serve --io {}", io_name(io)),
            Contender::QemuNbd(aio) => format!("qemu-nbd, qcow2, {}", aio.name()),
            Contender::StorageDaemon(aio) => format!("qemu-storage-daemon, qcow2, {}", aio.name()),
            Contender::CowFilter => "nbdkit file + cow filter".into(),
            Contender::NoDisk => "nbdkit null: no disk".into(),
        }
    }

    pub(super) fn is_ours(self) -> bool {
        matches!(self, Contender::Ours(_))
    }

    /// Whether its rate is one to be compared with.
    pub(super) fn is_rival(self) -> bool {
        !self.is_ours() && self != Contender::NoDisk
    }

    /// What it writes to.
    pub(super) fn disk(self) -> Option<Disk> {
        match self {
            Contender::Ours(_) => Some(Disk::Ours),
            Contender::QemuNbd(_) | Contender::StorageDaemon(_) => Some(Disk::Qcow2),
            Contender::CowFilter => Some(Disk::CowFilter),
            Contender::NoDisk => None,
        }
    }

    /// What has to be installed and is not, in words.
    pub(super) fn missing(self) -> Option<String> {
        match self {
            Contender::Ours(_) => None,
            Contender::QemuNbd(_) => missing(&["qemu-img", "qemu-nbd"]),
            Contender::StorageDaemon(_) => missing(&["qemu-img", "qemu-storage-daemon"]),
            Contender::CowFilter | Contender::NoDisk => missing(&["nbdkit"]),
        }
    }

    /// Where a client finds the device.
    pub(super) fn place(self, files: &Files, protocol: Protocol) -> PathBuf {
        match protocol {
            // It stays while others come and go.
            Protocol::Nbd if self == Contender::CowFilter => files.named("filter"),
            Protocol::Nbd => files.named("nbd"),
            Protocol::VhostUser => files.named("vhost-user"),
            Protocol::Fuse if self.is_ours() => files.named("mount").join("disk"),
            Protocol::Fuse => files.named("exported"),
        }
    }

    /// Starts a server.
    pub(super) fn start(
        self,
        settings: Settings<'_>,
        files: &Files,
        protocol: Protocol,
    ) -> Result<Server, BenchError> {
        let place = self.place(files, protocol);
        let pid = files.named("pid");
        for stale in [&place, &pid] {
            match std::fs::remove_file(stale) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(BenchError::file(stale, "removing")(error));
                }
                _ => {}
            }
        }
        if protocol == Protocol::Fuse {
            make_mount_point(&place, self.is_ours())?;
        }
        let command = match self {
            Contender::Ours(io) => ours(settings, files, protocol, &place, io),
            Contender::QemuNbd(aio) => qemu_nbd(files, &place, &pid, aio),
            Contender::StorageDaemon(aio) => storage_daemon(files, protocol, &place, &pid, aio),
            Contender::CowFilter | Contender::NoDisk => self.nbdkit(files, &place, &pid),
        };
        // A socket of ours has its name when it is listened on, and a file of ours is there when it
        // is mounted; the others write their number when they serve.
        let ready = match self {
            Contender::Ours(_) => &place,
            _ => &pid,
        };
        Server::start(settings, command, ready)
    }

    fn nbdkit(self, files: &Files, place: &Path, pid: &Path) -> Command {
        let mut command = Command::new("nbdkit");
        command.arg("--foreground");
        command.arg("--unix").arg(place).arg("--pidfile").arg(pid);
        match self {
            Contender::NoDisk => command.args(["null", &format!("size={}", SIZE.0)]),
            _ => command
                .args(["--filter=cow", "file"])
                .arg(&files.peer_backing),
        };
        command
    }
}

fn make_mount_point(place: &Path, is_ours: bool) -> Result<(), BenchError> {
    let made = match (is_ours, place.parent()) {
        (true, Some(directory)) => std::fs::create_dir_all(directory),
        // qemu mounts on a file.
        _ => File::create(place).map(drop),
    };
    made.map_err(BenchError::file(place, "making a place to mount on at"))
}

pub(super) fn io_name(io: Io) -> &'static str {
    match io {
        Io::Auto => "auto",
        Io::Inline => "inline",
        Io::Threads => "threads",
        Io::Uring => "uring",
    }
}

fn ours(
    settings: Settings<'_>,
    files: &Files,
    protocol: Protocol,
    place: &Path,
    io: Io,
) -> Command {
    let mut command = Command::new(settings.program);
    command.arg("serve").arg(&files.cow);
    command.args(["--io", io_name(io)]);
    match (protocol, place.parent()) {
        (Protocol::Nbd, _) => command.arg("--nbd").arg(place),
        (Protocol::VhostUser, _) => command.arg("--vhost-user").arg(place),
        (Protocol::Fuse, Some(directory)) => command.arg("--fuse").arg(directory),
        (Protocol::Fuse, None) => &mut command,
    };
    command
}

fn qemu_nbd(files: &Files, place: &Path, pid: &Path, aio: Aio) -> Command {
    let mut command = Command::new("qemu-nbd");
    let cache = match aio {
        Aio::Native => "none",
        Aio::Threads | Aio::Uring => "writeback",
    };
    command.args(["--persistent", "--shared=0", "--format=qcow2"]);
    command.arg(format!("--aio={}", aio.name()));
    command.arg(format!("--cache={cache}"));
    command.arg(option("--socket=", place));
    command.arg(option("--pid-file=", pid));
    command.arg(&files.qcow2);
    command
}

fn storage_daemon(
    files: &Files,
    protocol: Protocol,
    place: &Path,
    pid: &Path,
    aio: Aio,
) -> Command {
    let file = |prefix: &str, path: &Path| {
        let direct = match aio {
            Aio::Native => format!(",{prefix}file.cache.direct=on"),
            Aio::Threads | Aio::Uring => String::new(),
        };
        format!(
            "{prefix}file.driver=file,{prefix}file.filename={},{prefix}file.aio={}{direct}",
            quoted(path),
            aio.name()
        )
    };
    let node = format!(
        "driver=qcow2,node-name=disk,{},backing.driver=raw,backing.read-only=on,{}",
        file("", &files.qcow2),
        file("backing.", &files.peer_backing),
    );
    let place = quoted(place);
    let mut command = Command::new("qemu-storage-daemon");
    command.arg("--blockdev").arg(node);
    let export = "id=export,node-name=disk,writable=on";
    let export = match protocol {
        Protocol::Nbd => {
            let server = format!("addr.type=unix,addr.path={place},max-connections=0");
            command.arg("--nbd-server").arg(server);
            // The name that a client asks for that names none.
            format!("type=nbd,{export},name=")
        }
        Protocol::Fuse => format!("type=fuse,{export},mountpoint={place}"),
        Protocol::VhostUser => {
            format!("type=vhost-user-blk,{export},addr.type=unix,addr.path={place}")
        }
    };
    command.arg("--export").arg(export);
    command.arg("--pidfile").arg(pid);
    command
}

/// A path as a part of an option of qemu's.
fn quoted(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

fn option(name: &str, path: &Path) -> std::ffi::OsString {
    let mut option = std::ffi::OsString::from(name);
    option.push(path);
    option
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_comes_first_and_what_has_no_disk_is_no_rival() {
        for protocol in [Protocol::Nbd, Protocol::Fuse, Protocol::VhostUser] {
            let all = Contender::all(protocol, None);
            assert_eq!(all[0], Contender::Ours(Io::Auto));
            assert!(all.iter().any(|contender| contender.is_rival()));
            let is_nbd = protocol == Protocol::Nbd;
            assert_eq!(all.contains(&Contender::NoDisk), is_nbd);
        }
        assert!(!Contender::NoDisk.is_rival());
    }

    #[test]
    fn ours_is_there_once_where_it_was_asked_for_by_name() {
        let all = Contender::all(Protocol::Nbd, Some(Io::Threads));
        let ours: Vec<_> = all.iter().filter(|contender| contender.is_ours()).collect();
        assert_eq!(ours, [&Contender::Ours(Io::Threads)]);
        assert_eq!(all[0], *ours[0]);
    }

    #[test]
    fn a_comma_in_a_path_ends_no_option() {
        assert_eq!(quoted(Path::new("/a,b")), "/a,,b");
    }
}
