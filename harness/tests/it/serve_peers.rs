//! A device over NBD in the hands of other programs: while it grows, when the server is killed,
//! when the disk under it is full.

use std::path::Path;
use std::process::{Command as Process, Stdio};

use harness::serve::nbd::message::{Command, command_flags};

use crate::support::cli::{Sandbox, output, ubdlab};
use crate::support::mounted::Mounted;
use crate::support::nbd::Client;
use crate::support::peers::{has_engine, peer};
use crate::support::server::Server;
use crate::support::waits::until;

const MIB: u64 = 1 << 20;

/// ENOSPC, as NBD has it.
const NO_SPACE: u32 = 28;

fn uri(sandbox: &Sandbox) -> String {
    format!("nbd+unix:///?socket={}", sandbox.path("s").display())
}

fn succeeds(command: &mut Process) -> String {
    let output = output(command);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn qemu_converts_compares_and_writes() {
    let (Some(qemu_img), Some(qemu_io)) = (peer("qemu-img"), peer("qemu-io")) else {
        return;
    };
    let sandbox = Sandbox::with_device();
    let server = Server::start(&sandbox, &["@cow", "--nbd", "@s"]);
    let uri = uri(&sandbox);
    let raw = sandbox.path("raw");
    let formats = ["-f", "raw"];
    succeeds(
        Process::new(&qemu_io)
            .args(formats)
            .arg(&uri)
            .args(["-c", "write -P 7 4k 64k", "-c", "write -z 256k 8k"])
            .args(["-c", "write -f -P 9 512 512", "-c", "discard 512k 64k"])
            .args([
                "-c",
                "flush",
                "-c",
                "read -P 7 4k 64k",
                "-c",
                "read -P 0 256k 8k",
            ]),
    );
    let convert = ["convert", "-f", "raw", "-O", "raw"];
    succeeds(Process::new(&qemu_img).args(convert).arg(&uri).arg(&raw));
    let compare = ["compare", "-f", "raw", "-F", "raw"];
    let told = succeeds(Process::new(&qemu_img).args(compare).arg(&uri).arg(&raw));
    assert!(told.contains("identical"), "{told}");
    // And into the device, which has another content before; zeros are asked to be fast.
    let mut other = vec![b'o'; MIB as usize / 2];
    other.resize(MIB as usize, 0);
    sandbox.write("other", &other);
    let into = ["convert", "-n", "-W", "-m", "8", "-f", "raw", "-O", "raw"];
    let other = sandbox.path("other");
    succeeds(Process::new(&qemu_img).args(into).arg(&other).arg(&uri));
    let told = succeeds(Process::new(&qemu_img).args(compare).arg(&other).arg(&uri));
    assert!(told.contains("identical"), "{told}");
    succeeds(Process::new(&qemu_img).args(convert).arg(&uri).arg(&raw));
    server.stop();
    // The image tool reads what the client has read.
    sandbox.succeeds(&["image", "convert", "@cow", "@ours", "--to", "raw"]);
    assert!(sandbox.read("ours") == sandbox.read("raw"));
}

/// What nbdsh does with each flag, in Python.
const NBDSH: &str = r#"
assert h.can_fua() and h.can_flush() and h.can_trim() and h.can_zero() and h.can_df()
assert h.can_cache() and h.can_fast_zero() and h.can_multi_conn() and not h.is_read_only()
assert h.can_meta_context(nbd.CONTEXT_BASE_ALLOCATION) and h.can_meta_context("ubdlab:dirty")
h.pwrite(b"a" * 4096, 8192, nbd.CMD_FLAG_FUA)
assert h.pread(4096, 8192) == b"a" * 4096
assert h.pread_structured(4096, 8192, lambda *_: 0, nbd.CMD_FLAG_DF) == b"a" * 4096
h.cache(65536, 0)
h.zero(4096, 8192, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
h.zero(4096, 8192, nbd.CMD_FLAG_FAST_ZERO)
assert h.pread(4096, 8192) == b"\0" * 4096
h.trim(4096, 8192, nbd.CMD_FLAG_FUA)
h.flush()
seen = {}
def extents(context, offset, entries, error):
    seen[context] = entries
h.block_status(65536, 0, extents)
assert seen["ubdlab:dirty"][0::2] == [8192, 4096, 53248], seen
assert seen["ubdlab:dirty"][1::2] == [0, 1, 0], seen
assert sum(seen["base:allocation"][0::2]) == 65536, seen
seen.clear()
h.block_status(65536, 0, extents, nbd.CMD_FLAG_REQ_ONE)
assert seen["ubdlab:dirty"] == [8192, 0], seen
h.set_strict_mode(0)
for wrong in [lambda: h.pwrite(b"a" * 512, 1), lambda: h.pread(512, h.get_size())]:
    try:
        wrong()
        assert False
    except nbd.Error as error:
        assert error.errno == "EINVAL", error
h.shutdown()
"#;

#[test]
fn nbdsh_uses_every_flag() {
    let Some(nbdsh) = peer("nbdsh") else {
        return;
    };
    let sandbox = Sandbox::with_hole(MIB);
    let server = Server::start(&sandbox, &["@cow", "--nbd", "@s"]);
    let contexts = [
        "h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)",
        "h.add_meta_context('ubdlab:dirty')",
    ];
    succeeds(
        Process::new(nbdsh)
            // It takes the first Python, which may be another than the one that it belongs to.
            .env("PATH", "/usr/bin:/bin")
            .args(["-c", contexts[0], "-c", contexts[1]])
            .args(["-c", &format!("h.connect_uri('{}')", uri(&sandbox))])
            .args(["-c", NBDSH]),
    );
    let said = server.stop();
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// Zeros that are to have their space come in one request of 128 MiB.
#[test]
fn nbdcopy_copies_a_disk_of_zeros_that_have_their_space() {
    let Some(nbdcopy) = peer("nbdcopy") else {
        return;
    };
    let sandbox = Sandbox::with_hole(128 * MIB);
    let empty = std::fs::File::create(sandbox.path("empty")).unwrap();
    empty.set_len(128 * MIB).unwrap();
    let server = Server::start(&sandbox, &["@cow", "--nbd", "@s"]);
    let mut copied = Process::new(nbdcopy);
    copied.args(["--allocated", "--request-size=33554432"]);
    succeeds(copied.arg(sandbox.path("empty")).arg(uri(&sandbox)));
    let said = server.stop();
    assert_eq!(said.lines().count(), 1, "{said}");
    let dirty = &sandbox.report(&["image", "info", "@cow"])["dirty_data_bytes"];
    assert_eq!(dirty, 128 * MIB);
}

#[test]
fn a_socket_that_is_handed_over_is_served() {
    let Some(nbdinfo) = peer("nbdinfo") else {
        return;
    };
    let sandbox = Sandbox::with_device();
    let program = ubdlab().get_program().to_owned();
    let told = succeeds(
        Process::new(nbdinfo)
            .args(["--size", "--", "["])
            .arg(program)
            .arg("serve")
            .arg(sandbox.path("cow"))
            .args(["--nbd", "activated", "]"]),
    );
    assert_eq!(told.trim(), MIB.to_string());
    // Without one it says what is missing.
    sandbox.fails(
        &["serve", "@cow", "--nbd", "activated"],
        3,
        "ubdlab: NBD at the sockets that were handed over: found no socket, expected some in \
         LISTEN_FDS and LISTEN_PID, as systemd and nbdinfo -- [ ... ] pass them\n",
    );
}

/// A fio for each half of the disk writes and verifies what it wrote. Each resize begins in the
/// middle of that, and both go on after the second one.
#[test]
fn two_connections_verify_what_they_write_while_the_device_grows_twice() {
    /// Requests between one step of the test and the next.
    const MORE: u64 = 4000;
    let Some(fio) = peer("fio").filter(|fio| has_engine(fio, "nbd")) else {
        return;
    };
    let sandbox = Sandbox::with_hole(16 * MIB);
    let server = Server::start(&sandbox, &["@cow", "--nbd", "@s", "--control", "@ctl"]);
    let job = |name: &str, offset: u64| {
        let mut fio = Process::new(&fio);
        fio.args([
            "--ioengine=nbd",
            "--rw=randwrite",
            "--bs=4k",
            "--iodepth=32",
        ])
        .args(["--verify=crc32c", "--do_verify=1", "--verify_fatal=1"])
        .args(["--size=8M", "--loops=50", "--fsync=64"])
        .arg(format!("--uri={}", uri(&sandbox)))
        .arg(format!("--name={name}"))
        .arg(format!("--offset={offset}"))
        .current_dir(sandbox.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
        fio.spawn().unwrap()
    };
    let requests = || {
        let status = sandbox.report(&["ctl", "@ctl", "status"]);
        status["requests"].as_u64().unwrap()
    };
    let go_on = || {
        let before = requests();
        until("more is done", || requests() >= before + MORE);
    };
    let mut jobs = [job("low", 0), job("high", 8 * MIB)];
    for (size, strategy) in [("32M", "reflow"), ("+1G", "rebuild")] {
        go_on();
        let grown = sandbox.report(&["ctl", "@ctl", "resize", size, "--strategy", strategy]);
        let grown = &grown["resized"];
        assert_eq!(grown["strategy"], strategy);
        assert!(grown["moved_bytes"].as_u64().unwrap() > 0, "{grown}");
    }
    go_on();
    for job in &mut jobs {
        assert!(job.try_wait().unwrap().is_none(), "it has ended before");
    }
    for job in jobs {
        let output = job.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let client = Client::connect(&sandbox.path("s"));
    assert_eq!(client.size, (32 << 20) + (1 << 30));
    server.stop();
    sandbox.succeeds(&["image", "check", "@cow"]);
}

#[test]
fn a_full_disk_fails_requests_and_the_device_lives() {
    let sandbox = Sandbox::with_hole(16 * MIB);
    let at = sandbox.path("small");
    std::fs::create_dir(&at).unwrap();
    let Some(mounted) = Mounted::tmpfs(&at, 2 * MIB) else {
        return;
    };
    copy(&sandbox.path("cow"), &at.join("cow"));
    let server = Server::start(&sandbox, &["@small/cow", "--nbd", "@s"]);
    let mut client = Client::connect(&sandbox.path("s"));
    let data = vec![7; 65_536];
    let mut written = 0;
    let error = loop {
        match client.write(0, written, &data) {
            0 => written += data.len() as u64,
            error => break error,
        }
        assert!(written < 16 * MIB, "the disk never was full");
    };
    assert_eq!(error, NO_SPACE);
    assert_eq!(client.read(0, 65_536), data);
    // What it has already can be written over. The bits have no room, so nothing is durable.
    assert_eq!(client.write(0, 0, &[8; 4096]), 0);
    assert_eq!(client.ask(Command::Flush, 0, 0, 0), NO_SPACE);
    // With room all of it is.
    let more = Process::new("mount")
        .args(["-o", "remount,size=4M"])
        .arg(&at)
        .status();
    assert!(more.unwrap().success());
    client.flush();
    assert_eq!(client.write(command_flags::FUA, written, &data), 0);
    assert_eq!(client.read(0, 4096), [8; 4096]);
    let said = server.stop();
    assert_eq!(said.lines().count(), 1, "{said}");
    sandbox.succeeds(&["image", "check", "@small/cow"]);
    drop(mounted);
}

fn copy(from: &Path, to: &Path) {
    succeeds(Process::new("cp").arg("--sparse=always").arg(from).arg(to));
}
