//! What others do to the file of a device while it is served, without asking for its lock.

use std::fs::File;

use driver::blk::Status;
use driver::units::{Bytes, SECTOR_SIZE, Sector};
use harness::serve::nbd::message::Command;
use harness::serve::{Ending, Export, Job};

use crate::support::cli::{SIZE, Sandbox};
use crate::support::nbd::Client;
use crate::support::served::{bring_up, half_moved, start};
use crate::support::server::Server;

const IO_ERROR: u32 = 5;

/// Cuts the COW file by 8 KiB.
fn cut_file(sandbox: &Sandbox) {
    let file = File::options().write(true).open(sandbox.path("cow"));
    let file = file.unwrap();
    let len = file.metadata().unwrap().len();
    file.set_len(len - 8192).unwrap();
}

/// A device of which the last sector is in the COW file, which is then cut below it.
fn cut() -> (Sandbox, Server, Client) {
    let sandbox = Sandbox::with_device();
    let server = start(&sandbox, &[]);
    let mut client = Client::connect(&sandbox.path("nbd"));
    assert_eq!(client.write(0, SIZE - 512, &[7; 512]), 0);
    client.flush();
    cut_file(&sandbox);
    (sandbox, server, client)
}

fn ended(server: Server) {
    let (status, said) = server.wait();
    assert_eq!(status, Some(3), "{said}");
    let why = "cow: somebody has cut the file from ";
    assert!(said.contains(why), "{said}");
    assert!(said.contains("what lay past that is lost"), "{said}");
}

#[test]
fn a_read_of_what_was_cut_off_fails_and_the_server_ends() {
    let (_sandbox, server, mut client) = cut();
    let sent = client.send(Command::Read.number(), 0, SIZE - 512, 512, b"");
    assert_eq!(client.reply(), (sent, IO_ERROR));
    ended(server);
}

/// What was written since then lies in the file, and what lay beside it is zeros now.
#[test]
fn nothing_is_durable_in_a_file_that_was_cut() {
    let (_sandbox, server, mut client) = cut();
    assert_eq!(client.write(0, SIZE - 4096, &[8; 512]), 0);
    assert_eq!(client.ask(Command::Flush, 0, 0, 0), IO_ERROR);
    ended(server);
}

/// It makes each write durable before it is answered.
#[test]
fn a_synchronous_device_acknowledges_no_write_in_a_file_that_was_cut() {
    let sandbox = Sandbox::with_device();
    let args = ["ubdas=@cow", "--nbd", "@nbd"];
    let server = Server::start(&sandbox, &args);
    let mut client = Client::connect(&sandbox.path("nbd"));
    assert_eq!(client.write(0, SIZE - 512, &[7; 512]), 0);
    cut_file(&sandbox);
    assert_eq!(client.write(0, 0, &[8; 512]), IO_ERROR);
    ended(server);
}

#[test]
fn a_status_tells_that_the_file_was_cut() {
    let (sandbox, server, _client) = cut();
    let status = sandbox.report(&["ctl", "@ctl", "status"]);
    let changed = status["file_changed"].as_str().unwrap();
    assert!(changed.contains("somebody has cut"), "{changed}");
    ended(server);
}

#[test]
fn a_cut_that_nobody_noticed_is_told_at_the_end() {
    let (sandbox, server, client) = cut();
    drop(client);
    let refused = sandbox.run(&["ctl", "@ctl", "stop"]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    ended(server);
}

#[test]
fn a_file_that_was_cut_is_not_resized() {
    // Nor is it said what such a resize would do.
    for more in [&[][..], &["--dry-run"]] {
        let (sandbox, server, _client) = cut();
        let why = "somebody has cut the file from ";
        let refused = sandbox.run(&[&["ctl", "@ctl", "resize", "+1M"], more].concat());
        let said = sandbox.text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(3), "{said}");
        assert!(said.contains(why), "{said}");
        ended(server);
    }
}

/// While it goes on, the device changes the file's length itself. Where it has ended before the
/// cut, that is a cut like any other.
#[test]
fn a_cut_in_a_resize_is_noticed_when_that_has_ended() {
    const OLD_SIZE: u64 = 64 << 20;
    const NEW_SIZE: u64 = 1 << 30;
    let sandbox = Sandbox::with_hole(OLD_SIZE);
    let (up, ending) = bring_up(&sandbox.path("cow"));
    write_all(&up.export, OLD_SIZE);
    let resizing = half_moved(&up.export, Bytes(NEW_SIZE));
    let file = File::options().write(true).open(sandbox.path("cow"));
    let file = file.unwrap();
    let start = file.metadata().unwrap().len() - NEW_SIZE;
    // What has been moved is past that.
    file.set_len(start + OLD_SIZE - 4096).unwrap();
    let _ = resizing.join().unwrap();
    let changed = up.export.status().unwrap().file_changed;
    let is_cut = |words: &String| words.contains("somebody has cut the file from ");
    assert!(changed.as_ref().is_some_and(is_cut), "{changed:?}");
    assert!(matches!(ending.try_recv(), Ok(Ending::Cut(words)) if is_cut(&words)));
    assert!(is_cut(&up.close().unwrap_err()));
}

/// Has the device hold data all over.
fn write_all(export: &Export, size: u64) {
    const PIECE: u64 = 4 << 20;
    let (submitter, completer) = export.client::<()>("test".into());
    for at in (0..size).step_by(PIECE as usize) {
        let job = Job::Write {
            start: Sector(at / SECTOR_SIZE),
            data: vec![7; PIECE as usize],
            fua: false,
        };
        submitter.submit([(job, (), None)]).unwrap();
        let done = completer.next_batch().unwrap().unwrap();
        assert_eq!(done[0].status, Status::Ok);
    }
}

#[test]
fn a_device_whose_name_is_another_file_s_goes_on_and_says_where_it_is() {
    let sandbox = Sandbox::with_device();
    let server = start(&sandbox, &[]);
    let mut client = Client::connect(&sandbox.path("nbd"));
    std::fs::rename(sandbox.path("cow"), sandbox.path("aside")).unwrap();
    sandbox.write("cow", "another's");
    assert_eq!(client.write(0, 0, &[7; 512]), 0);
    for _ in 0..2 {
        client.flush();
    }
    let status = sandbox.report(&["ctl", "@ctl", "status"]);
    let changed = status["file_changed"].as_str().unwrap().to_owned();
    let place = changed.rsplit_once("until then it is ").unwrap().1;
    assert!(std::fs::read(place).unwrap() == sandbox.read("aside"));
    assert_eq!(client.read(0, 512), [7; 512]);
    let rebuild = ["ctl", "@ctl", "resize", "2M", "--strategy", "rebuild"];
    let refused = sandbox.text(&sandbox.run(&rebuild).stderr);
    assert!(refused.contains("somebody has moved it"), "{refused}");
    let said = server.stop();
    assert_eq!(
        said.matches("somebody has given the name").count(),
        1,
        "{said}"
    );
    assert_eq!(sandbox.read("cow"), b"another's");
}

#[test]
fn that_a_file_has_its_name_again_is_told() {
    let sandbox = Sandbox::with_device();
    let server = start(&sandbox, &[]);
    let mut client = Client::connect(&sandbox.path("nbd"));
    let (cow, aside) = (sandbox.path("cow"), sandbox.path("aside"));
    std::fs::rename(&cow, &aside).unwrap();
    client.flush();
    std::fs::rename(&aside, &cow).unwrap();
    for _ in 0..2 {
        client.flush();
    }
    let status = sandbox.report(&["ctl", "@ctl", "status"]);
    assert_eq!(status["file_changed"], serde_json::Value::Null);
    let said = server.stop();
    let again = "cow: the name is again that of the file that is served";
    assert_eq!(said.matches(again).count(), 1, "{said}");
}

/// A device changes length and name of its file itself.
#[test]
fn a_resize_is_not_taken_for_a_cut() {
    let sandbox = Sandbox::with_device();
    let server = start(&sandbox, &[]);
    let mut client = Client::connect(&sandbox.path("nbd"));
    assert_eq!(client.write(0, 0, &[7; 512]), 0);
    for resize in [
        &["+1M"][..],
        &["1G", "--strategy", "reflow"],
        &["1M", "--shrink"],
        &["2M", "--strategy", "rebuild"],
        &["1M", "--shrink"],
    ] {
        let resize = [&["ctl", "@ctl", "resize"], resize].concat();
        sandbox.succeeds(&resize);
        client.flush();
        let status = sandbox.report(&["ctl", "@ctl", "status"]);
        assert_eq!(
            status["file_changed"],
            serde_json::Value::Null,
            "{resize:?}"
        );
    }
    server.stop();
}
