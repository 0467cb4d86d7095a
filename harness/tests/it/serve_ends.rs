//! How a server ends where it cannot begin, or where its device has ended by itself: nothing stays
//! behind, and the exit status says so.

use std::sync::mpsc::{Sender, channel};

use harness::serve::nbd::message::Command;
use harness::serve::{Endpoint, Endpoints, Export};

use crate::support::cli::Sandbox;
use crate::support::nbd::Client;
use crate::support::served::bring_up;
use crate::support::server::Server;

/// Each of these begins with an NBD socket, and fails at something later.
#[test]
fn a_server_that_cannot_begin_leaves_no_socket() {
    let sandbox = Sandbox::with_device();
    std::fs::create_dir(sandbox.path("full")).unwrap();
    sandbox.write("full/file", "x");
    for more in [
        ["--nbd", "@none/s"],
        ["--vhost-user", "@trace"],
        ["--fuse", "@full"],
        ["--control", "@trace"],
        ["--record", "@trace"],
    ] {
        let args = [&["serve", "@cow", "--nbd", "@s"][..], &more].concat();
        let output = sandbox.run(&args);
        assert_eq!(output.status.code(), Some(3), "{more:?}: {output:?}");
        assert!(!sandbox.path("s").exists(), "{more:?}");
    }
    // And the device is free again.
    let server = Server::start(&sandbox, &["@cow", "--nbd", "@s"]);
    server.stop();
}

/// A kernel that dies of a request, as the real one does.
#[test]
fn a_server_whose_device_has_ended_ends_with_an_error() {
    let sandbox = Sandbox::with_device();
    let args = [
        "@cow",
        "--nbd",
        "@s",
        "--control",
        "@ctl",
        "--driver=linux-6.12",
        "--defect=limit-before-header",
    ];
    let server = Server::start(&sandbox, &args);
    let mut client = Client::connect(&sandbox.path("s"));
    // Nobody asks for anything after that.
    client.send(Command::Trim.number(), 0, 0, 512 * 200, b"");
    let (status, said) = server.wait();
    assert_eq!(status, Some(3), "{said}");
    let why = "the device has ended, and what was not flushed may be lost: the driver died: a \
               segment of 200 sectors does not fit its mask of 64 bits";
    assert!(said.contains(why), "{said}");
    assert!(!sandbox.path("s").exists() && !sandbox.path("ctl").exists());
}

/// What is asked of an endpoint while it stops is refused, and a resize too.
#[test]
fn a_server_that_ends_says_so_before_its_endpoints_stop() {
    struct Asks {
        export: Export,
        was_ending: Sender<bool>,
    }

    impl Endpoint for Asks {
        fn place(&self) -> String {
            "here".into()
        }

        fn stop(self: Box<Self>) {
            self.was_ending.send(self.export.is_ending()).unwrap();
        }
    }

    let sandbox = Sandbox::with_device();
    let (up, _ending) = bring_up(&sandbox.path("cow"));
    let mut endpoints = Endpoints::of(up.export.clone());
    let (was_ending, stops) = channel();
    endpoints.add(Asks {
        export: up.export.clone(),
        was_ending,
    });
    assert!(endpoints.places().eq(["here".to_owned()]));
    assert!(!up.export.is_ending());
    drop(endpoints);
    assert!(stops.try_iter().eq([true]), "it was not stopped once");
    assert!(up.export.is_ending());
    let wish = userhelper::planner::Wish {
        new_size: driver::units::Bytes(4 << 20),
        strategy: None,
        shrink: userhelper::planner::Shrink::Refuse,
        online: true,
    };
    let refused = up.export.resize(wish).unwrap_err();
    assert_eq!(refused.to_string(), "the resize was given up");
    up.close().unwrap();
}
