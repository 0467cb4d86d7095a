//! What the guest is told to do, and how it says that it has heard.
//!
//! UML 6.1 stops listening to a serial line when its terminal has some 4,000 bytes that nobody has
//! read yet, and never begins again. So no more than [`PIECE`] bytes are under way to the guest,
//! which says how many it has read.

use serde::{Deserialize, Serialize};

use crate::fuzz::recorded::{Deed, GuestRequest, GuestWord, Piece};

/// The most bytes that the guest is sent before it has said that it has read them.
pub(super) const PIECE: usize = 2048;

/// An order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Order {
    /// Opens the device, does all this, and closes it.
    Live(Vec<Deed>),
    /// Opens the device.
    Open,
    /// Carries a request out, beside those that are under way. What it writes comes with it.
    CarryOut(GuestRequest, Vec<Piece>),
    /// Closes the device, when nothing is under way any more.
    Close,
}

/// What the guest says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Said {
    /// A word about its device.
    Word(GuestWord),
    /// That it has read this many bytes.
    Heard(usize),
}
