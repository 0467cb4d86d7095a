//! The lab around the driver: traces, replay, the simulated host.

pub mod sim;
pub mod trace;
