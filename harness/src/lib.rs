//! The lab around the driver: traces, replay, the simulated host.
//!
//! - [`trace`]: reading, writing, making and measuring recorded traces;
//! - [`device`]: what is asked of a running device, and who carries its host operations out;
//! - [`replay`]: a trace played on a device, and every sector compared with [`oracle`], the model
//!   of what it may show. [`stamp`] makes contents that say who wrote them; `intervals` and
//!   `sparse` keep sets and tables small whatever a trace claims;
//! - [`serve`]: a device served to real programs while it lives; [`guest`] is a UML that uses it;
//! - [`sim`]: the simulated host, which crashes and fails on demand; [`mount`] shows a simulated
//!   directory to any program, by way of `mountpoint`, as [`serve`] does a device;
//! - [`fuzz`]: cases from a seed, run in that host and checked after each crash. [`judge`] puts
//!   drivers that are wrong on purpose before these checks and those of a replay;
//! - [`kernel`]: the real kernel's driver in that host, judged by those checks;
//! - [`crash`]: any program, crashed at the moments of what it does;
//! - [`plain_format`]: the COW format a second time, with nothing of the driver's code;
//! - [`mod@bench`]: measuring, in turns with other programs;
//! - [`report`]: pages of replays and findings, with [`strip`], a device as a row of cells;
//! - [`shard`]: work that is cut into shards for any number of machines, and their results put
//!   together;
//! - [`cli`]: the command line. [`clock`] is the wall clock; [`streams`] gives random numbers from
//!   a seed, a stream for each purpose, and [`random`] cheap ones; [`figures`] are numbers as
//!   people read them; `locked` takes locks; `open_flags` tells what is durable when it is
//!   answered; `programs` finds other programs.

#![forbid(unsafe_code)]
// Text leaves the program through `cli::output`, where foreign text is escaped.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod bench;
pub mod cli;
pub mod clock;
pub mod crash;
pub mod device;
pub mod figures;
pub mod fuzz;
pub mod guest;
mod intervals;
pub mod judge;
pub mod kernel;
mod locked;
pub mod mount;
mod mountpoint;
pub mod open_files;
mod open_flags;
pub mod oracle;
mod passed_descriptors;
pub mod plain_format;
mod programs;
pub mod random;
pub mod replay;
pub mod report;
pub mod serve;
pub mod shard;
pub mod sim;
mod sparse;
pub mod stamp;
pub mod streams;
pub mod strip;
pub mod trace;
