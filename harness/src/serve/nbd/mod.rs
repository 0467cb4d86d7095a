//! NBD: fixed newstyle, with structured replies and meta contexts.
//!
//! [`message`] is the protocol as values, without I/O. [`negotiation`] settles with a client what
//! it wants, [`connection`] serves its requests, and [`listener`] is the endpoint: it has the
//! connections and the sockets that they come from.
//!
//! The protocol is that of `doc/proto.md` in the repository NetworkBlockDevice/nbd. What a client
//! may ask for is bounded before it is believed: option data by [`message::LONGEST_OPTION`], a
//! transfer by [`message::LONGEST_TRANSFER`], requests in flight by
//! [`connection::MOST_IN_FLIGHT`], memory by the export's budget, connections by
//! [`crowd::MOST_CONNECTIONS`]. A client that stops in the middle of a message, or does not take
//! its replies, is cut off after a time.

pub mod connection;
pub mod crowd;
pub mod listener;
pub mod message;
pub mod negotiation;
mod stream;

pub use listener::Nbd;
