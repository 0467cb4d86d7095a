//! NBD: fixed newstyle, with structured replies and meta contexts.
//!
//! [`message`] is the protocol as values, without I/O. What is without I/O too: [`negotiation`]
//! settles with a client what it wants, [`abilities`] says what it may ask for, [`terms`] checks
//! what it does ask for, and [`block_status`] prints what it is told about extents. Over them are
//! the `connection` with its two halves, `requests` and `replies`; `input` is what the client
//! sends, read ahead, and `outgoing` what is sent together. [`listener`] is the endpoint, with the
//! sockets that connections come from, and [`crowd`] all connections together.
//!
//! The protocol is that of `doc/proto.md` in the repository NetworkBlockDevice/nbd. What a client
//! may ask for is bounded before it is believed: option data by [`message::LONGEST_OPTION`], a
//! transfer by [`message::LONGEST_TRANSFER`], requests in flight by [`MOST_IN_FLIGHT`], memory by
//! the export's budget, connections by [`crowd::MOST_CONNECTIONS`]. A client that stops in the
//! middle of a message, does not end its negotiation or does not take its replies is cut off after
//! a time.

pub mod abilities;
pub mod block_status;
mod connection;
pub mod crowd;
mod input;
pub mod listener;
pub mod message;
pub mod negotiation;
mod outgoing;
mod replies;
mod requests;
mod stream;
pub mod terms;

pub use listener::Nbd;
pub use requests::MOST_IN_FLIGHT;
