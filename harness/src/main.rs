//! `ubdlab`, the program.

fn main() {}
