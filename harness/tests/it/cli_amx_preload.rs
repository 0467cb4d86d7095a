//! The library for UML on processors with AMX: it loads, does what it is for, and harms nobody.

use std::process::Command;

use crate::support::cli::{Sandbox, output};
use crate::support::peers::peer;

/// Sets the registers of a process that it traces from a buffer with room for fewer than there are,
/// as UML does where there is AMX. Prints how that ended, whether what was set is there, whether
/// the others are as they were, and what ptrace says of a word and of a place where there is none.
const TRACER: &str = r#"
import ctypes, os, signal
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
class Room(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]
TRACE_ME, PEEK, KILL, GET, SET, EXTENDED = 0, 2, 8, 0x4204, 0x4205, 0x202
word = ctypes.c_long(0x1122334455667788)
child = os.fork()
if child == 0:
    libc.ptrace(TRACE_ME, 0, None, None)
    os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(0)
os.waitpid(child, 0)
def registers(request, buffer, length):
    room = Room(ctypes.addressof(buffer), length)
    result = libc.ptrace(request, child, EXTENDED, ctypes.byref(room))
    return result, room.len
before, part, after = (ctypes.create_string_buffer(1 << 16) for _ in range(3))
result, length = registers(GET, before, len(before))
assert result == 0 and length > 576, (result, length)
assert registers(GET, part, 576) == (0, 576)
part[160:176] = b"x" * 16
part[512] = part.raw[512] | 3
ended = registers(SET, part, 576)[0]
assert registers(GET, after, len(after)) == (0, length)
print("short", ended, after.raw[160:176] == b"x" * 16, after.raw[576:length] == before.raw[576:length])
before[160:176] = b"y" * 16
before[512] = before.raw[512] | 3
ended = registers(SET, before, length)[0]
registers(GET, after, len(after))
print("whole", ended, after.raw[160:176] == b"y" * 16)
print("word", hex(libc.ptrace(PEEK, child, ctypes.addressof(word), None)))
ctypes.set_errno(0)
print("none", libc.ptrace(PEEK, child, 8, None), ctypes.get_errno() != 0)
libc.ptrace(KILL, child, None, None)
os.waitpid(child, 0)
"#;

/// What is too short depends on the processor: here 576 bytes, and on one with AMX all that UML
/// has room for.
#[test]
fn registers_are_set_from_a_buffer_that_is_too_short_for_all() {
    let sandbox = Sandbox::new();
    if !cfg!(target_arch = "x86_64") {
        let only = "UML needs this library on x86-64 only, and this program was built for another \
                    processor";
        sandbox.refuses(&["amx-preload", "@amx.so"], only);
        return;
    }
    sandbox.succeeds(&["amx-preload", "@amx.so"]);
    let library = sandbox.path("amx.so");
    let loaded = output(Command::new("true").env("LD_PRELOAD", &library));
    assert!(loaded.status.success());
    assert_eq!(
        String::from_utf8(loaded.stderr).unwrap(),
        "",
        "it loads without a word"
    );
    let Some(python) = peer("python3") else {
        return;
    };
    let traced = |preload: &str| {
        let mut tracer = Command::new(&python);
        let traced = output(tracer.args(["-c", TRACER]).env("LD_PRELOAD", preload));
        let said = String::from_utf8(traced.stderr).unwrap();
        assert!(traced.status.success(), "{said}");
        String::from_utf8(traced.stdout).unwrap()
    };
    let others = "whole 0 True\nword 0x1122334455667788\nnone -1 True\n";
    // Without it this is what UML dies of.
    assert_eq!(traced(""), format!("short -1 False True\n{others}"));
    let with = traced(library.to_str().unwrap());
    assert_eq!(with, format!("short 0 True True\n{others}"));
}
