//! Benchmarks of the sector lookup.

fn main() {}
