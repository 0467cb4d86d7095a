//! `ubdlab`, the program: its command line is all that is here.

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::cli::main()
}
