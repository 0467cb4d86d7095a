//! What the simulated directory may take: the options that say so, and what is said when that was
//! reached. A program that was told of no space has met a limit of ours, and not of its own.

use driver::size::parse_size;
use driver::units::Bytes;
use serde::Serialize;

use crate::figures::grouped;
use crate::mount::{Limit, Limits};

/// The options.
#[derive(Debug, clap::Args)]
pub(super) struct LimitArgs {
    /// The most files, directories and symbolic links that the copy of DIR may have
    #[arg(
        long,
        value_name = "N",
        default_value_t = Limits::default().nodes,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    max_files: u64,

    /// The most bytes that the copy may take, and that may be written to it together, what was in
    /// DIR with it [default: 2G]
    ///
    /// All of it is in memory. Names and targets of symbolic links count as written. With --repro,
    /// this and the other limits are those of what is in the finding.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    max_bytes: Option<Bytes>,

    /// The most changes that may be made of the copy, what makes it with it
    #[arg(
        long,
        value_name = "N",
        default_value_t = Limits::default().changes,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    max_changes: u64,
}

impl LimitArgs {
    pub(super) fn limits(&self) -> Limits {
        let by_default = Limits::default();
        Limits {
            nodes: self.max_files,
            bytes: self.max_bytes.map_or(by_default.bytes, |most| most.0),
            changes: self.max_changes,
            logged: self.max_bytes.map_or(by_default.logged, |most| most.0),
        }
    }
}

/// A limit that somebody has reached.
#[derive(Debug, Serialize)]
pub(super) struct Reached {
    /// Who was told that there is no space.
    pub(super) who: &'static str,
    /// Of what there is no more.
    limit: &'static str,
    most: u64,
    /// What raises it.
    option: &'static str,
}

impl Reached {
    pub(super) fn new(who: &'static str, limit: Limit, limits: Limits) -> Reached {
        let (name, most, option) = match limit {
            Limit::Nodes => ("files", limits.nodes, "--max-files"),
            Limit::Bytes => ("bytes", limits.bytes, "--max-bytes"),
            Limit::Changes => ("changes", limits.changes, "--max-changes"),
            Limit::Logged => ("bytes_written", limits.logged, "--max-bytes"),
        };
        Reached {
            who,
            limit: name,
            most,
            option,
        }
    }

    /// As a sentence.
    pub(super) fn told(&self) -> String {
        let Reached {
            who,
            limit,
            most,
            option,
        } = self;
        let what = match *limit {
            "bytes" => Bytes(*most).to_string(),
            "bytes_written" => format!("{} that are written, with what was in DIR", Bytes(*most)),
            counted => format!("{} {counted}", grouped(*most)),
        };
        format!(
            "{who} was told that there is no space: the simulated directory takes no more than \
             {what}, which {option} raises"
        )
    }
}
