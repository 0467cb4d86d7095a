//! `ubdlab image info`.

use std::path::{Path, PathBuf};

use driver::cow::Version;
use driver::host::HostFile;
use driver::shown;
use driver::units::FileOffset;
use serde::Serialize;
use userhelper::image::ImageError;
use userhelper::image::info::{BackingState, Info, info};
use userhelper::image::open::{Format, Trust, open_unlocked};
use userhelper::image::resize::StockVerdict;
use userhelper::real_files::RealHost;

use super::super::{Failure, Verdict, output};
use super::state::{interrupted, stock_uml, verdict};
use super::{FormatArgs, TrustArgs, existing, note, or_raw};
use crate::figures::{counted, size};

/// Say what a COW file is, and whether its backing file is the one it was made for
///
/// The backing file is looked at but not opened, and outside the COW file's directory only with
/// --format cow. No lock is taken: this works beside a running UML.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab image info root.cow
  ubdlab image info root.cow --json")]
pub(in super::super) struct Args {
    /// The COW file
    cow: PathBuf,

    #[command(flatten)]
    format: FormatArgs,

    #[command(flatten)]
    trust: TrustArgs,

    /// Print one JSON document, its fields named with their units
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct RawReport {
    format: &'static str,
    size_bytes: u64,
}

#[derive(Serialize)]
struct Report {
    format: &'static str,
    /// 1, 2 or 3.
    version: u32,
    /// V1, V2, V3 or V3 (64-bit).
    version_name: String,
    size_bytes: u64,
    sector_size: u64,
    alignment: u32,
    bitmap_offset: u64,
    bitmap_bytes: u64,
    data_offset: u64,
    dirty_sectors: u64,
    /// What of the dirty sectors is data, and no hole of the COW file.
    dirty_data_bytes: u64,
    /// As the header has it.
    backing_file: String,
    /// Where that is.
    backing_path: String,
    backing_size_bytes: u64,
    /// Seconds since 1970, modulo 2^32.
    backing_mtime: u32,
    /// Null where it cannot be told.
    backing_matches: Option<bool>,
    /// Why it does not match or cannot be told.
    backing_problem: Option<String>,
    headroom_bytes: u64,
    resize_in_progress: bool,
    /// The size that the resize in progress leads to.
    resize_to_bytes: Option<u64>,
    /// Whether a merge, a rebase or the extension of the backing file was interrupted.
    backing_change_in_progress: bool,
    file_bytes: u64,
    /// Null where the host does not say it.
    file_allocated_bytes: Option<u64>,
    /// What is worth a note about a backing file that matches, with --format cow.
    backing_note: Option<String>,
    stock_uml: String,
}

/// Says what stock UML does with a COW file that has just been made or changed, unless it takes
/// it. Its header names what the user has named.
pub(super) fn warn_of_stock(cow: &Path) {
    let Ok(info) = info(&RealHost, cow, Trust::Follow) else {
        return;
    };
    let verdict = verdict(&info);
    if verdict != StockVerdict::Accepts {
        output::line(format_args!("stock UML {verdict}"));
    }
}

impl Report {
    fn of(info: &Info, cow: &Path, format: Format) -> Report {
        let (header, geometry) = (&info.header, &info.geometry);
        let (backing_matches, backing_problem) = match &info.backing {
            BackingState::Matches => (Some(true), None),
            BackingState::Differs(difference) => {
                let modified = header.backing_mtime;
                let text = difference.text(info.backing_size, modified);
                let paths = (&*info.backing_path, cow);
                let text = match (format, difference.ways_out(paths, modified)) {
                    (Format::Guess, Some(_)) => format!(
                        "{text}. --format cow, if it is a COW file that you trust, says what to do"
                    ),
                    (_, Some(ways_out)) => format!("{text}. {ways_out}"),
                    (_, None) => text,
                };
                (Some(false), Some(text))
            }
            BackingState::Missing(error) => (Some(false), Some(error.to_string())),
            BackingState::Unknown(_) if info.is_changing_backing() => {
                let why = "only its content can tell: a change of it was interrupted";
                (None, Some(why.to_owned()))
            }
            BackingState::Unknown(why) => (None, Some((*why).to_owned())),
            BackingState::NotFollowed(why) => {
                let way_out = match format {
                    Format::Guess => " (--format cow if it is a COW file that you trust)",
                    Format::Raw | Format::Cow => "",
                };
                let text = format!("not looked at: its path {why}{way_out}");
                (None, Some(text))
            }
        };
        Report {
            format: "cow",
            version: header.version.number(),
            version_name: header.version.to_string(),
            size_bytes: geometry.size.0,
            sector_size: driver::units::SECTOR_SIZE,
            alignment: geometry.alignment,
            bitmap_offset: geometry.bitmap_offset.0,
            bitmap_bytes: geometry.bitmap_len.0,
            data_offset: geometry.data_offset.0,
            dirty_sectors: info.dirty.0,
            dirty_data_bytes: info.dirty_data.0,
            backing_file: header.backing_path().to_string_lossy().into_owned(),
            backing_path: info.backing_path.to_string_lossy().into_owned(),
            backing_size_bytes: info.backing_size.0,
            backing_mtime: header.backing_mtime,
            backing_matches,
            backing_problem,
            headroom_bytes: info.headroom().0,
            resize_in_progress: info.resize_in_progress.is_some(),
            resize_to_bytes: info.resize_in_progress.map(|size| size.0),
            backing_change_in_progress: info.is_changing_backing(),
            file_bytes: info.file_len.0,
            file_allocated_bytes: info.allocated.map(|allocated| allocated.0),
            backing_note: info.backing_note.clone(),
            stock_uml: stock_uml(info),
        }
    }
}

pub(super) fn run(args: &Args) -> Result<Verdict, Failure> {
    let cow = existing(&args.cow)?;
    let format = args.format.format();
    if format == Format::Raw {
        return raw(args, &cow);
    }
    let info = info(&RealHost, &cow, format.trust(args.trust.trust())).map_err(or_raw(format))?;
    let report = Report::of(&info, &cow, format);
    if args.json {
        output::json(&report)?;
        return Ok(Verdict::Good);
    }
    note(info.backing_note.clone());
    let geometry = &info.geometry;
    let backing = match (&report.backing_matches, &report.backing_problem) {
        (Some(true), _) => "it is the one that the file was made for".to_owned(),
        (_, Some(problem)) => problem.clone(),
        (_, None) => "not looked at".to_owned(),
    };
    let layout = format!(
        "alignment {}, bitmap of {} at byte {}, data at byte {}",
        geometry.alignment, geometry.bitmap_len, geometry.bitmap_offset, geometry.data_offset
    );
    let file = match info.allocated {
        Some(allocated) => {
            let [len, allocated] = [info.file_len, allocated].map(|bytes| size(bytes.0));
            format!("{len} long, takes {allocated} on disk")
        }
        None => format!("{} long", size(info.file_len.0)),
    };
    let sectors = counted(report.dirty_sectors, "sector");
    let [dirty, data] = [info.dirty.bytes(), info.dirty_data].map(|bytes| size(bytes.0));
    let holes = info.dirty.bytes().0.saturating_sub(info.dirty_data.0);
    let dirty = match holes == 0 {
        true => format!("{sectors}, {dirty}"),
        false => {
            let holes = size(holes);
            format!("{sectors}, {dirty}: {data} of it data, {holes} zeros that take no space")
        }
    };
    for (name, text) in [
        ("format", report.version_name),
        ("size", geometry.size.to_string()),
        ("dirty", dirty),
        ("layout", layout),
        ("file", file),
        ("headroom", headroom(&info)),
        ("backing file", shown(&info.backing_path)),
        ("", backing),
        ("stock UML", report.stock_uml),
    ] {
        output::line(format_args!("{name:<14} {text}"));
    }
    if let Some(interrupted) = interrupted(&cow, &info, format) {
        output::line(format_args!("interrupted    {interrupted}"));
    }
    Ok(Verdict::Good)
}

/// What there is to say of a raw disk.
fn raw(args: &Args, path: &Path) -> Result<Verdict, Failure> {
    let opened = open_unlocked(&RealHost, path, Format::Raw)?;
    let len = opened.device.cow().len();
    let len = len.map_err(ImageError::host(path, "examining", FileOffset(0)))?;
    if args.json {
        output::json(&RawReport {
            format: "raw",
            size_bytes: len.0,
        })?;
        return Ok(Verdict::Good);
    }
    output::line("format         raw");
    output::line(format_args!("size           {len}"));
    Ok(Verdict::Good)
}

fn headroom(info: &Info) -> String {
    let headroom = info.headroom();
    match headroom > info.geometry.size {
        _ if info.resize_in_progress.is_some() => {
            "not known before the interrupted resize is finished".to_owned()
        }
        true => format!("grows to {headroom} without its data moving"),
        false if info.header.version != Version::V3 => {
            "none: a resize rebuilds the file as V3".to_owned()
        }
        false => "none: the next resize moves the data, and makes room".to_owned(),
    }
}
