//! Sockets that are said to be handed over to a server, and are none.

use std::process::Command;

use crate::support::cli::Sandbox;

/// What a server says and ends with that is told of this many sockets, and gets what `redirection`
/// opens.
fn served(count: &str, redirection: &str) -> (Option<i32>, String) {
    let sandbox = Sandbox::with_device();
    let script = format!(
        "export LISTEN_FDS={count} LISTEN_PID=$$; exec \"$0\" serve \"$1\" --nbd activated \
         {redirection}"
    );
    let output = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_ubdlab")])
        .arg(sandbox.path("cow"))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said)
}

#[test]
fn a_descriptor_that_is_closed_is_not_taken_for_one_of_the_server_s_own() {
    let expected = "ubdlab: NBD at the sockets that were handed over: found that descriptor 3 is \
                    closed, expected LISTEN_FDS=1 sockets from descriptor 3 on\n";
    assert_eq!(served("1", "3>&-"), (Some(3), expected.into()));
}

#[test]
fn a_file_is_no_socket_that_listens() {
    let expected = "ubdlab: NBD at the sockets that were handed over: found that descriptor 3 is no \
                    socket that listens, expected one\n";
    assert_eq!(served("1", "3</dev/null"), (Some(3), expected.into()));
}

#[test]
fn as_many_descriptors_as_no_process_has_are_refused_at_once() {
    let expected = "ubdlab: NBD at the sockets that were handed over: found LISTEN_FDS=1000000000, \
                    expected the number of sockets, at most 64\n";
    assert_eq!(served("1000000000", ""), (Some(3), expected.into()));
}
