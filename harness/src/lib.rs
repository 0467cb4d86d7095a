//! The lab around the driver: traces, replay, the simulated host.

pub mod bench;
pub mod cli;
pub mod clock;
pub mod fuzz;
pub mod oracle;
pub mod replay;
pub mod report;
pub mod sim;
pub mod stamp;
pub mod strip;
pub mod trace;
