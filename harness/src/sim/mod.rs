//! The simulated host.

mod content;
mod pages;

pub use content::FileContent;
pub use pages::PAGE_SIZE;
