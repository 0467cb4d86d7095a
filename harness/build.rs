//! Compiles the library that the program carries for UML on processors with AMX.

use std::path::PathBuf;

const SOURCE: &str = "preload/whole_xstate.c";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SOURCE}");
    let of_target = |name: &str| std::env::var(name).unwrap_or_default();
    let library = PathBuf::from(of_target("OUT_DIR")).join("whole_xstate.so");
    let is_x86_64 = of_target("CARGO_CFG_TARGET_ARCH") == "x86_64";
    let is_linux = of_target("CARGO_CFG_TARGET_OS") == "linux";
    // Its `ptrace` is declared as in the GNU C library.
    let is_gnu = of_target("CARGO_CFG_TARGET_ENV") == "gnu";
    let made = match is_x86_64 && is_linux && is_gnu {
        true => compile(&library),
        // UML runs nowhere else with these registers.
        false => std::fs::write(&library, "").map_err(|error| error.to_string()),
    };
    if let Err(why) = made {
        println!(
            "cargo::error={SOURCE}: {why}; a C compiler for the target is needed (see README)"
        );
    }
}

fn compile(library: &PathBuf) -> Result<(), String> {
    let mut build = cc::Build::new();
    // The profile of the program changes nothing about it.
    let build = build.opt_level(2).debug(false).pic(true).warnings(true);
    let compiler = build
        .try_get_compiler()
        .map_err(|error| error.to_string())?;
    let mut command = compiler.to_command();
    command.args(["-shared", SOURCE, "-o"]).arg(library);
    let status = command
        .status()
        .map_err(|error| format!("{command:?}: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {status}")),
    }
}
