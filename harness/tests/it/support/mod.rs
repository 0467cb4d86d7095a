//! What the tests of several folders use: the program in a directory of its own, images of every
//! version, and the other programs that tests compare with.

pub(crate) mod cases;
pub(crate) mod cli;
pub(crate) mod crash;
pub(crate) mod failing;
pub(crate) mod fuse;
pub(crate) mod guest;
pub(crate) mod images;
pub(crate) mod mounted;
pub(crate) mod nbd;
pub(crate) mod peers;
pub(crate) mod served;
pub(crate) mod server;
pub(crate) mod share;
pub(crate) mod tree_mount;
pub(crate) mod uml;
pub(crate) mod waits;
