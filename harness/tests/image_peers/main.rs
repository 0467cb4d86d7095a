//! COW images that others make and use, as others see them: the real kernel (`linux.uml`),
//! `uml_mkcow` and `uml_moo`, `qemu-img`, and the file system inside with its own tools.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[path = "../common/cli.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests")]
mod cli;

#[path = "../common/peers.rs"]
#[allow(unreachable_pub, reason = "shared with other tests")]
mod peers;

#[path = "../common/uml.rs"]
#[allow(unreachable_pub, reason = "shared with other tests")]
mod uml;

mod boot;
mod held;
mod lab;
mod utilities;
