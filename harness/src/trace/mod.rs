//! Recorded I/O traces.
