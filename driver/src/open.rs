//! Bringing a device up.
