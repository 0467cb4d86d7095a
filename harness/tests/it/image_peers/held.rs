//! The image commands beside a UML that has the image open, and the other way round.

use super::lab::Lab;
use crate::support::cli::side_by_side;
use crate::support::uml::has_mounted;

const PROGRAMS: [&str; 3] = ["linux.uml", "mkfs.ext4", "debugfs"];

#[test]
fn an_image_that_a_running_uml_holds_is_left_alone() {
    let Some(lab) = Lab::with(&PROGRAMS) else {
        return;
    };
    lab.make_ext4_and_cow(None);
    std::fs::copy(lab.path("backing"), lab.path("copy")).unwrap();
    let ubda = lab.device("ubda=@cow,@backing");
    let uml = lab.uml().hold(&lab.directory(), &ubda);
    let locked = "@cow: locked: a running UML or another ubdlab has it open";
    let refused = [
        &["resize", "@cow", "32M"][..],
        &["resize", "@cow", "32M", "--extend-backing"],
        &["resize", "@cow", "32M", "--strategy", "rebuild"],
        &["recover", "@cow"],
        &["rebase", "@cow", "--backing", "@copy"],
        &["merge", "@cow", "--in-place"],
        // What is read while somebody writes is nothing that the disk ever was.
        &["merge", "@cow", "@merged"],
        &["convert", "@cow", "@converted"],
        &["check", "@cow"],
        &["check", "@cow", "--repair"],
    ];
    let sandbox = &lab.sandbox;
    side_by_side(&refused, |args| {
        let status = if args[0] == "check" { 1 } else { 3 };
        let message = format!("ubdlab: {locked}\n");
        sandbox.fails(&[&["image"], *args].concat(), status, &message);
    });
    // These two look at it and do not disturb it.
    lab.image(&["info", "@cow"]);
    lab.image(&["map", "@cow"]);
    drop(uml);
    lab.image(&["resize", "@cow", "32M"]);
}

/// It reads from it through another COW file.
#[test]
fn a_backing_file_that_a_running_uml_holds_is_left_alone() {
    let Some(lab) = Lab::with(&PROGRAMS) else {
        return;
    };
    let wanted = lab.make_ext4_and_cow(None);
    lab.make_cow("other", "backing", None, &wanted);
    let ubda = lab.device("ubda=@cow,@backing");
    let uml = lab.uml().hold(&lab.directory(), &ubda);
    let locked = "@backing: locked: a running UML or another ubdlab has it open";
    for args in [
        &["resize", "@other", "32M", "--extend-backing"][..],
        &["merge", "@other", "--in-place"],
    ] {
        lab.sandbox.refuses(&[&["image"], args].concat(), locked);
    }
    // They share it as long as nobody writes to it.
    lab.image(&["merge", "@other", "@merged"]);
    lab.image(&["resize", "@other", "32M"]);
    drop(uml);
    lab.image(&["resize", "@cow", "32M", "--extend-backing"]);
}

#[test]
fn uml_leaves_an_image_alone_that_ubdlab_holds() {
    let Some(lab) = Lab::with(&PROGRAMS) else {
        return;
    };
    lab.make_ext4_and_cow(None);
    let before = lab.sandbox.read("cow");
    let held = lab.sandbox.hold("cow");
    let refusal = format!("Failed to lock '{}'", lab.path("cow").display());
    for device in ["ubda=@cow", "ubda=@cow,@backing"] {
        let console = lab.uml().mount(&lab.directory(), &lab.device(device));
        assert!(console.contains(&refusal), "{console}");
        assert!(!has_mounted(&console), "{console}");
        assert!(before == lab.sandbox.read("cow"));
    }
    drop(held);
    let console = lab
        .uml()
        .mount(&lab.directory(), &lab.device("ubda=@cow,@backing"));
    assert!(has_mounted(&console), "{console}");
}
