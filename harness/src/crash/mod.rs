//! Any program under the knife: it runs on a simulated directory, and the power is cut at the
//! moments of what it did. What is left is mounted and checked.
//!
//! - [`Session`]: the directory as it was, the command's run, and the check of its end.
//! - `place`: a thread's own view of the file system, with a simulated directory over the real one.
//! - `processes`: what runs in a view, and ends before its mount goes; `first_process`: what starts
//!   it there, by `init_messages`; `later_mounts`: what that has mounted, and goes with it.
//! - `command`: a command that runs there, with its time and its output bounded.
//! - `points`, `recipe`: at which moments, and what survives each. `plan` puts them together, and
//!   takes images that are byte for byte alike once; `replay` goes through the run for it, and for
//!   all who need one of them again.
//! - `checking`: the check of all images, by several workers at a time.
//! - `shrink`: a finding with the fewest lost operations; `trials`: the checks that it takes;
//!   `verdicts`: what is known of images that were checked.
//! - `finding_file`, `finding_read`, `kept_change`, `repeat`: a finding as a file, and what is done
//!   with one again.
//! - `kind`: what findings have in common that are told once.
//! - `finding`: an image that does not pass; `groups`: those of one kind together; `story`: what
//!   the command did before, and what became of it.
//! - `names_then`: the names that files have at a moment, by which its story is told.
//! - `keeping`, `replacement`: the real directory becomes what the command has made of its copy,
//!   if it can be replaced without a loss.
//! - `own_ids`: owners that the user namespace does not have.
//!
//! Whatever the number of workers, the plan is the same, and so is what is found.

mod cannot_crash;
mod checking;
mod command;
mod finding;
mod finding_file;
mod finding_read;
mod first_process;
mod groups;
mod init_messages;
mod keeping;
mod kept_change;
mod kind;
mod later_mounts;
mod names_then;
mod own_ids;
mod place;
mod plan;
mod points;
mod processes;
mod recipe;
mod repeat;
mod replacement;
mod replay;
mod session;
mod shrink;
mod story;
mod trials;
mod verdicts;

pub use cannot_crash::CannotCrash;
pub use checking::{Checked, Checks};
pub use command::{CommandLine, End, Ran};
pub use finding::{CrashedOperation, Fate, Finding, Part};
pub use finding_file::{BadFinding, Crash, FORMAT, FindingFile};
pub(crate) use first_process::be_init_if_asked;
pub use groups::{Found, Group};
pub use keeping::{CannotKeep, Replaceable};
pub use kept_change::Text;
pub use kind::{MOST_LINES, said_lines};
pub use plan::{Model, Plan, Planned};
pub use recipe::Recipe;
pub use repeat::Shown;
pub use session::{AtMoment, Options, Session};
pub use shrink::NotFewest;
