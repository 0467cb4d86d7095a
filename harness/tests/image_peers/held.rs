//! The image commands beside a UML that has the image open.

use crate::lab::Lab;

#[test]
fn an_image_that_a_running_uml_holds_is_left_alone() {
    let Some(lab) = Lab::with(&["linux.uml", "mkfs.ext4", "debugfs"]) else {
        return;
    };
    lab.make_ext4_and_cow(None);
    let ubda = lab.device("ubda=@cow,@backing");
    let uml = lab.uml().hold(&lab.directory(), &ubda);
    let locked = "@cow: locked: a running UML or another ubdlab has it open";
    for args in [
        &["resize", "@cow", "48M"][..],
        &["resize", "@cow", "48M", "--extend-backing"],
        &["merge", "@cow", "--in-place"],
    ] {
        lab.sandbox.refuses(&[&["image"], args].concat(), locked);
    }
    // Those that only look at the image do not disturb it.
    lab.image(&["info", "@cow"]);
    lab.image(&["map", "@cow"]);
    drop(uml);
    lab.image(&["resize", "@cow", "48M"]);
}
