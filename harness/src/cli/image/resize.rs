//! `ubdlab image resize`.

use std::path::{Path, PathBuf};

use driver::resize::Strategy;
use driver::shown;
use driver::units::Bytes;
use userhelper::image::open::{CowImageFile, Trust, close};
use userhelper::image::resize::{
    BackingFacts, StockVerdict, backing_facts, carry_out, check_backing_writable, check_extension,
    extend_backing, open_for_plan, open_for_resize, plan_resize, stock_verdict,
};
use userhelper::image::siblings::siblings;
use userhelper::losses::{Effort, losses};
use userhelper::planner::{Plan, Wish};
use userhelper::real_files::{Belongings, RealFile, RealHost};

use crate::figures::size;

use super::super::output_file::tell_what_is_lacking;
use super::super::resize_arg::{self, ResizeArgs};
use super::super::{Failure, Verdict, interrupt, output};
use super::state::explain;
use super::watching::Watching;
use super::{InsteadArgs, TrustArgs, existing, note};

/// Grow or shrink a COW file that nobody runs
///
/// The cheapest of three ways is taken, and --dry-run says which and why. headroom: the bitmap
/// still fits, nothing moves. rebuild: what is dirty is copied (or shared, where the file system
/// can) into a new file, which then takes the name. reflow: the data moves within the file, last
/// bytes first. Whenever data moves, room is made so that the next growths need not move it.
///
/// An interruption at any moment, by Ctrl-C, kill or the power, leaves the old image, the new
/// one, or one that `ubdlab image recover` finishes. Afterwards grow the file system in it.
#[derive(Debug, clap::Args)]
#[command(mut_arg("backing", |backing| backing.requires("dry_run")))]
#[command(after_long_help = "\
Examples:
  ubdlab image resize root.cow +2G --dry-run
  ubdlab image resize root.cow +2G --extend-backing
  ubdlab image resize root.cow 20G --strategy reflow
  ubdlab image resize root.cow -1G --shrink

Stock UML takes a device's size from the backing file, and refuses a COW file of another size.
--extend-backing makes the backing file as large, with a hole; every other COW file over it is
refused from then on.")]
pub(in super::super) struct Args {
    /// The COW file
    ///
    /// To name a file here is to say that it is a COW file: the path in its header is followed.
    /// Never name a raw disk that a guest can write to.
    cow: PathBuf,

    #[command(flatten)]
    resize: ResizeArgs,

    /// Make the backing file as large as the device, so that stock UML takes the image
    ///
    /// Other COW files over it are named before anything is done.
    #[arg(long)]
    extend_backing: bool,

    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    instead: InsteadArgs,

    #[command(flatten)]
    trust: TrustArgs,
}

pub(super) fn run(args: &Args) -> Result<Verdict, Failure> {
    let path = existing(&args.cow)?;
    let extend = args.extend_backing;
    let other = args.instead.path()?;
    let reach = args.instead.reach(args.trust.trust(), other.as_ref());
    let name = shown(&path);
    interrupt::at_end(move || {
        output::failure(&Failure(format!(
            "{name}: interrupted: the disk is as before"
        )));
    });
    // Looking at the plan needs the files for reading only.
    let mut cow = match args.dry_run {
        true => open_for_plan(&RealHost, &path, reach)?,
        false => open_for_resize(&RealHost, &path, reach, extend)?,
    };
    note(cow.backing_note());
    let old_size = match cow.device.geometry() {
        Some(geometry) => geometry.size,
        None => cow.device.capacity().bytes(),
    };
    let wish = Wish {
        new_size: args.resize.size.new_size(old_size, &path)?,
        strategy: args.resize.strategy.strategy(),
        shrink: args.resize.may_shrink(),
        online: false,
    };
    let plan = plan_resize(&RealHost, &cow, wish)?;
    let backing = backing_facts(&RealHost, &cow)?;
    if extend && backing.len > plan.new_size {
        return Err(Failure(format!(
            "{}: found {}, which is more than the device's {}: --extend-backing makes no \
             backing file smaller",
            shown(&cow.backing_path),
            backing.len,
            plan.new_size
        )));
    }
    if extend {
        check_extension(&RealHost, &cow, plan.new_size)?;
    }
    if extend && args.dry_run && other.is_none() {
        check_backing_writable(&RealHost, &cow, args.trust.trust())?;
    }
    if args.dry_run {
        print_plan(&cow, args, &plan, backing);
        if args.resize.lose_data && plan.new_size < plan.old_size {
            print_losses(&cow, &plan)?;
        }
        return Ok(Verdict::Good);
    }
    // Why nothing else was taken is worth a word where the file is lost to stock UML.
    let why = plan.leaves_stock_reach.then_some(&plan.reasons);
    for said in why.into_iter().flatten().chain(&plan.notes) {
        output::remark(format_args!("note: {said}"));
    }
    if extend && backing.len < plan.new_size {
        consequences(&cow, args.trust.trust(), "extending")
            .iter()
            .for_each(output::remark);
    }
    // From here on it says for itself what an interruption leaves.
    interrupt::forget_last_words();
    move_data(&path, &mut cow, &plan, args.trust.trust())?;
    let backing = match extend {
        true => extend_to(&path, &mut cow, &plan, args.trust.trust())?,
        false => backing,
    };
    if let Some(geometry) = cow.device.geometry() {
        let verdict = stock_verdict(&geometry, backing);
        output::line(format_args!("stock UML {verdict}"));
    }
    close(cow.device, &path)?;
    Ok(Verdict::Good)
}

/// Makes the backing file as large as the device is now.
fn extend_to(
    path: &Path,
    cow: &mut CowImageFile<RealFile>,
    plan: &Plan,
    trust: Trust,
) -> Result<BackingFacts, Failure> {
    let mut watching = Watching::new("extending");
    let extended = extend_backing(&RealHost, cow, &mut watching);
    drop(watching);
    let len = extended.map_err(|error| {
        let before = format!(
            "the disk has its new size, {}, and its backing file is not extended: give the \
             command again",
            plan.new_size
        );
        explain(error, path, trust, &before)
    })?;
    let backing = backing_facts(&RealHost, cow)?;
    output::line(format_args!("{}: {len}", shown(&cow.backing_path)));
    Ok(backing)
}

fn move_data(
    path: &Path,
    cow: &mut CowImageFile<RealFile>,
    plan: &Plan,
    trust: Trust,
) -> Result<(), Failure> {
    let shown = shown(path);
    if plan.new_size == plan.old_size && plan.to_move == Bytes(0) {
        output::line(format_args!("{shown}: has {} already", plan.old_size));
        return Ok(());
    }
    let old = Belongings::at(path);
    let mut watching = Watching::new("moving data");
    let resized = carry_out(&RealHost, cow, plan, &mut watching);
    drop(watching);
    let resized = resized.map_err(|error| {
        let before = format!("the disk is as before, {}", plan.old_size);
        explain(error, path, trust, &before)
    })?;
    output::line(format_args!(
        "{shown}: {} to {} by {}, {} moved",
        resized.old_size,
        resized.new_size,
        resized.strategy,
        size(resized.moved.0)
    ));
    if resized.strategy == Strategy::Rebuild {
        tell_what_is_lacking(path, old, Belongings::at(path));
    }
    Ok(())
}

fn print_plan(cow: &CowImageFile<RealFile>, args: &Args, plan: &Plan, backing: BackingFacts) {
    let extend = args.extend_backing;
    resize_arg::print_plan(&plan.into(), args.resize.strategy);
    let Some(geometry) = plan.new_geometry else {
        return;
    };
    let new_backing = match extend {
        true => BackingFacts {
            len: backing.len.max(plan.new_size),
            ..backing
        },
        false => backing,
    };
    let verdict = stock_verdict(&geometry, new_backing);
    output::line(format_args!("stock UML  {verdict}"));
    let is_larger = geometry.size > new_backing.len;
    if is_larger && let StockVerdict::RefusesSize { .. } = verdict {
        output::line("           --extend-backing makes the backing file as large");
    }
    if extend && backing.len < plan.new_size {
        consequences(cow, args.trust.trust(), "would extend")
            .iter()
            .for_each(output::line);
    }
}

fn print_losses(cow: &CowImageFile<RealFile>, plan: &Plan) -> Result<(), Failure> {
    let (old, new) = (plan.old_size, plan.new_size);
    let losses = losses(&cow.device, old, new, Effort::Thorough)
        .map_err(|error| Failure(format!("{}: {error}", shown(&cow.path))))?;
    match losses {
        Some(loss) => output::line(format_args!("loss       {loss}")),
        None => output::line("loss       none: no data lies past the new end"),
    }
    Ok(())
}

/// What else a change of the backing file breaks, in lines.
pub(super) fn consequences(cow: &CowImageFile<RealFile>, trust: Trust, doing: &str) -> Vec<String> {
    let mut lines = vec![format!(
        "{doing} {}: every other COW file over it will be refused, by stock UML and by ubdlab",
        shown(&cow.backing_path)
    )];
    let others = siblings(cow, trust);
    lines.extend(
        others
            .iter()
            .map(|other| format!("  breaks {}", shown(other))),
    );
    if others.is_empty() {
        lines.push("  none was found beside it or beside the COW file".to_owned());
    }
    lines
}
