//! How large a device is to become and how, on the command line, of a file at rest and of a device
//! that is served.

use userhelper::planner::Shrink;

use super::replay::StrategyArg;
use super::size_change::SizeChange;

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
