//! A directory with a file system in a backing file, a COW file over it, and the programs that
//! look at them.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use driver::blk::{Request, Status, Tag};
use driver::device_spec::DeviceSpec;
use driver::driver::Driver;
use driver::open::{OpenOptions, create, open};
use driver::units::Sector;
use harness::plain_format::{CowFile, Source};
use userhelper::real_files::RealHost;

use crate::support::cli::{Sandbox, output};
use crate::support::peers::peer;
use crate::support::uml::Uml;

/// The size of the backing file: whole sectors, because `uml_moo` drops a part of one.
pub(crate) const SIZE: u64 = 16 << 20;

pub(crate) const SECTOR: usize = 512;

/// What the file systems here are made of.
const BLOCK: usize = 4096;

/// One test's directory and programs.
pub(crate) struct Lab {
    pub(crate) sandbox: Sandbox,
    programs: BTreeMap<&'static str, PathBuf>,
}

impl Lab {
    /// An empty one, if these programs are there.
    pub(crate) fn with(programs: &[&'static str]) -> Option<Lab> {
        let found = programs.iter().map(|&name| Some((name, peer(name)?)));
        Some(Lab {
            programs: found.collect::<Option<_>>()?,
            sandbox: Sandbox::new(),
        })
    }

    pub(crate) fn uml(&self) -> Uml {
        Uml::new(self.programs["linux.uml"].clone())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.sandbox.path(name)
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.path("")
    }

    /// A device as UML's command line has it, with `@name` for a path in here.
    pub(crate) fn device(&self, text: &str) -> String {
        self.sandbox.args(&[text]).remove(0)
    }

    /// Runs a program, which has to end with one of these statuses; what it printed.
    pub(crate) fn run(&self, name: &str, args: &[&str], statuses: &[i32]) -> Vec<u8> {
        let output = output(
            Command::new(&self.programs[name])
                .args(self.sandbox.args(args))
                .current_dir(self.directory())
                .stdin(Stdio::null()),
        );
        assert!(
            output.status.code().is_some_and(|s| statuses.contains(&s)),
            "{name} {args:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    }

    /// Runs `ubdlab image`, which has to succeed and may say something beside it.
    pub(crate) fn image(&self, args: &[&str]) {
        let output = self.sandbox.run(&[&["image"], args].concat());
        let stderr = self.sandbox.text(&output.stderr);
        assert!(output.status.success(), "image {args:?}: {stderr}");
    }

    /// An ext4 file system with one file, `old`.
    pub(crate) fn make_ext4(&self, name: &str) {
        std::fs::create_dir_all(self.path("files")).unwrap();
        self.sandbox.write("files/old", content(1));
        File::create(self.path(name))
            .unwrap()
            .set_len(SIZE)
            .unwrap();
        let image = format!("@{name}");
        let args = ["-q", "-F", "-b", "4096", "-d", "@files", &image];
        self.run("mkfs.ext4", &args, &[0]);
    }

    /// A COW file over such a file system, `backing`, with another file, `new`. That file lies in
    /// the COW file, and so do the blocks of the file system that know of it. Returns what the
    /// device has to show.
    pub(crate) fn make_ext4_and_cow(&self, alignment: Option<u32>) -> Vec<u8> {
        self.make_ext4("backing");
        std::fs::copy(self.path("backing"), self.path("wanted")).unwrap();
        self.sandbox.write("files/new", content(2));
        let write = ["-w", "-R", "write files/new new", "@wanted"];
        self.run("debugfs", &write, &[0]);
        let wanted = self.sandbox.read("wanted");
        self.create_cow("cow", "backing", alignment);
        // Whole blocks as the kernel writes them, which reads wrong data after one that is dirty
        // in part: its defect last-run-offset.
        self.write_differences(BLOCK, "cow", "backing", &wanted);
        wanted
    }

    /// A COW file over a backing file that shows `wanted`, of the same length.
    pub(crate) fn make_cow(&self, cow: &str, backing: &str, alignment: Option<u32>, wanted: &[u8]) {
        self.create_cow(cow, backing, alignment);
        self.write_differences(SECTOR, cow, backing, wanted);
    }

    fn create_cow(&self, cow: &str, backing: &str, alignment: Option<u32>) {
        let paths = (self.path(cow), self.path(backing));
        drop(create(&RealHost, &paths.0, &paths.1, alignment).unwrap());
    }

    /// Writes every block of `unit` bytes in which the backing file differs from `wanted` to the
    /// device.
    pub(crate) fn write_differences(&self, unit: usize, cow: &str, backing: &str, wanted: &[u8]) {
        let spec: DeviceSpec = self
            .device(&format!("ubda=@{cow},@{backing}"))
            .parse()
            .unwrap();
        let mut device = open(&RealHost, &spec, OpenOptions::default())
            .unwrap()
            .device;
        let backing = self.sandbox.read(backing);
        assert_eq!(backing.len(), wanted.len());
        let units = backing.chunks(unit).zip(wanted.chunks(unit));
        for (n, (_, wanted)) in (0..).zip(units).filter(|(_, (old, new))| old != new) {
            let start = Sector(n * (unit / SECTOR) as u64);
            let request = Request::write(Tag(n), start, wanted.to_vec());
            assert_eq!(device.serve(request).unwrap().status, Status::Ok);
        }
        device.close().unwrap();
    }

    /// What the device shows: by `uml_moo`, by `ubdlab`, and byte for byte the same by the
    /// decoder here.
    pub(crate) fn agreed_content(&self, cow: &str, backing: &str) -> Vec<u8> {
        let decoded = decode(&self.path(cow), &self.path(backing)).content;
        let cow = format!("@{cow}");
        self.run("uml_moo", &[&cow, "@by-uml_moo"], &[0]);
        assert_same("uml_moo", &self.sandbox.read("by-uml_moo"), &decoded);
        self.image(&["merge", &cow, "@by-ubdlab"]);
        assert_same("ubdlab", &self.sandbox.read("by-ubdlab"), &decoded);
        for name in ["by-uml_moo", "by-ubdlab"] {
            std::fs::remove_file(self.path(name)).unwrap();
        }
        decoded
    }

    /// The file system in the image is whole and has both files.
    pub(crate) fn check_ext4(&self, image: &str) {
        let image = format!("@{image}");
        self.run("e2fsck", &["-fn", &image], &[0]);
        for (name, seed) in [("old", 1), ("new", 2)] {
            let cat = format!("cat {name}");
            let found = self.run("debugfs", &["-R", &cat, &image], &[0]);
            assert_same(name, &found, &content(seed));
        }
    }

    /// Makes the file system as large as its image, whose size is returned.
    pub(crate) fn enlarge_ext4(&self, image: &str) -> u64 {
        let argument = format!("@{image}");
        // What a UML that panicked has left in the journal. Status 1: it has changed something.
        self.run("e2fsck", &["-fy", &argument], &[0, 1]);
        self.run("resize2fs", &[&argument], &[0]);
        let superblock = &self.sandbox.read(image)[1024..2048];
        let field = |at: usize| u32::from_le_bytes(superblock[at..at + 4].try_into().unwrap());
        let (blocks, log_block_size) = (field(4), field(24));
        u64::from(blocks) << (10 + log_block_size)
    }
}

/// Some content of a file, which no two blocks have in common.
fn content(seed: u64) -> Vec<u8> {
    let numbers = seed << 32..(seed << 32) + (1 << 17);
    numbers.flat_map(u64::to_le_bytes).collect()
}

/// What a device shows, and how much of it comes from the COW file.
pub(crate) struct Decoded {
    pub(crate) content: Vec<u8>,
    pub(crate) dirty_sectors: u64,
}

/// Reads a COW file as the format's page says, with nothing of the driver's code.
pub(crate) fn decode(cow: &Path, backing: &Path) -> Decoded {
    let cow = CowFile::open(OnDisk::open(cow)).unwrap();
    Decoded {
        content: cow.disk(&OnDisk::open(backing)),
        dirty_sectors: cow.dirty().len() as u64,
    }
}

/// A file that is read where it is: with holes it may be long.
pub(crate) struct OnDisk(File);

impl OnDisk {
    pub(crate) fn open(path: &Path) -> OnDisk {
        OnDisk(File::open(path).unwrap())
    }
}

impl Source for OnDisk {
    fn len(&self) -> u64 {
        self.0.metadata().unwrap().len()
    }

    fn read(&self, at: u64, into: &mut [u8]) {
        let there = self.len().saturating_sub(at).min(into.len() as u64) as usize;
        self.0.read_exact_at(&mut into[..there], at).unwrap();
        into[there..].fill(0);
    }
}

/// Both are the same, or the first sector that differs is named.
pub(crate) fn assert_same(what: &str, found: &[u8], expected: &[u8]) {
    assert_eq!(found.len(), expected.len(), "the length of {what}");
    let sectors = found.chunks(SECTOR).zip(expected.chunks(SECTOR));
    if let Some(n) = sectors.enumerate().position(|(_, (a, b))| a != b) {
        panic!("{what} differs from sector {n} on");
    }
}
