//! Reports as pages: one self-contained HTML file each, without scripts and without anything
//! from a network, that can be read on a phone, in the dark, and on paper. What a colour says, a
//! word says too; more figures come up under the pointer.

mod chart;
mod crash;
mod difference;
mod finding;
mod page;
mod replay;
mod volumes;

pub use crash::{CrashPage, CrashesTold, KeptAs, crash_finding_page, crash_page};
pub use difference::{DifferencesPage, ToldDifference, difference_page, differences_page};
pub use finding::{FuzzPage, ToldFinding, finding_page, fuzz_page};
pub use replay::{ReplayPage, replay_page};
pub use volumes::volumes_page;
