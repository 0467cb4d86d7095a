//! A device that is served from a disk that fills up: its clients hear so, and with room again it
//! goes on.

use harness::serve::nbd::message::Command;

use crate::support::cli::{SIZE, Sandbox};
use crate::support::mounted::Mounted;
use crate::support::nbd::Client;
use crate::support::server::Server;

const NO_SPACE: u32 = 28;
const PIECE: usize = 4096;

#[test]
fn a_full_disk_fails_writes_and_not_the_device() {
    let sandbox = Sandbox::with_device();
    let small = sandbox.path("small");
    std::fs::create_dir(&small).unwrap();
    let Some(mounted) = Mounted::tmpfs(&small, SIZE / 2) else {
        return;
    };
    sandbox.create_cow("small/cow", "backing");
    // Some of it can be given back.
    sandbox.write("small/filler", vec![1; 65_536]);
    let server = Server::start(
        &sandbox,
        &["@small/cow", "--nbd", "@s", "--control", "@ctl"],
    );
    let mut client = Client::connect(&sandbox.path("s"));
    let mut other = Client::connect(&sandbox.path("s"));
    let mut disk = sandbox.read("backing");
    let mut full = None;
    for at in (0..SIZE).step_by(PIECE) {
        let data = vec![(at / PIECE as u64) as u8; PIECE];
        match client.write(0, at, &data) {
            0 => disk[at as usize..][..PIECE].copy_from_slice(&data),
            NO_SPACE => {
                full = Some(at);
                break;
            }
            error => panic!("error {error} at {at}"),
        }
    }
    let full = full.expect("the disk is smaller than the device");
    assert!(full > SIZE / 8, "{full}");
    // It lives: reads, and writes to what has its space. The bitmap has none yet, so that nothing
    // of it becomes durable, and that is said.
    assert_eq!(other.read(0, SIZE as u32), disk);
    assert_eq!(client.ask(Command::Flush, 0, 0, 0), NO_SPACE);
    assert_eq!(client.write(0, 0, &disk[..PIECE]), 0);
    assert_eq!(other.write(0, full, &[9; PIECE]), NO_SPACE);
    let status = sandbox.report(&["ctl", "@ctl", "status"]);
    assert_eq!(status["failed_sync"], false);
    // With room again so do they.
    std::fs::remove_file(sandbox.path("small/filler")).unwrap();
    let data = [9; PIECE];
    assert_eq!(other.write(0, full, &data), 0);
    disk[full as usize..][..PIECE].copy_from_slice(&data);
    assert_eq!(client.ask(Command::Flush, 0, 0, 0), 0);
    assert_eq!(client.read(0, SIZE as u32), disk);
    drop((client, other));
    server.stop();
    sandbox.succeeds(&["image", "check", "@small/cow"]);
    // Its backing file is in another directory.
    let args = [
        "image",
        "convert",
        "@small/cow",
        "@raw",
        "--to",
        "raw",
        "--format",
        "cow",
    ];
    sandbox.succeeds(&args);
    assert!(sandbox.read("raw") == disk);
    mounted.end();
}
