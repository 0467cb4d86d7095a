//! What a resize of an open device is, seen from the driver: a procedure that is handed a
//! [`Desk`], and asks for one thing after the other there. The device that it is about carries on
//! with it between its requests. The cheapest one, [`super::Headroom`], is here; those
//! that move data are userhelper's.

use std::future::Future;
use std::pin::Pin;

use crate::resize::ResizeOutcome;

use super::desk::Desk;

/// A resize that has begun.
pub type Procedure = Pin<Box<dyn Future<Output = ResizeOutcome>>>;

/// A resize that has not begun.
pub trait Resize<F> {
    /// Its procedure, which asks for what it needs at `desk`. It begins within a turn of its own;
    /// see [`Desk::turn`].
    fn begin(self: Box<Self>, desk: Desk<F>) -> Procedure;
}
