//! The device as the disk of a UML guest, over vhost-user. The client is fio, in the guest.

use std::path::{Path, PathBuf};

use crate::bench::programs::{find, missing};
use crate::bench::{BenchError, Row, Settings, Unit};
use crate::guest::{Archive, Machine, MachineError, user_space_starts, virtio_blk};

use super::contender::{Contender, Protocol};
use super::files::SIZE;
use super::fio::{FIO, Report, Target, Work, words};
use super::lab::{Content, Lab};
use super::turns::in_turns;

/// How many times the rate of the best peer it is to have.
const TIMES: f64 = 1.5;

const BLOCK: u64 = 4096;

/// Requests of a turn.
const REQUESTS: u64 = 8192;

/// The guest's memory: fio's libraries are large.
const MEMORY: &str = "mem=512M";

const UML: &str = "linux.uml";

const BUSYBOX: &str = "busybox";

/// The first process: it makes the disk appear, and then does what it is told.
const INIT: &str = "#!/bin/busybox sh
export PATH=/bin PS1=
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir /tmp
echo 1 >/proc/sys/kernel/printk
insmod /virtio_blk.ko
exec sh
";

const CASES: [(&str, &str, usize); 3] = [
    ("read, depth 1", "randread", 1),
    ("read, depth 32", "randread", 32),
    ("write, depth 32", "randwrite", 32),
];

fn name(what: &str) -> String {
    format!("serve/vhost-user in a UML guest, 4 KiB {what}")
}

/// Whether a row of these is asked for.
pub(super) fn is_wanted(settings: Settings<'_>) -> bool {
    CASES.iter().any(|(what, ..)| settings.wanted(&name(what)))
}

pub(super) fn measure(
    lab: &mut Lab<'_>,
    each: &mut impl FnMut(Vec<Row>),
) -> Result<(), BenchError> {
    let settings = lab.settings;
    let cases = CASES.map(|(what, pattern, depth)| (name(what), pattern, depth));
    let cases = cases.into_iter().filter(|(name, ..)| settings.wanted(name));
    let cases: Vec<_> = cases.collect();
    if cases.is_empty() {
        return Ok(());
    }
    let guests = match Guests::find(lab)? {
        Ok(guests) => guests,
        Err(needs) => {
            let skipped = cases
                .iter()
                .map(|(name, ..)| Row::skipped(name, Unit::PerSecond, &needs));
            each(skipped.collect());
            return Ok(());
        }
    };
    lab.fill(Content::All)?;
    for (name, pattern, depth) in cases {
        let work = Work {
            pattern,
            block: BLOCK,
            depth,
            bytes: REQUESTS * BLOCK,
            size: SIZE.0,
        };
        let contenders = Contender::all(Protocol::VhostUser, settings.io);
        let rates = in_turns(settings, &contenders, |one| guests.turn(lab, one, work))?;
        each(rates.rows(&name, TIMES));
    }
    Ok(())
}

/// What it takes to start guests.
struct Guests {
    uml: PathBuf,
    archive: PathBuf,
}

impl Guests {
    /// `Err` within `Ok` says in words what is missing.
    fn find(lab: &Lab<'_>) -> Result<Result<Guests, String>, BenchError> {
        let programs = [UML, BUSYBOX, FIO].map(find);
        let ([Some(uml), Some(busybox), Some(fio)], Some(module)) = (programs, virtio_blk()) else {
            let missing = missing(&[UML, BUSYBOX, FIO]);
            return Ok(Err(missing.unwrap_or_else(|| "UML's modules".into())));
        };
        if !user_space_starts() {
            return Ok(Err("a processor without AMX".into()));
        }
        let archive = lab.files.named("initrd");
        let made = || {
            let mut content = Archive::new();
            content.file("virtio_blk.ko", 0o644, &std::fs::read(module)?);
            content.file("init", 0o755, INIT.as_bytes());
            content.program(BUSYBOX, &busybox)?;
            content.program(FIO, &fio)?;
            std::fs::write(&archive, content.end())
        };
        made().map_err(BenchError::file(&archive, "making"))?;
        Ok(Ok(Guests { uml, archive }))
    }

    /// The requests a second of a turn, by the guest's own account.
    fn turn(&self, lab: &Lab<'_>, contender: Contender, work: Work) -> Result<f64, BenchError> {
        let serving = lab.serve(contender, Protocol::VhostUser)?;
        let socket = contender.place(&lab.files, Protocol::VhostUser);
        let boot = [
            MEMORY.to_owned(),
            format!("initrd={}", self.archive.display()),
            format!("virtio_uml.device={}:2", socket.display()),
            "rdinit=/init".to_owned(),
        ];
        let stop = lab.settings.stop;
        let directory = &lab.files.directory;
        let mut guest = Machine::boot(&self.uml, directory, &boot, stop).map_err(told)?;
        guest.run("cat /sys/block/vda/size").map_err(told)?;
        // So that the server's page cache has it.
        let read_all = "dd if=/dev/vda of=/dev/null bs=1M 2>/dev/null";
        guest.run(read_all).map_err(told)?;
        guest
            .run("echo 3 >/proc/sys/vm/drop_caches")
            .map_err(told)?;
        let words = words(Target::Device(Path::new("/dev/vda")), work);
        let said = guest.run(&format!("fio --thread {}", words.join(" ")));
        let report = Report::parse(&said.map_err(told)?);
        drop(guest);
        serving.write_back()?;
        let report = report.map_err(BenchError::Device)?;
        Ok(report.rate())
    }
}

fn told(error: MachineError) -> BenchError {
    match error {
        MachineError::Stopped => BenchError::Interrupted,
        error => BenchError::Device(error.to_string()),
    }
}
