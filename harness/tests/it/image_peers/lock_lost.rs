//! The defect lock-lost-on-close on a running kernel, which takes two devices of one UML.

use super::lab::Lab;
use crate::support::guest::Guests;
use crate::support::uml::has_mounted;

/// A process loses its POSIX locks on a file when it closes any descriptor of that file.
#[test]
fn a_running_uml_loses_its_lock_when_it_closes_another_device_of_the_same_file() {
    let programs = ["linux.uml", "mkfs.ext4", "debugfs"];
    let (Some(lab), Some(guests)) = (Lab::with(&programs), Guests::find()) else {
        return;
    };
    lab.make_ext4_and_cow(None);
    let devices = ["ubda=@cow,@backing", "ubdb=@cow,@backing"].map(|it| lab.device(it));
    let [first, second] = &devices;
    let mut guest = guests.boot_with(&lab.directory(), &[first, second]);
    guest.run("exec 3</dev/ubda");
    let locked = "ubdlab: @cow: locked: a running UML or another ubdlab has it open\n";
    lab.sandbox.fails(&["image", "check", "@cow"], 1, locked);

    guest.run("dd if=/dev/ubdb of=/dev/null count=1 2>&1");
    // The first device is open still, and nothing keeps others from its file.
    lab.image(&["check", "@cow"]);
    let other = lab.uml().mount(&lab.directory(), first);
    assert!(has_mounted(&other), "{other}");
    guest.run("dd if=/dev/ubda of=/dev/null count=1 2>&1");
    guest.power_off();
}
