//! The table of docs/images.md, "After an interruption", row by row: what each tool may leave when
//! it is interrupted, what `check` says of that, what `recover` says that it did, and what `check`
//! says then. A row that is documented and never seen fails, and so does the reverse.

use std::collections::BTreeSet;
use std::path::Path;

use driver::cow::{Extension, Version};
use driver::device_spec::DeviceSpec;
use driver::open::{OpenOptions, open};
use driver::resize::Strategy;
use driver::units::{Bytes, Sector};
use harness::sim::SimHost;
use harness::stamp::Stamp;
use userhelper::image::ImageError;
use userhelper::image::check::{Fault, check, check_and_repair};
use userhelper::image::convert::{CowVersion, to_cow, to_raw};
use userhelper::image::create::{self, create};
use userhelper::image::merge::{in_place, open_both};
use userhelper::image::open::{Format, Trust, close, open_image};
use userhelper::image::rebase::{rebase, rebase_unsafely};
use userhelper::image::recover::{Recovered, recover};
use userhelper::image::resize::{carry_out, extend_backing, open_for_resize, plan_resize};
use userhelper::planner::{Shrink, Wish};

use super::story::{Tool, ends, go_on};
use super::world::{BACKING, COW, Layout, OTHER, TIME, host, install_cow, install_disk, stamped};
use crate::world::explore::Context;

const SECTORS: u64 = 75;
const LEN: u64 = SECTORS * 512;
const NEW: &str = "new";
const VERSIONS: [Version; 4] = [Version::V1, Version::V2, Version::V3Wide, Version::V3];

/// How many of the power cuts at one moment are drawn.
const POWER_CUTS: u64 = 4;

/// An interruption and what is documented of it.
struct Row<'a> {
    tool: Tool<'a>,
    /// The name that `recover` is given.
    file: &'a str,
    /// What `check` finds before.
    found: &'a [Fault],
    /// What `recover` did: see [`said`].
    said: &'a [&'a str],
    /// What `check` finds after.
    left: &'a [Fault],
}

/// What a recovery says that it did.
fn said(recovered: Recovered) -> Vec<&'static str> {
    let Recovered {
        header,
        resized,
        backing_change,
        past_end,
        temporary,
    } = recovered;
    let all = [
        (header, "header"),
        (resized.is_some(), "resize"),
        (backing_change, "change"),
        (past_end, "past the end"),
        (temporary, "new file"),
    ];
    let said = all.into_iter().filter_map(|(is, what)| is.then_some(what));
    said.collect()
}

fn faults(host: &SimHost, file: &str) -> Vec<Fault> {
    if host.content(file).is_none() {
        return Vec::new();
    }
    let checked = check(host, Path::new(file), Trust::Follow, &mut go_on).unwrap();
    let faults = checked.findings.iter().map(|it| it.fault);
    // Old versions have that from their making.
    faults.filter(|it| *it != Fault::ShortBitmap).collect()
}

impl Row<'_> {
    /// Interrupts the tool before each of its changes, by a kill and by power cuts.
    fn holds(&self, name: &str, host: &SimHost) {
        let whole = host.after_kill();
        (self.tool)(&whole).unwrap();
        let (mut found, mut told, mut left) = <(BTreeSet<_>, BTreeSet<_>, BTreeSet<_>)>::default();
        for at in 0..=whole.changes() {
            let host = host.after_kill();
            host.crash_before_change(at);
            let _ = (self.tool)(&host);
            for (how, image) in ends(&host, at, POWER_CUTS) {
                let _what = Context(format!("{name}: before change {at}, {how}"));
                // A raw disk has nothing to check.
                let checked = self.file == COW;
                if checked {
                    found.extend(faults(&image, COW));
                }
                told.extend(self.recover(&image));
                if checked {
                    left.extend(faults(&image, COW));
                }
                assert_eq!(self.recover(&image), [""; 0], "there was more");
            }
        }
        let set = |documented: &[Fault]| documented.iter().copied().collect::<BTreeSet<_>>();
        assert_eq!(found, set(self.found), "{name}: what a check finds before");
        let documented: BTreeSet<_> = self.said.iter().copied().collect();
        assert_eq!(told, documented, "{name}: what is recovered");
        assert_eq!(left, set(self.left), "{name}: what a check finds after");
    }

    fn recover(&self, host: &SimHost) -> Vec<&'static str> {
        let (path, format) = match self.file {
            COW => (Path::new(COW), Format::Cow),
            name => (Path::new(name), Format::Guess),
        };
        match recover(host, path, format, Trust::Follow, &mut go_on) {
            Ok(recovered) => said(recovered),
            // Nothing was made, and nothing is left of it.
            Err(error) => {
                assert!(host.content(self.file).is_none(), "{error}");
                Vec::new()
            }
        }
    }
}

fn world(version: Version) -> SimHost {
    let host = host();
    install_disk(&host, BACKING, &stamped(LEN, Stamp::BACKING), TIME);
    let mut other = stamped(LEN, Stamp::BACKING);
    Stamp(7).fill(Sector(60), &mut other[60 * 512..72 * 512]);
    install_disk(&host, OTHER, &other, TIME + 1000);
    let layout = Layout {
        version,
        alignment: if version == Version::V3 { 4096 } else { 512 },
        ours: version == Version::V3,
        size: LEN,
        dirty: &[(2, 1, Some(1)), (8, 28, Some(2)), (40, 6, None)],
    };
    install_cow(&host, COW, BACKING, layout);
    host
}

fn resize(host: &SimHost, sectors: u64, strategy: Strategy) -> Result<(), ImageError> {
    let path = Path::new(COW);
    let mut cow = open_for_resize(host, path, Trust::Follow, false)?;
    let wish = Wish {
        new_size: Bytes(sectors * 512),
        strategy: Some(strategy),
        shrink: Shrink::LosingData,
        online: false,
    };
    let plan = plan_resize(host, &cow, wish)?;
    carry_out(host, &mut cow, &plan, &mut go_on)?;
    close(cow.device, path)
}

#[test]
fn create_convert_and_merge_into_a_new_file() {
    let made: Tool<'_> = &|host| {
        let wish = create::Wish {
            size: Some(Bytes(LEN + 20 * 512)),
            max_size: None,
        };
        create(host, Path::new(NEW), Path::new(BACKING), wish).map(drop)
    };
    let raw: Tool<'_> = &|host| {
        let image = open_image(host, Path::new(COW), Format::Cow, Trust::Follow)?;
        to_raw(host, &image, Path::new(NEW), &mut go_on).map(drop)
    };
    let cow: Tool<'_> = &|host| {
        let image = open_image(host, Path::new(COW), Format::Cow, Trust::Follow)?;
        let (backing, new) = (Path::new(BACKING), Path::new(NEW));
        to_cow(host, &image, backing, CowVersion::V2, new, &mut go_on).map(drop)
    };
    for (name, tool) in [("create", made), ("merge", raw), ("convert", cow)] {
        Row {
            tool,
            file: NEW,
            found: &[],
            said: &["new file"],
            left: &[],
        }
        .holds(name, &world(Version::V3));
    }
}

#[test]
fn resize_within_its_headroom() {
    Row {
        tool: &|host| resize(host, SECTORS + 20, Strategy::Headroom),
        file: COW,
        found: &[Fault::BitsPastEnd, Fault::TrailingHole],
        said: &["past the end"],
        left: &[],
    }
    .holds("grow", &world(Version::V3));
    Row {
        tool: &|host| resize(host, 24, Strategy::Headroom),
        file: COW,
        found: &[Fault::BitsPastEnd, Fault::TrailingData],
        said: &["past the end"],
        left: &[],
    }
    .holds("shrink", &world(Version::V3));
}

#[test]
fn resize_by_rebuild() {
    for version in VERSIONS {
        Row {
            tool: &|host| resize(host, SECTORS + 20, Strategy::Rebuild),
            file: COW,
            found: &[],
            said: &["new file"],
            left: &[],
        }
        .holds(&format!("rebuild, {version}"), &world(version));
    }
}

#[test]
fn resize_by_reflow() {
    Row {
        tool: &|host| resize(host, SECTORS + 20, Strategy::Reflow),
        file: COW,
        found: &[Fault::TrailingHole, Fault::InterruptedResize],
        said: &["resize", "past the end"],
        left: &[],
    }
    .holds("reflow", &world(Version::V3));
}

#[test]
fn resize_extend_backing_after_the_resize() {
    let tool: Tool<'_> = &|host| {
        let path = Path::new(COW);
        let mut cow = open_for_resize(host, path, Trust::Follow, true)?;
        extend_backing(host, &mut cow, &mut go_on)?;
        close(cow.device, path)
    };
    for version in VERSIONS {
        let host = world(version);
        resize(&host, SECTORS + 20, Strategy::Rebuild).unwrap();
        Row {
            tool,
            file: COW,
            found: &[Fault::InterruptedBackingChange],
            said: &["change"],
            left: &[],
        }
        .holds(&format!("extension, {version}"), &host.after_kill());
    }
}

#[test]
fn merge_in_place() {
    for version in VERSIONS {
        let rebuilt: &[&str] = match version {
            Version::V3 => &["change"],
            _ => &["change", "new file"],
        };
        Row {
            tool: &|host| {
                let path = Path::new(COW);
                let mut cow = open_both(host, path, Trust::Follow)?;
                in_place(host, &mut cow, &mut go_on)?;
                close(cow.device, path)
            },
            file: COW,
            found: &[Fault::InterruptedBackingChange, Fault::StaleData],
            said: rebuilt,
            left: &[],
        }
        .holds(&format!("merge in place, {version}"), &world(version));
    }
}

fn safely(host: &SimHost) -> Result<(), ImageError> {
    let (cow, other) = (Path::new(COW), Path::new(OTHER));
    rebase(host, cow, other, Trust::Follow, &mut go_on).map(drop)
}

fn unsafely(host: &SimHost) -> Result<(), ImageError> {
    rebase_unsafely(host, Path::new(COW), Path::new(OTHER)).map(drop)
}

/// As a replay does.
fn switch_backing(host: &SimHost) -> Result<(), ImageError> {
    let spec: DeviceSpec = format!("ubda={COW},{OTHER}").parse().unwrap();
    let options = OpenOptions {
        create: false,
        switch_backing: true,
        ..OpenOptions::default()
    };
    close(open(host, &spec, options)?.device, Path::new(COW))
}

#[test]
fn rebase_and_switch_backing() {
    for version in VERSIONS {
        // A header that changes in one sector is never half changed; only version 3 has a mark.
        let (header, mark) = match version {
            Version::V1 | Version::V3Wide => (&[][..], &[][..]),
            Version::V2 => (&["header"][..], &[Fault::InterruptedBackingChange][..]),
            Version::V3 => (&["change"][..], &[Fault::InterruptedBackingChange][..]),
        };
        // What was copied in and is not flushed yet nobody reads.
        let copied = [mark, &[Fault::StaleData]].concat();
        Row {
            tool: &safely,
            file: COW,
            found: &copied,
            said: header,
            left: &[Fault::StaleData],
        }
        .holds(&format!("rebase, {version}"), &world(version));
        Row {
            tool: &unsafely,
            file: COW,
            found: mark,
            said: header,
            left: &[],
        }
        .holds(&format!("rebase --unsafe, {version}"), &world(version));
        let (header, half_changed) = match version {
            Version::V3 => (&[][..], &[][..]),
            _ => (header, mark),
        };
        Row {
            tool: &switch_backing,
            file: COW,
            found: half_changed,
            said: header,
            left: &[],
        }
        .holds(&format!("--switch-backing, {version}"), &world(version));
    }
}

#[test]
fn check_repair() {
    let host = world(Version::V3);
    let geometry = driver::cow::Geometry::new(Version::V3, Bytes(LEN), 4096).unwrap();
    let mut file = host.content(COW).unwrap();
    file.write_at(&[0xf8], geometry.bitmap_offset + Bytes(9));
    file.write_at(&[0xbb; 8192], geometry.data_offset + Bytes(48 * 512));
    file.write_at(&[0xaa; 8192], geometry.data_end() + Bytes(8192));
    let marked = Extension {
        backing_size: Bytes(LEN),
        change: Some(driver::cow::BackingChange::default()),
    };
    file.write_at(&marked.encode(), Extension::OFFSET);
    host.install(COW, file);
    Row {
        tool: &|host| check_and_repair(host, Path::new(COW), Trust::Follow, &mut go_on).map(drop),
        file: COW,
        found: &[
            Fault::InterruptedBackingChange,
            Fault::BitsPastEnd,
            Fault::TrailingData,
            Fault::StaleData,
        ],
        said: &["change", "past the end"],
        left: &[Fault::StaleData],
    }
    .holds("repair", &host);
}

#[test]
fn recover_itself() {
    let host = world(Version::V3);
    let grow = |host: &SimHost| resize(host, SECTORS + 20, Strategy::Reflow);
    let whole = host.after_kill();
    grow(&whole).unwrap();
    host.crash_before_change(whole.changes() / 2);
    assert!(grow(&host).is_err());
    Row {
        tool: &|host| {
            let trust = Trust::Follow;
            recover(host, Path::new(COW), Format::Cow, trust, &mut go_on).map(drop)
        },
        file: COW,
        found: &[Fault::InterruptedResize],
        said: &["resize"],
        left: &[],
    }
    .holds("recovery", &host.after_kill());
}
