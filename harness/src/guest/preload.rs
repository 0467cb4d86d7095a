//! The library that the program carries for UML on processors with AMX.

/// `preload/whole_xstate.c`, compiled; empty where UML does not need it.
pub const AMX_PRELOAD: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/whole_xstate.so"));
