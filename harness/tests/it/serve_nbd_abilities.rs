//! What a device cannot do is not offered over NBD, and is refused as the protocol says to a client
//! that asks for it all the same.

use harness::serve::nbd::abilities::FileSystem;
use harness::serve::nbd::message::{Command, command_flags, transmission};

use crate::support::cli::{SIZE, Sandbox};
use crate::support::mounted::Mounted;
use crate::support::nbd::Client;
use crate::support::server::Server;

const INVALID: u32 = 22;
const NOT_PERMITTED: u32 = 1;
const NOT_SUPPORTED: u32 = 95;

const TRIM: u16 = transmission::SEND_TRIM;
const ZEROES: u16 = transmission::SEND_WRITE_ZEROES | transmission::SEND_FAST_ZERO;

/// What a server offers, and what it answers to a trim, to zeros, and to zeros that are to be fast.
struct Expected {
    offered: u16,
    trim: u32,
    zeroes: u32,
    fast: u32,
}

/// Neither trims nor zeros, with this answer.
fn neither(error: u32) -> Expected {
    Expected {
        offered: 0,
        trim: error,
        zeroes: error,
        fast: error,
    }
}

fn check(sandbox: &Sandbox, directory: &str, args: &[&str], expected: &Expected) {
    let cow = format!("@{directory}cow");
    let args = [&[cow.as_str(), "--nbd", "@s"], args].concat();
    let server = Server::start(sandbox, &args);
    let mut client = Client::connect(&sandbox.path("s"));
    let offered = client.flags & (TRIM | ZEROES);
    assert_eq!(offered, expected.offered, "{args:?}");
    let before = client.read(0, SIZE as u32);
    let fast = client.ask(Command::WriteZeroes, command_flags::FAST_ZERO, 8192, 4096);
    assert_eq!(fast, expected.fast, "fast zeros of {args:?}");
    if fast != 0 {
        let unchanged = client.read(0, SIZE as u32) == before;
        assert!(unchanged, "what is refused changes nothing, {args:?}");
    }
    let zeroes = client.ask(Command::WriteZeroes, 0, 8192, 4096);
    assert_eq!(zeroes, expected.zeroes, "zeros of {args:?}");
    if zeroes == 0 {
        assert_eq!(client.read(8192, 4096), [0; 4096]);
    }
    let trim = client.ask(Command::Trim, 0, 8192, 4096);
    assert_eq!(trim, expected.trim, "trim of {args:?}");
    // The connection goes on.
    client.flush();
    server.stop();
}

/// The three drivers and a read-only device on the file system of `directory`.
fn check_all(sandbox: &Sandbox, directory: &str, file_system: FileSystem) {
    assert!(file_system.punches, "of {directory:?}");
    let fast = match file_system.zeroes {
        true => 0,
        false => NOT_SUPPORTED,
    };
    let ordered = Expected {
        offered: TRIM | ZEROES,
        trim: 0,
        zeroes: 0,
        fast,
    };
    check(sandbox, directory, &[], &ordered);
    check(
        sandbox,
        directory,
        &["--read-only"],
        &neither(NOT_PERMITTED),
    );
    let recent = match file_system.zeroes {
        true => ordered,
        // Its kernel would write the zeros itself, above the driver. So does the client.
        false => Expected {
            offered: TRIM,
            trim: 0,
            ..neither(INVALID)
        },
    };
    let model = |driver| ["--driver", driver, "--defect", "none"];
    check(sandbox, directory, &model("linux-6.12"), &recent);
    check(sandbox, directory, &model("linux-2.6"), &neither(INVALID));
}

#[test]
fn each_driver_offers_what_it_and_the_file_system_can_do() {
    let sandbox = Sandbox::with_device();
    let here = FileSystem::at(&sandbox.path("cow"));
    check_all(&sandbox, "", here);
}

/// A tmpfs makes no zeros but by writing them.
#[test]
fn zeros_that_would_have_to_be_written_are_not_said_to_be_fast() {
    let sandbox = Sandbox::with_device();
    let at = sandbox.path("tmpfs");
    std::fs::create_dir(&at).unwrap();
    let Some(mounted) = Mounted::tmpfs(&at, 16 << 20) else {
        return;
    };
    std::fs::copy(sandbox.path("cow"), at.join("cow")).unwrap();
    let there = FileSystem::at(&at.join("cow"));
    check_all(&sandbox, "tmpfs/", there);
    mounted.end();
}
