//! Reflows of one image, one after the other. Each at least doubles the place where the data
//! starts, however little the disk grows, until a header has no room for it.

use crate::support::cli::Sandbox;

/// As docs/images.md counts them.
#[test]
fn the_fourth_reflow_in_a_row_leaves_stock_uml_behind_and_the_sixth_is_refused() {
    let sandbox = Sandbox::with_hole(1 << 30);
    let create = ["image", "create", "@fresh", "--backing", "@backing"];
    sandbox.succeeds(&create);
    let start = || sandbox.json(&["image", "info", "@fresh"])["data_offset"].as_u64();
    let consequence = "the data starts at 2 GiB, past the 2 GiB that stock Linux can reach";
    for (number, place) in (1..=5).zip([28, 29, 30, 31, 32]) {
        let size = format!("{}M", 1024 + number);
        let resize = ["image", "resize", "@fresh", &size, "--strategy", "reflow"];
        let plan = sandbox.succeeds(&[&resize[..], &["--dry-run"]].concat());
        assert_eq!(plan.contains(consequence), number == 4, "{number}: {plan}");
        sandbox.succeeds_with_notes(&resize);
        assert_eq!(start(), Some(1 << place), "{number}");
    }
    let sixth = ["image", "resize", "@fresh", "1030M", "--strategy", "reflow"];
    let refused = sandbox.run(&sixth);
    let said = sandbox.text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{said}");
    let why = "reflow cannot do this: each one at least doubles the alignment";
    assert!(said.contains(why), "{said}");
    // It grows all the same, and a copy of it is as it was.
    sandbox.succeeds_with_notes(&["image", "resize", "@fresh", "1030M"]);
    sandbox.succeeds(&["image", "convert", "@fresh", "@new", "--to", "v3"]);
    let copy = sandbox.json(&["image", "info", "@new"]);
    assert!(copy["data_offset"].as_u64() < Some(1 << 28), "{copy}");
}
