//! The running kernel in the laboratory: it loses what it is known to lose, and its findings are
//! told again without it.

use std::collections::BTreeSet;

use crate::support::cli::{Sandbox, output, ubdlab};
use crate::support::fuse::can_mount;
use crate::support::peers::peer;

/// Whether there is all that it takes; a word if not.
fn can_fuzz() -> bool {
    let programs = ["linux.uml", "blkdiscard"].map(peer);
    can_mount() && programs.iter().all(Option::is_some)
}

const KNOWN: [&str; 3] = ["flush-noop", "unordered-publish", "last-run-offset"];

#[test]
fn a_campaign_finds_what_the_running_kernel_is_known_to_lose() {
    if !can_fuzz() {
        return;
    }
    let sandbox = Sandbox::new();
    let kernel = ["fuzz", "--driver", "kernel", "--no-faults", "--cases", "8"];
    let found = sandbox.run(&[&kernel[..], &["--json", "--out", "@found"]].concat());
    let said = String::from_utf8_lossy(&found.stderr).into_owned();
    assert_eq!(found.status.code(), Some(1), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(report["cases"], 8, "{report}");
    let findings = report["findings"].as_array().unwrap();
    let defects = findings
        .iter()
        .flat_map(|it| it["defects"].as_array().unwrap());
    let named: BTreeSet<_> = defects.filter_map(serde_json::Value::as_str).collect();
    for known in KNOWN {
        assert!(named.contains(known), "{known} is not among {named:?}");
    }

    // Their stories need neither root nor a kernel.
    for finding in findings {
        let file = finding["file"].as_str().unwrap();
        let mut again = ubdlab();
        again
            .args(["fuzz", "--json", "--repro", file])
            .env("PATH", "");
        let again = output(&mut again);
        assert_eq!(again.status.code(), Some(1), "{file}");
        let violation: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
        assert_eq!(violation["kind"], finding["kind"], "{file}");
        assert_eq!(violation["sector"], finding["sector"], "{file}");
    }
}

#[test]
fn a_kernel_that_is_none_is_one_clear_error() {
    if !can_fuzz() {
        return;
    }
    let sandbox = Sandbox::new();
    let args = ["fuzz", "--driver", "kernel", "--cases", "1", "--kernel"];
    let none = sandbox.run(&[&args[..], &["/bin/true"]].concat());
    assert_eq!(none.status.code(), Some(3));
    let said = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(
        said.contains("/bin/true: its guest does not come up"),
        "{said}"
    );
}

#[test]
fn what_is_asked_of_the_kernel_fits_it() {
    let sandbox = Sandbox::new();
    for (args, message) in [
        (
            &["--driver", "kernel", "--defect", "flush-noop"][..],
            "--defect: not with --driver kernel",
        ),
        (
            &["--kernel", "linux.uml"][..],
            "--kernel: found with a driver that needs none, expected --driver kernel",
        ),
    ] {
        let refused = sandbox.run(&[&["fuzz"], args].concat());
        assert_eq!(refused.status.code(), Some(2), "{args:?}");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(message), "{said}");
    }
}
