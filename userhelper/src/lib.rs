//! The user-space half of a ubd resize: files on the host, the relocation with its
//! planner, and the image tools around it.

pub mod clone_range;
pub mod image_host;
pub mod real_files;
