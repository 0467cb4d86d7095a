//! How large a device is to become and how, on the command line: of a file at rest, of a device
//! that is served, and of one on which a trace is replayed.

use std::str::FromStr;

use clap::ValueEnum;
use driver::OneLine;
use driver::resize::Strategy;
use driver::size::parse_device_size;
use driver::units::Bytes;
use userhelper::planner::Shrink;

use crate::figures::size;
use crate::serve::control::ResizePlan;

use super::output;
use super::size_change::SizeChange;

/// A strategy on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum StrategyArg {
    /// The cheapest that can be taken
    Auto,
    /// Move nothing: the bitmap still fits
    Headroom,
    /// Copy what is dirty into a new file
    Rebuild,
    /// Move the data within the file
    Reflow,
}

impl StrategyArg {
    pub(super) fn strategy(self) -> Option<Strategy> {
        match self {
            StrategyArg::Auto => None,
            StrategyArg::Headroom => Some(Strategy::Headroom),
            StrategyArg::Rebuild => Some(Strategy::Rebuild),
            StrategyArg::Reflow => Some(Strategy::Reflow),
        }
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct ResizeArgs {
    /// The new size, or with + or - by how much
    #[arg(value_name = "[+|-]SIZE", allow_hyphen_values = true)]
    pub(super) size: SizeChange,

    /// Let the device become smaller, as long as no data lies past the new end
    ///
    /// Data in the backing file counts as well: the device does not show it again when it grows.
    /// Zeros do not count, because that is what a grow brings.
    #[arg(long)]
    pub(super) shrink: bool,

    /// Let it become smaller also where data lies past the new end: that data is lost
    #[arg(long, requires = "shrink")]
    pub(super) lose_data: bool,

    /// How to go about it
    #[arg(long, value_enum, default_value_t = StrategyArg::Auto)]
    pub(super) strategy: StrategyArg,
}

impl ResizeArgs {
    /// Whether it may become smaller.
    pub(super) fn may_shrink(&self) -> Shrink {
        match (self.shrink, self.lose_data) {
            (false, _) => Shrink::Refuse,
            (true, false) => Shrink::KeepingData,
            (true, true) => Shrink::LosingData,
        }
    }
}

/// Says what a resize would be.
pub(super) fn print_plan(plan: &ResizePlan, strategy: StrategyArg) {
    let [old, new] = [plan.old_size_bytes, plan.new_size_bytes].map(Bytes);
    output::line(format_args!("size       {old} to {new}"));
    output::line(format_args!("strategy   {}", OneLine(&plan.strategy)));
    let asked = strategy.strategy().map(|_| "asked for");
    let why = plan.reasons.iter().chain(&plan.notes).map(String::as_str);
    for said in asked.into_iter().chain(why) {
        output::line(format_args!("           {}", OneLine(said)));
    }
    let [moves, space] = [plan.to_move_bytes, plan.space_needed_bytes].map(size);
    output::line(format_args!("moves      {moves} at most"));
    output::line(format_args!("space      {space} needed meanwhile"));
    if let Some(layout) = &plan.layout {
        output::line(format_args!(
            "layout     alignment {}, data at byte {}; grows to {} after that without its data \
             moving",
            layout.alignment,
            layout.data_offset_bytes,
            Bytes(layout.grows_to_bytes)
        ));
    }
}

/// A resize on the way of a replay.
#[derive(Clone, Copy, Debug)]
pub(super) struct ResizeAtArg {
    pub(super) request: u64,
    pub(super) size: Bytes,
    pub(super) strategy: Option<StrategyArg>,
}

impl FromStr for ResizeAtArg {
    type Err = String;

    fn from_str(text: &str) -> Result<ResizeAtArg, String> {
        let mut parts = text.split(':');
        let (Some(request), Some(size), strategy, None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err("expected REQUEST:SIZE or REQUEST:SIZE:STRATEGY".into());
        };
        let number = |_| format!("found {request:?}, expected the number of a request");
        Ok(ResizeAtArg {
            request: request.parse().map_err(number)?,
            size: parse_device_size(size).map_err(|error| error.to_string())?,
            strategy: match strategy {
                Some(name) => Some(StrategyArg::from_str(name, false).map_err(|_| {
                    format!("found {name:?}, expected auto, headroom, rebuild or reflow")
                })?),
                None => None,
            },
        })
    }
}
