//! A backing file whose file system holds no later time than it has: nothing is begun.

use crate::support::cli::{SIZE, Sandbox};
use crate::support::mounted::Mounted;

/// The last time that ext4 holds in inodes of 128 bytes: in January 2038.
const LAST: u64 = i32::MAX as u64;

#[test]
fn a_change_that_the_files_time_cannot_tell_of_is_not_begun() {
    let sandbox = Sandbox::with_device();
    std::fs::create_dir(sandbox.path("old")).unwrap();
    let at = sandbox.path("old");
    let Some(_mounted) = Mounted::made(&at, &["mkfs.ext4", "-q", "-I", "128"], 8 << 20) else {
        return;
    };
    for time in [LAST - 1, LAST] {
        sandbox.write_backing("old/backing", SIZE);
        sandbox.touch("old/backing", time);
        for version in ["v2", "v3"] {
            let convert = [
                "image",
                "convert",
                "@old/backing",
                "@cow.new",
                "--to",
                version,
            ];
            sandbox.succeeds(&[&convert[..], &["--backing", "@old/backing"]].concat());
            std::fs::rename(sandbox.path("cow.new"), sandbox.path("cow")).unwrap();
            sandbox.make_dirty("cow");
            for args in [
                &["merge", "@cow", "--in-place"][..],
                &["resize", "@cow", "2M", "--extend-backing"],
                &["resize", "@cow", "2M", "--extend-backing", "--dry-run"],
            ] {
                let before = sandbox.contents();
                let output = sandbox.run(&[&["image"], args].concat());
                let said = sandbox.text(&output.stderr);
                let expected = format!(
                    "ubdlab: @cow: the backing file was modified at {time} {}, and its file \
                     system holds no later time; others",
                    driver::since_1970(&[time as i64])
                );
                assert_eq!(output.status.code(), Some(3), "of {args:?}: {said}");
                let last = said.lines().last().unwrap();
                assert!(last.starts_with(&expected), "of {args:?}: {said}");
                assert!(sandbox.contents() == before, "of {args:?}");
                let found = std::fs::metadata(sandbox.path("old/backing")).unwrap();
                let found = found
                    .modified()
                    .unwrap()
                    .duration_since(std::time::UNIX_EPOCH);
                assert_eq!(found.unwrap().as_secs(), time, "of {args:?}");
            }
        }
    }
}
