//! Bad input of every kind, given to the real program: one clear message, the exit status for
//! it, and every file byte for byte as it was.

mod backing;
mod cow;
mod disk_full;
mod image;
mod image_arguments;
mod late_times;
mod resize;
mod traces;
mod usage;
mod ways_out;
