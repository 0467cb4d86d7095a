//! The lab around the driver: traces, replay, the simulated host.

// Text leaves the program through `cli::output`, where foreign text is escaped.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod bench;
pub mod cli;
pub mod clock;
pub mod fuzz;
mod intervals;
pub mod judge;
pub mod oracle;
pub mod plain_format;
pub mod replay;
pub mod report;
pub mod sim;
mod sparse;
pub mod stamp;
pub mod strip;
pub mod trace;
