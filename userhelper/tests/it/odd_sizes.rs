//! Devices whose sizes lie around the borders of the bitmap, in its bytes, words and pages, with
//! and without a partial last sector: every tool ends in what it should or in an error, and
//! leaves no temporary file.

use std::ops::ControlFlow;
use std::path::Path;

use driver::blk::{Request, Status, Tag};
use driver::cow::{
    ByteOrder, Extension, Geometry, Header, JournalRecord, SECTORS_PER_PAGE, SectorMap, Version,
};
use driver::driver::Driver;
use driver::host::{Access, HostError, HostFile, HostNames};
use driver::memory::MemoryHost;
use driver::open::{OpenOptions, open, temporary_name};
use driver::resize::Strategy as How;
use driver::units::{Bytes, FileOffset, Sector, SectorCount, SectorRange};
use proptest::prelude::*;
use userhelper::image::check::{Fault, Finding, check, check_and_repair};
use userhelper::image::compare::compare;
use userhelper::image::convert::{CowVersion, to_cow, to_raw};
use userhelper::image::create::{Wish as NewImage, create};
use userhelper::image::info::info;
use userhelper::image::map::mapped_runs;
use userhelper::image::merge::{in_place, open_both};
use userhelper::image::open::{Format, Image, Trust, open_image, open_unlocked};
use userhelper::image::rebase::{rebase, rebase_unsafely};
use userhelper::image::recover::recover;
use userhelper::image::resize::{carry_out, extend_backing, open_for_resize, plan_resize};
use userhelper::planner::{Shrink, Wish};

const COW: &str = "/disk/cow";
const BACKING: &str = "/disk/backing";
const OTHER: &str = "/disk/other";
const OUTPUT: &str = "/disk/output";

const PAGE: u64 = SECTORS_PER_PAGE.0;

/// A disk of some odd size, and what lies over its backing file.
#[derive(Clone, Debug)]
struct Disk {
    version: Version,
    alignment: u32,
    /// In bytes.
    size: u64,
    dirty: Vec<SectorRange>,
    /// The bit of the partial last sector is set, which means nothing.
    stray_bit: bool,
}

impl Disk {
    fn sectors(&self) -> u64 {
        self.size / 512
    }

    fn header(&self) -> Header {
        let path = Path::new(BACKING);
        let header = Header::v3(path, 0, Bytes(self.size), self.alignment).unwrap();
        let old = matches!(self.version, Version::V1 | Version::V2);
        Header {
            version: self.version,
            byte_order: match self.version {
                Version::V1 => ByteOrder::Little,
                _ => ByteOrder::Big,
            },
            alignment: if old { 512 } else { self.alignment },
            ..header
        }
    }

    fn geometry(&self) -> Geometry {
        Geometry::of(&self.header()).unwrap()
    }

    /// Sectors worth looking at: those around every border that there is.
    fn places(&self) -> impl Iterator<Item = u64> {
        let sectors = self.sectors();
        let borders = [0, 64, PAGE, 2 * PAGE, sectors];
        let around = borders
            .into_iter()
            .flat_map(|at| at.saturating_sub(9)..at + 9);
        around.filter(move |&at| at < sectors)
    }

    fn is_dirty(&self, sector: u64) -> bool {
        let mapped = self.geometry().mapped().0;
        let sector = SectorRange::new(Sector(sector), SectorCount(1));
        sector.start.0 < mapped && self.dirty.iter().any(|run| run.overlaps(sector))
    }

    /// What every byte of a sector is; the partial last one is the backing file's.
    fn shows(&self, sector: u64) -> u8 {
        match self.is_dirty(sector) {
            true => sector as u8 | 0x80,
            false => backing_byte(sector),
        }
    }

    /// A host with the image, its backing file, and another backing file of this size.
    fn host(&self) -> MemoryHost {
        let host = MemoryHost::new();
        for (path, salt) in [(BACKING, 0), (OTHER, 0x40)] {
            let file = host.file(path, &[]);
            file.set_len(Bytes(self.size)).unwrap();
            let partial = (!self.size.is_multiple_of(512)).then_some(self.sectors());
            for sector in self.places().chain(partial) {
                let len = (self.size - sector * 512).min(512) as usize;
                let content = vec![backing_byte(sector) ^ salt; len];
                file.write_all_at(&content, FileOffset(sector * 512))
                    .unwrap();
            }
        }
        let geometry = self.geometry();
        let file = host.file(COW, &self.header().encode());
        if self.version == Version::V3 && Extension::fits(&geometry) {
            let block = Extension::new(Bytes(self.size)).encode();
            file.write_all_at(&block, Extension::OFFSET).unwrap();
        }
        let mut map = SectorMap::new(geometry.capacity()).unwrap();
        for run in &self.dirty {
            for sector in run.start.0..run.end().0.min(geometry.mapped().0) {
                map.mark_dirty(SectorRange::new(Sector(sector), SectorCount(1)));
                let at = geometry.place_of(Sector(sector));
                file.write_all_at(&[sector as u8 | 0x80; 512], at).unwrap();
            }
        }
        let mut bits = vec![0; geometry.bitmap_len.0 as usize];
        map.copy_bitmap(Bytes(0), &mut bits);
        let (byte, bit) = (self.sectors() / 8, self.sectors() % 8);
        if self.stray_bit && byte < geometry.bitmap_len.0 {
            bits[byte as usize] |= 1 << bit;
        }
        file.write_all_at(&bits, geometry.bitmap_offset).unwrap();
        file.set_len(geometry.data_end() - FileOffset(0)).unwrap();
        host
    }

    /// The image at `path` shows this disk, the bytes after the last whole sector too.
    fn assert_whole(&self, host: &MemoryHost, path: &str, what: &str) {
        let sectors = self.sectors();
        self.assert_shown(host, path, sectors, what);
        let image = open_image(host, Path::new(path), Format::Guess, Trust::Follow).unwrap();
        assert_eq!(image.size(), Bytes(self.size), "{what}");
        let tail = vec![backing_byte(sectors); (self.size % 512) as usize];
        assert_bytes(&image, sectors * 512, &tail, what);
    }

    /// The image at `path` shows this disk, as far as `sectors` go, and zeros after its end.
    fn assert_shown(&self, host: &MemoryHost, path: &str, sectors: u64, what: &str) {
        let image = open_image(host, Path::new(path), Format::Guess, Trust::Follow)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        for sector in self.places().filter(|&sector| sector < sectors) {
            assert_bytes(&image, sector * 512, &[self.shows(sector); 512], what);
        }
        for sector in self.sectors() + 1..sectors.min(self.sectors() + 12) {
            assert_bytes(&image, sector * 512, &[0; 512], what);
        }
    }
}

fn backing_byte(sector: u64) -> u8 {
    (sector % 61) as u8 | 1
}

fn assert_bytes(image: &Image<driver::memory::MemoryFile>, at: u64, expected: &[u8], what: &str) {
    let mut found = vec![0; expected.len()];
    image.read(&mut found, FileOffset(at)).unwrap();
    assert!(
        found == expected,
        "{what}: sector {}: found {:#x}, expected {:#x}",
        at / 512,
        found[0],
        expected[0]
    );
}

fn assert_no_temporary(host: &MemoryHost, what: &str) {
    for path in [COW, BACKING, OTHER, OUTPUT] {
        let temporary = host.open(&temporary_name(Path::new(path)), Access::ReadOnly);
        let gone = matches!(temporary, Err(HostError::NotFound));
        assert!(gone, "{what} leaves a temporary file for {path}");
    }
}

fn assert_no_bits_past_end(host: &MemoryHost, what: &str) {
    let checked = check(host, Path::new(COW), Trust::Follow, &mut watch).unwrap();
    let stray = |finding: &Finding| finding.fault == Fault::BitsPastEnd;
    assert!(!checked.findings.iter().any(stray), "{what}: {checked:?}");
}

fn watch(_: Bytes, _: Bytes) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// The device: reads, writes, closes, and finds it again.
fn live(disk: &Disk) {
    let host = disk.host();
    let bring_up = || {
        let spec = format!("ubda={COW}").parse().unwrap();
        open(&host, &spec, OpenOptions::default()).unwrap().device
    };
    let mut device = bring_up();
    assert_eq!(device.capacity(), SectorCount(disk.sectors()));
    let last = device.geometry().unwrap().mapped().0.saturating_sub(1);
    for request in [
        Request::write(Tag(1), Sector(last), vec![0xee; 512]),
        Request::flush(Tag(2)),
    ] {
        assert_eq!(device.serve(request).unwrap().status, Status::Ok);
    }
    drop(device.close().unwrap());
    assert!(bring_up().map().is_dirty(Sector(last)));
    drop(host);
}

fn look_at(disk: &Disk) {
    let host = disk.host();
    let path = Path::new(COW);
    disk.assert_whole(&host, COW, "reading");
    info(&host, path, Trust::Follow).unwrap();
    let opened = open_unlocked(&host, path, Format::Cow).unwrap();
    let mapped: u64 = mapped_runs(&opened.device)
        .map(|run| run.unwrap().range.count.0)
        .sum();
    assert_eq!(mapped, disk.sectors());
    check(&host, path, Trust::Follow, &mut watch).unwrap();
    check_and_repair(&host, path, Trust::Follow, &mut watch).unwrap();
    let again = check_and_repair(&host, path, Trust::Follow, &mut watch).unwrap();
    assert_eq!(again.repaired, []);
    disk.assert_whole(&host, COW, "check --repair");
    assert_no_temporary(&host, "looking");
}

fn copy(disk: &Disk) {
    let host = disk.host();
    let output = Path::new(OUTPUT);
    let image = open_image(&host, Path::new(COW), Format::Cow, Trust::Follow).unwrap();
    to_raw(&host, &image, output, &mut watch).unwrap();
    assert_no_temporary(&host, "convert");
    disk.assert_whole(&host, OUTPUT, "convert");
    host.remove(output).unwrap();
    for backing in [BACKING, OTHER] {
        for version in [CowVersion::V2, CowVersion::V3 { alignment: 4096 }] {
            let what = format!("convert --backing {backing} to {version:?}");
            let made = to_cow(
                &host,
                &image,
                Path::new(backing),
                version,
                output,
                &mut watch,
            );
            assert_no_temporary(&host, &what);
            match made {
                Ok(_) => {
                    disk.assert_whole(&host, OUTPUT, &what);
                    let made = open_image(&host, output, Format::Cow, Trust::Follow).unwrap();
                    let compared = compare(&host, &image, &made, &mut watch).unwrap();
                    assert_eq!(compared.first, None, "{what}");
                    host.remove(output).unwrap();
                }
                Err(_) => assert!(host.open(output, Access::ReadOnly).is_err(), "{what}"),
            }
        }
    }
    // A new device over this backing file, as large as it and larger.
    for more in [0, 512, 16 << 20] {
        let size = Some(Bytes(disk.sectors() * 512 + more)).filter(|_| more > 0);
        let wish = NewImage {
            size,
            max_size: None,
        };
        let created = create(&host, output, Path::new(BACKING), wish);
        assert_no_temporary(&host, "create");
        if created.is_ok() {
            open_image(&host, output, Format::Cow, Trust::Follow).unwrap();
            host.remove(output).unwrap();
        }
    }
}

fn change(disk: &Disk) {
    let (path, sectors) = (Path::new(COW), disk.sectors());
    let host = disk.host();
    let mut cow = open_both(&host, path, Trust::Follow).unwrap();
    let merged = in_place(&host, &mut cow, &mut watch);
    drop(cow);
    assert_no_temporary(&host, "merge --in-place");
    disk.assert_whole(&host, COW, "merge --in-place");
    if merged.is_ok() {
        disk.assert_whole(&host, BACKING, "merge --in-place");
    }
    let host = disk.host();
    let _ = rebase(&host, path, Path::new(OTHER), Trust::Follow, &mut watch);
    assert_no_temporary(&host, "rebase");
    disk.assert_shown(&host, COW, sectors, "rebase");
    let host = disk.host();
    let _ = rebase_unsafely(&host, path, Path::new(OTHER));
    open_image(&host, path, Format::Cow, Trust::Follow).unwrap();
    let host = disk.host();
    recover(&host, path, Format::Cow, Trust::Follow, &mut watch).unwrap();
    disk.assert_whole(&host, COW, "recover");
}

/// By every strategy, up and down, across every border.
fn resize(disk: &Disk) {
    let (path, sectors) = (Path::new(COW), disk.sectors());
    for new in [
        sectors + 1,
        sectors + 9,
        PAGE,
        PAGE + 1,
        2 * PAGE + 8,
        sectors - 1,
    ] {
        for strategy in [How::Headroom, How::Rebuild, How::Reflow] {
            let what = format!("{strategy} to {new} sectors");
            let host = disk.host();
            let mut cow = open_for_resize(&host, path, Trust::Follow, true).unwrap();
            let wish = Wish {
                new_size: SectorCount(new).bytes(),
                strategy: Some(strategy),
                shrink: Shrink::LosingData,
                online: false,
            };
            let resized = plan_resize(&host, &cow, wish)
                .and_then(|plan| carry_out(&host, &mut cow, &plan, &mut watch));
            assert_no_temporary(&host, &what);
            let now = if resized.is_ok() { new } else { sectors };
            if resized.is_ok() {
                let _ = extend_backing(&host, &mut cow, &mut watch);
            }
            drop(cow);
            disk.assert_shown(&host, COW, now, &what);
            if resized.is_ok() {
                assert_no_bits_past_end(&host, &what);
            }
        }
    }
}

/// A reflow to this disk's size that was interrupted before anything was moved.
fn finish_reflow(disk: &Disk) {
    let mut old = disk.clone();
    (old.size, old.alignment, old.version) = (48 * 512, 4096, Version::V3);
    let host = old.host();
    let record = JournalRecord {
        sequence: 1,
        frontier: Sector(48),
        old_size: Bytes(old.size),
        old_alignment: old.alignment,
        new_size: Bytes(disk.size),
        new_alignment: 1 << 20,
    };
    let mut header = old.header();
    header.relocating = true;
    let file = host.open(Path::new(COW), Access::ReadWrite).unwrap();
    file.write_all_at(&header.first_sector(), FileOffset(0))
        .unwrap();
    file.write_all_at(&record.encode(), record.slot_offset())
        .unwrap();
    let end = record.new_geometry().unwrap().data_end();
    file.set_len(end - FileOffset(0)).unwrap();
    drop(file);
    let recovered = recover(
        &host,
        Path::new(COW),
        Format::Cow,
        Trust::Follow,
        &mut watch,
    );
    recovered.unwrap();
    old.assert_shown(&host, COW, disk.sectors(), "recover");
}

fn exercise(disk: &Disk) {
    live(disk);
    look_at(disk);
    copy(disk);
    change(disk);
    resize(disk);
    finish_reflow(disk);
}

/// Two pages of bitmap, and a third with nothing but room for the bit of the partial last sector.
#[test]
fn a_partial_last_sector_with_its_bit_in_a_page_of_its_own() {
    for version in [Version::V1, Version::V2, Version::V3, Version::V3Wide] {
        for (partial, stray_bit) in [(1, false), (100, true), (511, false)] {
            exercise(&Disk {
                version,
                alignment: 4096,
                size: 2 * PAGE * 512 + partial,
                dirty: vec![SectorRange::new(Sector(2 * PAGE - 5), SectorCount(5))],
                stray_bit,
            });
        }
    }
}

fn disk() -> impl Strategy<Value = Disk> {
    let version = prop_oneof![
        1 => Just(Version::V1),
        1 => Just(Version::V2),
        4 => Just(Version::V3),
        1 => Just(Version::V3Wide),
    ];
    let alignment = prop_oneof![Just(512_u32), Just(4096), Just(1 << 16), Just(1 << 20)];
    let border = prop_oneof![
        1 => Just(64_u64),
        1 => Just(4096),
        2 => Just(PAGE),
        2 => Just(2 * PAGE),
    ];
    let partial = prop_oneof![Just(0_u64), Just(1), Just(511), 1..512_u64];
    let sectors = (border, 0..18_u64).prop_map(|(border, more)| border + more - 9);
    let runs = prop::collection::vec((0..5_usize, 0..18_u64, 1..12_u64), 0..5);
    let shape = (version, alignment, sectors, partial);
    (shape, runs, any::<bool>()).prop_map(
        |((version, alignment, sectors, partial), runs, stray_bit)| {
            let borders = [0, 64, PAGE, 2 * PAGE, sectors];
            let run = |(border, more, count): (usize, u64, u64)| {
                let start = (borders[border] + more).saturating_sub(9);
                (start < sectors).then(|| {
                    SectorRange::new(Sector(start), SectorCount(count.min(sectors - start)))
                })
            };
            Disk {
                version,
                alignment,
                size: sectors * 512 + partial,
                dirty: runs.into_iter().filter_map(run).collect(),
                stray_bit,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_tool_takes_every_size(disk in disk()) {
        exercise(&disk);
    }
}
