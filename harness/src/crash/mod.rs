//! Any program under the knife: it runs on a simulated directory, and the power is cut at the
//! moments of what it did. What is left is mounted and checked.
//!
//! - [`Session`]: the directory as it was, the command's run, and the check of its end.
//! - `command`: a command that runs there, with its time and its output bounded.
//! - `points`, `recipe`: at which moments, and what survives each. `plan` puts them together, and
//!   takes images that are byte for byte alike once.
//! - `checking`: the check of all images, by several workers at a time.
//! - `finding_file`, `kept_change`, `repeat`: a finding as a file, and what is done with one again.
//! - `finding`: images that do not pass, with those of the same cause together, and their story.
//!
//! Whatever the number of workers, the plan is the same, and so is what is found.

mod checking;
mod command;
mod finding;
mod finding_file;
mod kept_change;
mod plan;
mod points;
mod recipe;
mod repeat;
mod session;

pub use checking::{Checked, Checks};
pub use command::{CommandLine, End, Ran};
pub use finding::{Fate, Finding, Group, Lost};
pub use finding_file::{BadFinding, Crash, FORMAT, FindingFile};
pub use kept_change::{KeptChange, Text};
pub use plan::{Model, Plan, Planned};
pub use recipe::Recipe;
pub use session::{CannotCrash, Options, Session};
