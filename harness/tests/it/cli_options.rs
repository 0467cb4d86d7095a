//! Options that say more than they did, and those that would have no effect.

use crate::support::cli::{Sandbox, ftrace};

/// Who leaves it out sees another replay than he asked for, and is told so.
#[test]
fn an_option_without_effect_is_refused() {
    let sandbox = Sandbox::with_device();
    for (option, message) in [
        (
            "--speed=2",
            "--speed: only with --pace recorded or think-time",
        ),
        (
            "--strategy=reflow",
            "--strategy: only with --resize-at or a SIZE in --device",
        ),
        (
            "--shrink",
            "--shrink: only with --resize-at or a SIZE in --device",
        ),
    ] {
        let args = ["replay", "@trace", "--memory", "--size=1M", option];
        sandbox.fails(&args, 2, &format!("ubdlab: {message}\n"));
    }
    for options in [
        &["--speed=2", "--pace=recorded"][..],
        &["--shrink", "--strategy=headroom", "--resize-at=1:2M"],
    ] {
        let args = ["replay", "@trace", "--memory", "--size=1M"];
        sandbox.succeeds(&[&args[..], options].concat());
    }
    let none = sandbox.run(&["fuzz", "--cases=0"]);
    assert_eq!(none.status.code(), Some(2));
    let bare = sandbox.run(&["fuzz", "--duration=0", "--jobs=1"]);
    assert_eq!(
        bare.status.code(),
        Some(0),
        "{}",
        sandbox.text(&bare.stderr)
    );
}

#[test]
fn what_linux_2_6_does_not_know_can_be_left_out_and_is_counted() {
    let sandbox = Sandbox::with_device();
    sandbox.write(
        "discards",
        ftrace(&[("WS", 0, 8), ("D", 8, 8), ("R", 0, 8), ("D", 0, 8)]),
    );
    let args = [
        "replay",
        "@discards",
        "--memory",
        "--size=1M",
        "--driver=linux-2.6",
    ];
    sandbox.refuses(
        &args,
        "@discards: request 2, a discard: --driver linux-2.6 knows none, linux-6.12 does; \
         --skip-unsupported leaves them out and counts them",
    );
    let args = [&args[..], &["--skip-unsupported", "--defect=none"]].concat();
    let report = sandbox.report(&args);
    assert_eq!(report["requests_unsupported"], 2);
    assert_eq!(report["requests"], 2);
    let text = sandbox.succeeds(&args);
    let told = "2 requests left out: this driver knows neither discards nor writes of zeros\n";
    assert!(text.contains(told), "{text}");
    let refusal = "ubdlab: --skip-unsupported: linux-6.12 knows all requests\n";
    let args = [
        "replay",
        "@trace",
        "--driver=linux-6.12",
        "--skip-unsupported",
    ];
    sandbox.fails(&args, 2, refusal);
}

/// Of a defect that a case does not need, nothing is learned: it is left out, also where the crash
/// has to come at another moment without it.
#[test]
fn a_finding_names_the_defects_that_it_needs_and_no_other() {
    let sandbox = Sandbox::new();
    for (seed, needed) in [("11", "unordered-publish"), ("90", "flush-noop")] {
        let args = [
            "fuzz",
            "--driver=linux-6.12",
            "--cases=1",
            "--json",
            "--seed",
            seed,
        ];
        let found = sandbox.run(&args);
        let report: serde_json::Value = serde_json::from_slice(&found.stdout).unwrap();
        assert_eq!(report["findings"][0]["defects"][0], needed, "{seed}");
        assert_eq!(
            report["findings"][0]["defects"].as_array().unwrap().len(),
            1
        );
    }
}

#[test]
fn the_image_commands_take_the_short_option_of_qemu_img_and_say_where_nothing_changes() {
    let sandbox = Sandbox::with_device();
    sandbox.succeeds(&["image", "create", "@new", "-b", "@backing"]);
    let said = sandbox.succeeds(&["image", "rebase", "@new", "-b", "@backing"]);
    let already = "@new: @backing was its backing file already, and nothing was copied in\n";
    assert!(said.starts_with(already), "{said}");
    // What is no COW file cannot be checked, and is no corrupt one.
    let done = sandbox.run(&["image", "check", "@trace"]);
    let said = sandbox.text(&done.stderr);
    assert!(said.contains("not a COW file"), "{said}");
    assert_eq!(said.matches("byte 0").count(), 1, "{said}");
    assert_eq!(done.status.code(), Some(1));
    let usage = sandbox.run(&["image", "merge", "@cow", "@out", "--in-place"]);
    let said = sandbox.text(&usage.stderr);
    assert!(
        said.contains("image merge [OPTIONS] <COW> --in-place\n"),
        "{said}"
    );
}

#[test]
fn a_manual_page_shows_the_values_of_options() {
    let sandbox = Sandbox::new();
    sandbox.succeeds(&["man", "@pages"]);
    let page = String::from_utf8(sandbox.read("pages/ubdlab-image-create.1")).unwrap();
    let synopsis = ".SH SYNOPSIS\nubdlab image create [OPTIONS] \\-\\-backing <FILE> <COW>\n.SH";
    assert!(page.contains(synopsis), "{page}");
}

#[test]
fn a_number_of_writes_of_zeros_is_english_and_a_latency_of_nothing_is_a_dash() {
    let sandbox = Sandbox::new();
    let generate = ["trace", "generate", "@zeros", "--requests=40", "--size=1M"];
    sandbox.succeeds(&[&generate[..], &["--mix=write-zeroes"]].concat());
    let said = sandbox.succeeds(&["trace", "convert", "@zeros", "@out", "--as=fio"]);
    assert!(
        said.contains("not said    40 writes of zeros: written as a write\n"),
        "{said}"
    );
    let said = sandbox.succeeds(&["replay", "@zeros", "--memory", "--stamps-only"]);
    assert!(!said.contains(" 0 ns"), "{said}");
}
