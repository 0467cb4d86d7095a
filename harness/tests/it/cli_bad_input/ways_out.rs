//! Messages that say what to do: what they say does it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use crate::support::cli::{SIZE, Sandbox, ftrace, output, ubdlab};

/// A COW file whose backing file was touched since, under names that a shell would take apart.
fn touched() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write_backing("root 'of' it", SIZE);
    sandbox.create_cow("a $cow", "root 'of' it");
    sandbox.touch("root 'of' it", 1_060_000_000);
    sandbox
}

/// What follows `before` in the message, up to `after`, run by a shell.
fn carry_out(message: &str, before: &str, after: &str) {
    let start = message.find(before).unwrap() + before.len();
    let command = &message[start..start + message[start..].find(after).unwrap()];
    let program = env!("CARGO_BIN_EXE_ubdlab");
    let command = command.replace("ubdlab ", &format!("{program} "));
    let output = output(Command::new("sh").args(["-c", &command]));
    assert!(output.status.success(), "{command}: {output:?}");
}

#[test]
fn a_backing_file_of_another_time_can_be_given_its_own_or_be_taken_as_it_is() {
    let compare = ["image", "compare", "-f", "cow", "@a $cow", "@root 'of' it"];
    for (before, after) in [
        ("its time has changed, `", "` sets that back"),
        ("with the same content, `", "` takes it"),
    ] {
        let sandbox = touched();
        let failed = sandbox.run(&compare);
        assert_eq!(failed.status.code(), Some(3));
        let message = String::from_utf8(failed.stderr).unwrap();
        carry_out(&message, before, after);
        sandbox.succeeds(&["image", "check", "@a $cow"]);
    }
}

#[test]
fn the_name_of_a_recording_leads_to_its_files() {
    let sandbox = Sandbox::new();
    let missing = "@sda: opening: no such file or directory";
    sandbox.refuses(&["trace", "info", "@sda"], missing);
    sandbox.write("sda.blktrace.0", "");
    for command in [
        &["trace", "info", "@sda"][..],
        &["replay", "@sda", "--memory"],
    ] {
        sandbox.refuses(
            command,
            &format!(
                "{missing}; there is @sda.blktrace.0: name that, and the files of the other CPUs are \
                 read with it"
            ),
        );
    }
    sandbox.refuses(
        &["trace", "info", "@sda.blktrace"],
        "@sda.blktrace: opening: no such file or directory; there is @sda.blktrace.0: \
         name that, and the files of the other CPUs are read with it",
    );
}

/// Makes a file changeable again.
struct Immutable(OsString);

impl Drop for Immutable {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-i").arg(&self.0).status();
    }
}

#[test]
fn an_immutable_file_is_called_that() {
    let sandbox = Sandbox::with_device();
    sandbox.write("out", "of before");
    let guards = ["cow", "out"].map(|name| Immutable(sandbox.path(name).into()));
    for Immutable(path) in &guards {
        let set = Command::new("chattr").arg("+i").arg(path).output();
        if !set.is_ok_and(|set| set.status.success()) {
            eprintln!("skipped: no file can be made immutable here");
            return;
        }
    }
    let immutable = "the file is immutable or append-only (chattr -i -a)";
    sandbox.refuses(
        &["image", "resize", "@cow", "2M"],
        &format!("@cow: opening: {immutable}"),
    );
    sandbox.refuses(
        &["trace", "convert", "@trace", "@out"],
        &format!("@out: writing: {immutable}"),
    );
}

/// File names are bytes.
#[test]
fn a_device_is_replayed_on_whose_paths_are_no_text() {
    let sandbox = Sandbox::new();
    sandbox.write("trace", ftrace(&[("WS", 0, 8), ("R", 8, 8)]));
    let named = |name: &[u8]| sandbox.path("").join(OsStr::from_bytes(name));
    let (cow, backing) = (named(b"c\xffow"), named(b"back\xfe\xc3ing"));
    std::fs::write(&backing, vec![0; SIZE as usize]).unwrap();
    let specs = [vec![&cow, &backing], vec![&cow]];
    for files in specs {
        let mut spec = OsString::from("ubda=");
        for (n, file) in files.into_iter().enumerate() {
            spec.push(if n == 0 { "" } else { "," });
            spec.push(file);
        }
        let mut command = ubdlab();
        command.arg("replay").arg(sandbox.path("trace"));
        let output = output(command.arg("--device").arg(&spec));
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(cow.exists());
    }
}

#[test]
fn a_name_in_an_immutable_directory_is_refused_for_that() {
    let sandbox = Sandbox::with_device();
    std::fs::create_dir(sandbox.path("fixed")).unwrap();
    let directory = std::fs::File::open(sandbox.path("fixed")).unwrap();
    let flags = rustix::fs::ioctl_getflags(&directory);
    let fixed = flags.and_then(|flags| {
        rustix::fs::ioctl_setflags(&directory, flags | rustix::fs::IFlags::IMMUTABLE)?;
        Ok(flags)
    });
    let Ok(flags) = fixed else {
        eprintln!("skipped: no directory can be made immutable here");
        return;
    };
    let immutable = "its directory is immutable or append-only (chattr -i -a)";
    let create = ["image", "create", "@fixed/cow", "--backing", "@backing"];
    let said = [
        (
            &create[..],
            format!("@fixed/.cow.ubdlab-new: creating: {immutable}"),
        ),
        (
            &["trace", "generate", "@fixed/out"],
            format!("@fixed/out: writing: {immutable}"),
        ),
        (
            &["replay", "@trace", "--size", "1M", "--out", "@fixed/out"],
            format!("@fixed/out: creating: {immutable}"),
        ),
        (
            &["man", "@fixed/out"],
            format!("@fixed/out: creating: {immutable}"),
        ),
        (
            &["fuzz", "--cases", "1", "--out", "@fixed/out"],
            format!("@fixed/out: creating: {immutable}"),
        ),
        (
            &["bench", "io", "--only", "growth", "--dir", "@fixed"],
            "@fixed: creating a directory: the file is immutable or append-only (chattr -i -a)"
                .to_owned(),
        ),
    ]
    .map(|(args, message)| (sandbox.run(args), message));
    rustix::fs::ioctl_setflags(&directory, flags).unwrap();
    for (done, message) in said {
        assert_eq!(sandbox.text(&done.stderr), format!("ubdlab: {message}\n"));
        assert_eq!(done.status.code(), Some(3));
    }
}
