//! A mounted simulated directory answers every operation as a real one does: what a program does
//! on it means the same elsewhere. A failure names the seed.

use harness::mount::Limits;
use userhelper::real_files::RealHost;

use crate::suite::{Extent, hosts_agree};
use crate::support::cli::Sandbox;
use crate::support::tree_mount::MountedDirectory;

const EXTENT: Extent = Extent {
    operations: 400,
    reach: 1 << 20,
};

#[test]
fn mounted_and_real_files_agree() {
    for seed in 200..206 {
        let sandbox = Sandbox::new();
        let Some(mounted) = MountedDirectory::new(&sandbox, "m", Limits::default()) else {
            return;
        };
        let directory = tempfile::tempdir().unwrap();
        hosts_agree(
            seed,
            EXTENT,
            (&RealHost, directory.path()),
            (&RealHost, mounted.path()),
        );
    }
}
