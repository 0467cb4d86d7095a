//! The simulated host.

pub mod assumptions;
mod change;
mod content;
mod enumerate;
mod inode;
mod names;
mod operation;
mod pages;
mod sample;
mod survivors;

pub use assumptions::Assumptions;
pub use content::FileContent;
pub use enumerate::{Subsets, Tearing, TooManySurvivors};
pub use names::NameChange;
pub use operation::{LoggedOperation, Operation, OperationKind};
pub use pages::PAGE_SIZE;
pub use sample::{SurvivalWeights, below};
pub use survivors::{
    BadSurvivors, InodeNumber, Survival, Survivors, Unsynced, UnsyncedFile, UnsyncedNames,
    UnsyncedOperation,
};
