//! COW images that others make and use, as others see them: the real kernel (`linux.uml`),
//! `uml_mkcow` and `uml_moo`, `qemu-img`, and the file system inside with its own tools.

mod boot;
mod held;
mod lab;
mod lock_lost;
mod utilities;
