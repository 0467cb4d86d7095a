//! Every image tool that writes, and the question what happens if the power goes here: a crash
//! before each of its changes, by a kill and by power cuts, on a host whose files have times.

mod backing;
mod create;
mod documented;
mod merge;
mod one_second;
mod rebase;
mod repair;
pub(crate) mod story;
mod stranger;
pub(crate) mod world;
