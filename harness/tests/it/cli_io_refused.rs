//! The program where io_uring is not allowed, as in many containers.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::cli::{PROGRAM, Sandbox, bundled, output};
use crate::support::peers::peer;

/// Runs a program under a filter that answers EPERM to `io_uring_setup`, which has the number 425
/// on every architecture that Rust and UML have in common.
const UNDER_A_FILTER: &str = r#"
import ctypes, errno, os, sys
class Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8),
                ("k", ctypes.c_uint32)]
class Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_uint16), ("filter", ctypes.POINTER(Instruction))]
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ERRNO, ALLOW = 0x00050000, 0x7fff0000
IO_URING_SETUP = 425
instructions = (Instruction * 4)(
    Instruction(LOAD, 0, 0, 0),
    Instruction(JUMP_IF_EQUAL, 0, 1, IO_URING_SETUP),
    Instruction(RETURN, 0, 0, ERRNO | errno.EPERM),
    Instruction(RETURN, 0, 0, ALLOW))
program = Program(len(instructions), instructions)
PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38
prctl = ctypes.CDLL(None, use_errno=True).prctl
prctl.argtypes = [ctypes.c_int] + 4 * [ctypes.c_ulong]
assert prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, ctypes.get_errno()
filtered = prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(program), 0, 0)
assert filtered == 0, ctypes.get_errno()
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// A replay with `--io` this; `None` where there is no Python.
fn replayed(io: &str) -> Option<Output> {
    let python = peer("python3")?;
    let sandbox = Sandbox::new();
    let mut command = Command::new(python);
    command.args(["-c", UNDER_A_FILTER, PROGRAM, "replay", "--json"]);
    command.arg(bundled("ext4-unpack.ubdtrace"));
    command.args(["--size=100M", "--past-end=wrap", "--limit=1000", "--io", io]);
    command
        .env("TMPDIR", sandbox.temporary())
        .stdin(Stdio::null());
    Some(output(&mut command))
}

#[test]
fn where_io_uring_is_refused_auto_takes_threads_and_who_asks_for_it_is_told() {
    let Some(auto) = replayed("auto") else {
        return;
    };
    let said = String::from_utf8_lossy(&auto.stderr);
    assert_eq!(auto.status.code(), Some(0), "{said}");
    let report: Value = serde_json::from_slice(&auto.stdout).unwrap();
    assert_eq!(report["io"], "threads");
    assert_eq!(report["requests"], 1000);
    assert_eq!(report["mismatches"], 0);
    // That the filter is there shows where there is no other way.
    let uring = replayed("uring").unwrap();
    assert_eq!(uring.status.code(), Some(3));
    let said = String::from_utf8(uring.stderr).unwrap();
    let expected = "io_uring is not to be had here: operation not permitted";
    assert!(said.contains(expected), "{said}");
}
