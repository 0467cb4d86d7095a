//! What is served, and by whom: disks of every version, raw ones, and each way to carry operations
//! out.

use harness::serve::nbd::message::Command;

use crate::support::cli::{SIZE, Sandbox};
use crate::support::images::{SOME, VERSIONS, expected_disk, name_of};
use crate::support::nbd::Client;
use crate::support::server::Server;

/// Sectors that a client writes: one that is in each of the COW files already, and one that is not.
const WRITTEN: [u64; 2] = [9, 500];

#[test]
fn cow_files_of_every_version_and_raw_disks_are_served() {
    let sandbox = Sandbox::with_images();
    let backing = sandbox.read("backing");
    sandbox.write("raw", &backing);
    let cow_files = VERSIONS.map(name_of).map(|name| (name, format!("@{name}")));
    let raw = ("raw", "ubdad=@raw".to_owned());
    for (name, spec) in cow_files.into_iter().chain([raw]) {
        let mut disk = match name {
            "raw" => backing.clone(),
            _ => expected_disk(&backing, &SOME),
        };
        let server = Server::start(&sandbox, &[&spec, "--nbd", "@s"]);
        let mut client = Client::connect(&sandbox.path("s"));
        assert_eq!(client.size, SIZE, "{name}");
        assert!(client.read(0, SIZE as u32) == disk, "{name}");
        for sector in WRITTEN {
            let at = sector * 512;
            assert_eq!(client.write(0, at, &[0xa5; 512]), 0, "{name}");
            disk[at as usize..][..512].fill(0xa5);
        }
        client.flush();
        assert!(client.read(0, SIZE as u32) == disk, "{name}");
        server.stop();
        let found = match name {
            "raw" => sandbox.read(name),
            _ => sandbox.disk(name, "backing"),
        };
        assert!(found == disk, "{name}");
    }
    assert!(sandbox.read("backing") == backing);
}

#[test]
fn a_file_that_is_no_disk_is_refused_and_left_as_it_is() {
    let sandbox = Sandbox::with_device();
    let junk = vec![b'x'; 64 << 10];
    sandbox.write("junk", &junk);
    let output = sandbox.run(&["serve", "@junk", "--nbd", "@s"]);
    let said = sandbox.text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.starts_with("ubdlab: @junk: "), "{said}");
    assert!(sandbox.read("junk") == junk);
    assert!(!sandbox.path("s").exists());
}

#[test]
fn operations_are_carried_out_as_the_command_line_says() {
    let sandbox = Sandbox::with_device();
    let mut disk = sandbox.read("backing");
    for (number, io) in (1u8..).zip(["inline", "threads", "uring", "auto"]) {
        let args = ["@cow", "--nbd", "@s", "--control", "@ctl", "--io", io];
        if io == "uring" && !has_uring(&sandbox) {
            continue;
        }
        let server = Server::start(&sandbox, &args);
        let taken = sandbox.report(&["ctl", "@ctl", "status"])["io"].clone();
        match io {
            "auto" => assert!(
                ["threads", "uring"].iter().any(|&io| taken == io),
                "{taken}"
            ),
            io => assert_eq!(taken, io),
        }
        let mut client = Client::connect(&sandbox.path("s"));
        // Many at once.
        let at = |n: usize| n * 4096;
        for n in 0..64 {
            let data = [number + n as u8; 512];
            client.send(Command::Write.number(), 0, at(n) as u64, 512, &data);
            disk[at(n)..][..512].copy_from_slice(&data);
        }
        for _ in 0..64 {
            assert_eq!(client.reply().1, 0, "{io}");
        }
        client.flush();
        assert!(client.read(0, SIZE as u32) == disk, "{io}");
        server.stop();
    }
}

/// Whether the system lets programs use io_uring. What they are told otherwise is of another test.
fn has_uring(sandbox: &Sandbox) -> bool {
    let args = ["@cow", "--nbd", "@s", "--control", "@ctl"];
    let server = Server::start(sandbox, &args);
    let taken = sandbox.report(&["ctl", "@ctl", "status"])["io"].clone();
    server.stop();
    taken == "uring"
}
