//! The crash and timing fuzzer: one seed gives a case, a case is run in the simulated host,
//! and at every change of the host the power is cut and the process killed, in many ways, to
//! see what the next user of the disk would find.
//!
//! From top to bottom: [`campaign`] runs cases on all cores, [`generate`] makes them, [`explore`]
//! runs one with all its crashes, [`world`] is the machine that it runs in, [`build`] makes what is
//! on its disks, [`check`] looks at a crash image, [`disk_contents`] is what it finds there,
//! [`history`] knows what may be there. A case that takes more than its [`budget`] is a finding.
//! [`thrift`] says how much of a case is looked at, [`selection`] how much of a crash point. What
//! is found has a [`signature`], is made small by [`shrink`], repeated [`exactly`] and told by
//! [`story`]; [`catalogue`] measures how soon each known defect is found, and [`running_kernel`] is
//! what of it was seen on a real one. What cannot come up with some options is in `reachable`, and
//! is no blind spot of theirs. [`beside`] is a device whose operations go side by side, and
//! [`every_order`] runs a small case in all their orders. `tidy` looks at the files when work on
//! them has ended, `telling` and `reading` at what the image tools say that change nothing.

pub mod beside;
pub mod budget;
pub mod build;
pub mod campaign;
pub mod case;
pub mod catalogue;
pub mod check;
pub mod coverage;
pub mod defect;
pub mod device;
pub mod disk_contents;
pub mod doubles;
pub mod every_order;
pub mod exactly;
mod excuses;
pub mod explore;
mod failing_resize;
mod failing_story;
mod finding;
pub mod generate;
pub(crate) mod guard;
pub mod history;
pub mod parts;
pub mod paths;
pub mod procedure_2003;
mod put_in;
mod rarities;
pub(crate) mod reachable;
mod reading;
pub mod recorded;
pub mod resizer;
pub mod running_kernel;
pub mod scratch;
pub mod selection;
pub mod shrink;
pub mod signature;
pub mod story;
pub mod subject;
mod telling;
pub mod thrift;
mod tidy;
pub mod tools;
pub mod truth;
pub mod under_tool;
pub mod violation;
pub mod world;
