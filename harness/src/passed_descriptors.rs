//! Descriptors that come through a socket, beside bytes.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};

/// Receives some bytes, and adds the descriptors that come with them, for which `space` has to be
/// of `rustix::cmsg_space!`. How many bytes there were, none if the other side has closed, and
/// whether there were more descriptors than fit.
///
/// # Errors
/// What the system says.
pub(crate) fn receive(
    from: &UnixStream,
    bytes: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
    space: &mut [MaybeUninit<u8>],
) -> rustix::io::Result<(usize, bool)> {
    let mut control = RecvAncillaryBuffer::new(space);
    let mut bytes = [IoSliceMut::new(bytes)];
    let call = || recvmsg(from, &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC);
    let received = match retry_on_intr(call) {
        // As if it had closed: what is lost were its own messages.
        Err(Errno::CONNRESET) => return Ok((0, false)),
        received => received?,
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            descriptors.extend(more);
        }
    }
    let are_cut = received.flags.contains(ReturnFlags::CTRUNC);
    Ok((received.bytes, are_cut))
}
