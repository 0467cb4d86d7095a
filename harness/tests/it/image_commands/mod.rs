//! The commands of `ubdlab image`, run as a user runs them: each does what its help says, for
//! images of every version, and what they leave is read back by a reader with nothing of their
//! code in it.

mod backing_files;
pub(crate) mod check;
mod compare;
mod confinement;
mod convert;
mod create;
mod formats;
mod info_map;
mod interrupted;
mod merge;
mod other_backing;
mod partial_sector;
mod rebase;
pub(crate) mod recover;
mod reflows_in_a_row;
mod replaced_files;
mod resize;
mod times;
