//! A FUSE mount is gone when its server has ended, however it has ended; and where it is not, the
//! next server says what to do.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command as Process;

use harness::serve::nbd::message::Command;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::cli::{SIZE, Sandbox, output};
use crate::support::fuse::Directory;
use crate::support::nbd::Client;
use crate::support::server::Server;

fn served(sandbox: &Sandbox) -> Server {
    Server::start(sandbox, &["@cow", "--fuse", "@m", "--nbd", "@s"])
}

/// Another server, of another device, that is mounted there.
fn another_on(directory: &Directory) -> (Sandbox, Server) {
    let sandbox = Sandbox::with_device();
    let args = ["@cow", "--fuse", directory.path().to_str().unwrap()];
    let server = Server::start(&sandbox, &args);
    (sandbox, server)
}

fn is_empty(directory: &Directory) -> bool {
    let mut entries = std::fs::read_dir(directory.path()).unwrap();
    !directory.is_mounted() && entries.next().is_none()
}

#[test]
fn a_stop_takes_it_away_from_those_who_use_it_and_keeps_what_they_wrote() {
    let sandbox = Sandbox::with_device();
    let Some(directory) = Directory::new(&sandbox, "m") else {
        return;
    };
    let server = served(&sandbox);
    assert!(directory.is_mounted());
    let file = File::options()
        .read(true)
        .write(true)
        .open(directory.disk());
    let file = file.unwrap();
    file.write_all_at(b"not synced", 100).unwrap();
    server.stop();
    assert!(is_empty(&directory));
    assert!(file.read_at(&mut [0], 0).is_err());
    assert!(file.write_at(&[0], 0).is_err());
    assert!(file.sync_all().is_err());
    sandbox.succeeds(&["image", "convert", "@cow", "@raw", "--to", "raw"]);
    assert_eq!(sandbox.read("raw")[100..110], *b"not synced");
}

/// A client that does not read its answers keeps the server from stopping for some seconds.
#[test]
fn a_second_signal_takes_it_away_at_once() {
    let sandbox = Sandbox::with_device();
    let Some(directory) = Directory::new(&sandbox, "m") else {
        return;
    };
    let server = served(&sandbox);
    let _file = File::open(directory.disk()).unwrap();
    let mut client = Client::connect(&sandbox.path("s"));
    for _ in 0..100 {
        client.send(Command::Read.number(), 0, 0, SIZE as u32, b"");
    }
    server.send(Signal::TERM);
    server.send(Signal::INT);
    let (status, said) = server.wait();
    assert!(matches!(status, Some(130 | 143)), "{status:?}: {said}");
    assert!(said.contains("what was temporary is removed"), "{said}");
    assert!(is_empty(&directory));
}

#[test]
fn a_server_that_is_killed_leaves_no_mount_and_the_next_one_has_the_directory_at_once() {
    let sandbox = Sandbox::with_device();
    let Some(directory) = Directory::new(&sandbox, "m") else {
        return;
    };
    let server = served(&sandbox);
    // It goes also where it is in use.
    let file = File::open(directory.disk()).unwrap();
    server.kill();
    let server = served(&sandbox);
    assert!(directory.is_mounted());
    assert!(file.read_at(&mut [0], 0).is_err());
    server.kill();
    while directory.is_mounted() {
        std::thread::yield_now();
    }
    assert!(is_empty(&directory));
}

/// The processes that a process has started.
fn children(of: Pid) -> Vec<Pid> {
    let mut children = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{}/task", of.as_raw_pid())).unwrap() {
        let listed = std::fs::read_to_string(task.unwrap().path().join("children")).unwrap();
        let pids = listed.split_whitespace().map(|pid| pid.parse().unwrap());
        children.extend(pids.map(|pid| Pid::from_raw(pid).unwrap()));
    }
    children
}

#[test]
fn a_server_that_ends_leaves_no_process() {
    let sandbox = Sandbox::with_device();
    let Some(_directory) = Directory::new(&sandbox, "m") else {
        return;
    };
    let server = served(&sandbox);
    let [unmounter] = children(server.pid())[..] else {
        panic!("it has started other processes");
    };
    server.stop();
    assert!(kill_process(unmounter, Signal::CONT).is_err());
}

#[test]
fn what_is_left_where_nobody_could_take_it_away_is_told_with_the_command_that_clears_it() {
    let sandbox = Sandbox::with_device();
    let Some(directory) = Directory::new(&sandbox, "m") else {
        return;
    };
    let server = served(&sandbox);
    for child in children(server.pid()) {
        kill_process(child, Signal::KILL).unwrap();
    }
    server.kill();
    assert!(directory.is_mounted());
    let answer = std::fs::read_dir(directory.path()).unwrap_err();
    assert_eq!(Errno::from_io_error(&answer), Some(Errno::NOTCONN));
    let found = sandbox.run(&["serve", "@cow", "--fuse", "@m"]);
    let said = String::from_utf8(found.stderr).unwrap();
    assert_eq!(found.status.code(), Some(3), "{said}");
    assert!(
        said.contains("found a mount whose server was killed"),
        "{said}"
    );
    let command = said.trim().rsplit_once("away: ").unwrap().1;
    assert!(
        output(Process::new("sh").args(["-c", command]))
            .status
            .success()
    );
    let server = served(&sandbox);
    assert!(directory.is_mounted());
    server.stop();
    assert!(is_empty(&directory));
}

#[test]
fn somebody_else_may_unmount_it_and_the_server_goes_on() {
    let sandbox = Sandbox::with_device();
    let Some(directory) = Directory::new(&sandbox, "m") else {
        return;
    };
    let server = served(&sandbox);
    rustix::mount::unmount(directory.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    let mut client = Client::connect(&sandbox.path("s"));
    client.read(0, 512);
    // Another file system that is mounted there meanwhile is not ours to take away.
    while !is_empty(&directory) {
        std::thread::yield_now();
    }
    let (_other, second) = another_on(&directory);
    server.wait_until_it_says("unmounted from outside");
    server.wait_until_it_says("still served: NBD at ");
    server.stop();
    assert!(directory.is_mounted());
    second.stop();
    assert!(is_empty(&directory));
}

/// The kernel gives the number of the mount and of its device to the next one.
#[test]
fn a_server_that_stops_before_it_hears_of_it_leaves_what_is_mounted_there_now() {
    let sandbox = Sandbox::with_device();
    let Some(directory) = Directory::new(&sandbox, "m") else {
        return;
    };
    let server = served(&sandbox);
    server.send(Signal::STOP);
    rustix::mount::unmount(directory.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    let (_other, second) = another_on(&directory);
    server.send(Signal::TERM);
    server.send(Signal::CONT);
    let (status, said) = server.wait();
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("unmounted from outside"), "{said}");
    assert!(directory.is_mounted());
    second.stop();
    assert!(is_empty(&directory));
}

/// Nobody could do anything with a server that went on, and unmounting is a way to end it.
#[test]
fn a_server_of_nothing_but_a_mount_ends_with_it_and_keeps_what_was_written() {
    let sandbox = Sandbox::with_device();
    let Some(directory) = Directory::new(&sandbox, "m") else {
        return;
    };
    let server = Server::start(&sandbox, &["@cow", "--fuse", "@m", "--control", "@ctl"]);
    std::fs::File::options()
        .write(true)
        .open(directory.disk())
        .and_then(|file| file.write_all_at(b"not synced", 100))
        .unwrap();
    rustix::mount::unmount(directory.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    let (status, said) = server.wait();
    assert_eq!(status, Some(0), "{said}");
    let why = "cow: unmounted where it was served: everything is durable, and the device is closed";
    assert!(said.contains("unmounted from outside"), "{said}");
    assert!(said.contains(why), "{said}");
    assert!(is_empty(&directory) && !sandbox.path("ctl").exists());
    sandbox.succeeds(&["image", "convert", "@cow", "@raw", "--to", "raw"]);
    assert_eq!(sandbox.read("raw")[100..110], *b"not synced");
}

/// What was lost is told however the server ends.
#[test]
fn a_server_whose_mount_is_taken_away_tells_that_its_file_was_cut() {
    let sandbox = Sandbox::with_device();
    let Some(directory) = Directory::new(&sandbox, "m") else {
        return;
    };
    let server = Server::start(&sandbox, &["@cow", "--fuse", "@m"]);
    let cow = File::options().write(true).open(sandbox.path("cow"));
    let cow = cow.unwrap();
    cow.set_len(cow.metadata().unwrap().len() - 512).unwrap();
    rustix::mount::unmount(directory.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    let (status, said) = server.wait();
    assert_eq!(status, Some(3), "{said}");
    assert!(said.contains("unmounted from outside"), "{said}");
    let why = "cow: somebody has cut the file from ";
    assert_eq!(said.matches(why).count(), 1, "{said}");
    assert!(!said.contains("everything is durable"), "{said}");
}

/// With a file open, the server is there still for the mount that nobody sees any more.
#[test]
fn what_is_mounted_in_its_place_stays_when_the_server_stops() {
    let sandbox = Sandbox::with_device();
    let Some(directory) = Directory::new(&sandbox, "m") else {
        return;
    };
    let server = served(&sandbox);
    let file = File::open(directory.disk()).unwrap();
    rustix::mount::unmount(directory.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    file.read_exact_at(&mut [0; 512], 0).unwrap();
    let (_other, second) = another_on(&directory);
    let said = server.stop();
    assert!(said.contains("unmounted from outside"), "{said}");
    assert!(file.read_at(&mut [0], 0).is_err());
    assert_eq!(std::fs::metadata(directory.disk()).unwrap().len(), SIZE);
    second.stop();
    assert!(is_empty(&directory));
}

#[test]
fn a_server_that_does_not_begin_leaves_no_mount() {
    let sandbox = Sandbox::with_device();
    let Some(directory) = Directory::new(&sandbox, "m") else {
        return;
    };
    // The directory of the socket is not there.
    let found = sandbox.run(&["serve", "@cow", "--fuse", "@m", "--control", "@no/c"]);
    assert_eq!(found.status.code(), Some(3), "{found:?}");
    assert!(is_empty(&directory));
    std::fs::write(directory.path().join("file"), "").unwrap();
    for (name, why) in [
        (
            "m",
            "found a directory with something in it, expected an empty one",
        ),
        ("none", "no such file or directory"),
        ("cow", "not a directory"),
    ] {
        let place = format!("@{name}");
        let message = format!("FUSE at {place}: {why}");
        sandbox.refuses(&["serve", "@cow", "--fuse", &place], &message);
    }
}
