//! A UML with user space: a shell, a few programs of this machine, and the module that makes a
//! disk of a virtio device. All of it is in an archive that the kernel unpacks into memory.

use std::fs::Permissions;
use std::io::{PipeWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use harness::guest::{Archive, libraries, virtio_blk};

use super::cli::Sandbox;
use super::peers::{peer, skip};
use super::uml::{Running, Uml};

/// What the guest has to run. perl makes the system calls for which there is no small program.
const PROGRAMS: [&str; 13] = [
    "sh",
    "perl",
    "mount",
    "umount",
    "mkdir",
    "cat",
    "dd",
    "tee",
    "sync",
    "sha256sum",
    "resize2fs",
    "switch_root",
    "dmesg",
];

/// The first process: it makes the disk appear, and then does what it is told.
const INIT: &str = r#"#!/bin/sh
export PATH=/bin
PS1=
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir /tmp
mount -t tmpfs tmp /tmp
echo 1 >/proc/sys/kernel/printk
perl -e 'open(my $f, "<", "/virtio_blk.ko") or die; my $none = "";
  syscall(313, fileno($f), $none, 0) == 0 or die "loading the module: $!"'
exec sh
"#;

/// The first process on a disk with a root file system. Over virtio the kernel's archive has come
/// before it, and it does what it is told. Over ubd it shows what is there, and that is all.
const DISK_INIT: &str = r#"#!/bin/sh
export PATH=/bin
PS1=
[ -e /dev/console ] || mount -t devtmpfs dev /dev
[ -e /proc/cmdline ] || mount -t proc proc /proc
[ -e /sys/block ] || mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
[ -e /sys/block/ubda ] || exec sh
exec >/dev/console 2>&1
echo "UP FROM $(cat /sys/block/ubda/size) SECTORS"
sha256sum /first /last
mount -o remount,ro /
"#;

/// Where the disk is mounted that is not the root file system.
const MOUNTED: &str = "/mnt";

/// Turns the machine off.
const POWER_OFF: &str = "perl -e 'syscall(169, 0xfee1dead, 672274793, 0x4321fedc)'";

/// A guest that does one command after the other.
pub(crate) struct Guest {
    running: Running,
    input: PipeWriter,
    commands: usize,
    /// Where its disk is mounted, without a slash at the end.
    disk: &'static str,
}

/// What it takes to start guests.
pub(crate) struct Guests {
    uml: Uml,
    archive: Vec<u8>,
    programs: Vec<(&'static str, PathBuf)>,
    /// Where the library is.
    _preload: Sandbox,
}

impl Guests {
    /// `None` where something is missing.
    pub(crate) fn find() -> Option<Guests> {
        let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let has_amx = processor.split_whitespace().any(|flag| flag == "amx_tile");
        Guests::find_with(has_amx)
    }

    /// Likewise, with or without the library that user space takes where there is AMX.
    pub(crate) fn find_with(amx_preload: bool) -> Option<Guests> {
        let mut uml = Uml::new(peer("linux.uml")?);
        let sandbox = Sandbox::new();
        if amx_preload {
            sandbox.succeeds(&["amx-preload", "@amx.so"]);
            uml = uml.with_preload(sandbox.path("amx.so"));
        }
        let mut archive = Archive::new();
        let Some(module) = virtio_blk() else {
            skip("UML's module virtio_blk is not installed");
            return None;
        };
        archive.file("virtio_blk.ko", 0o644, &std::fs::read(module).unwrap());
        archive.file("init", 0o755, INIT.as_bytes());
        let programs = PROGRAMS.map(|name| peer(name).map(|program| (name, program)));
        let programs: Option<Vec<_>> = programs.into_iter().collect();
        let programs = programs?;
        for (name, program) in &programs {
            archive.program(name, program).unwrap();
        }
        Some(Guests {
            uml,
            archive: archive.end(),
            programs,
            _preload: sandbox,
        })
    }

    /// UML itself.
    pub(crate) fn uml(&self) -> &Uml {
        &self.uml
    }

    /// Makes a root file system in this directory, which is empty.
    pub(crate) fn make_root(&self, directory: &Path) {
        let put = |from: &Path, name: &Path| {
            let to = directory.join(name);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            // With its permissions.
            std::fs::copy(from, to).unwrap();
        };
        for (name, program) in &self.programs {
            put(program, &Path::new("bin").join(name));
            for library in libraries(program).unwrap() {
                put(&library, library.strip_prefix("/").unwrap());
            }
        }
        for empty in ["dev", "proc", "sys", "tmp"] {
            std::fs::create_dir(directory.join(empty)).unwrap();
        }
        let init = [DISK_INIT, POWER_OFF, "\n"].concat();
        let script = directory.join("sbin/init");
        std::fs::create_dir(script.parent().unwrap()).unwrap();
        std::fs::write(&script, init).unwrap();
        std::fs::set_permissions(script, Permissions::from_mode(0o755)).unwrap();
    }

    /// Boots a guest whose root file system is on the disk at the socket: what is in the archive
    /// only leads there, as in the recipe of `ubdlab serve --help`.
    pub(crate) fn boot_from(&self, directory: &Path, socket: &Path) -> Guest {
        let mut guest = self.boot(directory, socket);
        guest.run(&format!("mount -t ext4 /dev/vda {MOUNTED}"));
        let switch = format!("exec switch_root {MOUNTED} /sbin/init\n");
        guest.input.write_all(switch.as_bytes()).unwrap();
        guest.disk = "";
        guest
    }

    /// Boots a guest whose disk is at the socket.
    pub(crate) fn boot(&self, directory: &Path, socket: &Path) -> Guest {
        let disk = format!("virtio_uml.device={}:2", socket.display());
        let mut guest = self.boot_with(directory, &[&disk]);
        guest.run("cat /sys/block/vda/size");
        guest
    }

    /// Boots a guest with these words on its command line.
    pub(crate) fn boot_with(&self, directory: &Path, words: &[&str]) -> Guest {
        let archive = directory.join("initrd");
        std::fs::write(&archive, &self.archive).unwrap();
        let initrd = format!("initrd={}", archive.display());
        let args = [&[&initrd, "rdinit=/init"], words].concat();
        let (input, running) = self.uml.console(directory, &args);
        Guest {
            running,
            input,
            commands: 0,
            disk: MOUNTED,
        }
    }
}

impl Guest {
    /// Runs a command, which has to succeed; what it prints.
    pub(crate) fn run(&mut self, command: &str) -> String {
        self.commands += 1;
        let number = self.commands;
        // The terminal shows what is written to it. So what is searched for is written otherwise.
        let line = format!("echo BE''GIN {number}; {command}; echo EN''D {number} $?\n");
        self.input.write_all(line.as_bytes()).unwrap();
        let (begin, end) = (format!("BEGIN {number}"), format!("END {number} "));
        let start = self.running.console.len();
        loop {
            assert!(
                self.running.read_line(),
                "{command:?} did not end:\n{}",
                self.running.console
            );
            let said = &self.running.console[start..];
            let Some((said, status)) = said.split_once(&end) else {
                continue;
            };
            assert_eq!(status.trim(), "0", "{command:?}:\n{said}");
            let (_, said) = said.split_once(&begin).unwrap();
            return said.replace('\r', "").trim().to_owned();
        }
    }

    /// The size of the disk in sectors, as the guest sees it.
    pub(crate) fn sectors(&mut self) -> u64 {
        self.run("cat /sys/block/vda/size").parse().unwrap()
    }

    /// Waits until the disk has this size.
    pub(crate) fn wait_for_sectors(&mut self, sectors: u64) {
        self.run(&format!(
            "while [ $(cat /sys/block/vda/size) != {sectors} ]; do :; done"
        ));
    }

    /// Writes a file of random content and syncs it. Its checksum, from before it was written.
    pub(crate) fn write(&mut self, name: &str, mebibytes: u64) -> String {
        let disk = self.disk;
        let said = self.run(&format!(
            "dd if=/dev/urandom bs=1M count={mebibytes} 2>/dev/null | tee {disk}/{name} | \
             sha256sum && sync"
        ));
        checksum(&said)
    }

    /// The checksum of a file.
    pub(crate) fn checksum(&mut self, name: &str) -> String {
        checksum(&self.run(&format!("sha256sum {}/{name}", self.disk)))
    }

    /// Begins a command that goes on beside the others; `wait` waits for it.
    pub(crate) fn begin(&mut self, command: &str) {
        self.run(&format!("{{ ({command}) >/tmp/beside 2>&1 & }}"));
    }

    /// Begins a command that never ends, and reads on until it has printed `count` lines with this
    /// word in front. What follows the word, of each.
    pub(crate) fn watch(&mut self, command: &str, word: &str, count: usize) -> Vec<String> {
        self.input.write_all(command.as_bytes()).unwrap();
        self.input.write_all(b"\n").unwrap();
        let mut seen = Vec::new();
        while seen.len() < count {
            let start = self.running.console.len();
            assert!(
                self.running.read_line(),
                "it ended:\n{}",
                self.running.console
            );
            let line = self.running.console[start..].trim();
            seen.extend(line.strip_prefix(word).map(|rest| rest.trim().to_owned()));
        }
        seen
    }

    /// Turns it off and waits for its end.
    pub(crate) fn power_off(mut self) {
        self.input.write_all(POWER_OFF.as_bytes()).unwrap();
        self.input.write_all(b"\n").unwrap();
        while self.running.read_line() {}
        let console = &self.running.console;
        assert!(!console.contains("Kernel panic"), "{console}");
    }
}

fn checksum(said: &str) -> String {
    said.split_whitespace().next().unwrap().to_owned()
}
