//! The image of `deploy/Containerfile`, as far as it can be looked at where nothing builds one:
//! what each step takes is there, and the program takes of its base what every Debian has.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cluster::deploy;
use crate::support::cli::{PROGRAM, output};
use crate::support::peers::peer;

/// Where the build of the image begins.
fn repository() -> PathBuf {
    deploy().parent().unwrap().to_owned()
}

/// The path `name` below `root`, also if it is absolute.
fn below(root: &Path, name: &str) -> PathBuf {
    root.join(name.trim_start_matches('/'))
}

/// What the image is made of.
pub(crate) struct Containerfile(String);

/// An instruction: its name, and what comes after it.
type Instruction<'a> = (&'a str, &'a str);

impl Containerfile {
    pub(crate) fn read() -> Containerfile {
        Containerfile(std::fs::read_to_string(deploy().join("Containerfile")).unwrap())
    }

    /// The command in its comments that builds the image.
    fn build(&self) -> &str {
        let comments = self.0.lines().filter_map(|line| line.strip_prefix('#'));
        let mut commands = comments.map(str::trim);
        commands
            .find(|line| line.starts_with("podman build "))
            .unwrap()
    }

    /// The name that this command gives the image.
    pub(crate) fn tag(&self) -> &str {
        let mut words = self.build().split(' ').skip_while(|word| *word != "-t");
        words.nth(1).unwrap()
    }

    /// The instructions of each stage. The first of a stage says what it begins with.
    fn stages(&self) -> Vec<Vec<Instruction<'_>>> {
        let mut stages: Vec<Vec<_>> = Vec::new();
        let lines = self.0.lines();
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            assert!(!line.ends_with('\\'), "an instruction of several lines");
            let instruction = line.split_once(' ').unwrap();
            match instruction.0 {
                "FROM" => stages.push(vec![instruction]),
                _ => stages.last_mut().unwrap().push(instruction),
            }
        }
        stages
    }

    /// What the last stage has for this instruction, which it has once.
    pub(crate) fn last_says(&self, name: &str) -> &str {
        let stages = self.stages();
        let said = stages.last().unwrap().iter().filter(|(it, _)| *it == name);
        let said: Vec<_> = said.map(|(_, what)| *what).collect();
        assert_eq!(said.len(), 1, "{name}: {said:?}");
        said[0]
    }

    /// Puts below `root` what the image has of its own: the program of these tests in the place of
    /// the one that the first stage builds.
    pub(crate) fn install(&self, root: &Path) {
        let stages = self.stages();
        let [build, image] = &stages[..] else {
            panic!("{} stages", stages.len());
        };
        let copies = image.iter().filter(|(name, _)| *name == "COPY");
        for (_, copied) in copies {
            let words: Vec<&str> = copied.split(' ').collect();
            let to = |place: &str| {
                let place = below(root, place);
                std::fs::create_dir_all(place.parent().unwrap()).unwrap();
                place
            };
            match words[..] {
                ["--from=build", from, place] => {
                    assert_eq!(from, built(build), "what is copied is what is built");
                    std::os::unix::fs::symlink(PROGRAM, to(place)).unwrap();
                }
                [from, place] => _ = std::fs::copy(repository().join(from), to(place)).unwrap(),
                _ => panic!("COPY {copied}"),
            }
        }
    }
}

/// Where the program is that the first stage builds of all that the repository has.
fn built(build: &[Instruction<'_>]) -> String {
    let [
        ("FROM", base),
        ("WORKDIR", directory),
        copy,
        ("RUN", command),
    ] = *build
    else {
        panic!("{build:?}");
    };
    assert!(base.ends_with(" AS build"), "{base}");
    assert_eq!(copy, ("COPY", ". ."));
    // These tests are of the package of that name.
    let package = concat!("cargo build --release --locked -p ", env!("CARGO_PKG_NAME"));
    assert_eq!(command, package);
    let program = Path::new(PROGRAM).file_name().unwrap().to_str().unwrap();
    format!("{directory}/target/release/{program}")
}

#[test]
fn each_step_of_the_image_takes_what_is_there() {
    let containerfile = Containerfile::read();
    let command = "podman build -f deploy/Containerfile -t registry.example/ubdlab:";
    let version = containerfile.build().strip_prefix(command).unwrap();
    assert_eq!(version, concat!(env!("CARGO_PKG_VERSION"), " ."));
    // --locked takes it.
    assert!(repository().join("Cargo.lock").is_file());

    let root = tempfile::tempdir().unwrap();
    containerfile.install(root.path());
    let programs = root.path().join("usr/local/bin");
    let mut names: Vec<_> = std::fs::read_dir(&programs)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["shard.sh", "ubdlab"]);
    for name in &names {
        let mode = std::fs::metadata(programs.join(name)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o555, 0o555, "{name}");
    }
    let entry: Vec<String> = serde_json::from_str(containerfile.last_says("ENTRYPOINT")).unwrap();
    assert_eq!(entry, ["ubdlab"]);
    let version = output(Command::new(programs.join(&entry[0])).arg("--version"));
    assert!(version.status.success(), "{version:?}");
}

/// A program that is linked with a newer C library than that of its base does not start there.
#[test]
fn the_program_is_built_on_the_release_that_it_runs_on() {
    let containerfile = Containerfile::read();
    let release = containerfile.last_says("FROM").strip_suffix("-slim");
    let release = release.and_then(|base| base.strip_prefix("docker.io/library/debian:"));
    let release = release.unwrap();
    let stages = containerfile.stages();
    let base = format!("docker.io/library/rust:1-slim-{release} AS build");
    assert_eq!(stages[0][0].1, base);
}

/// Debian's packages libc6 and libgcc-s1 have them, and no Debian is without those.
const LIBRARIES: [&str; 3] = ["libc.so.6", "libgcc_s.so.1", "libm.so.6"];

#[test]
fn the_program_takes_the_c_library_and_no_other() {
    let Some(ldd) = peer("ldd") else {
        return;
    };
    let listed = output(Command::new(ldd).arg(PROGRAM));
    assert!(listed.status.success(), "{listed:?}");
    let listed = String::from_utf8(listed.stdout).unwrap();
    let names = listed.lines().map(|line| {
        let name = line.split_whitespace().next().unwrap();
        name.rsplit('/').next().unwrap()
    });
    // The kernel's own, and what loads the others.
    let is_library = |name: &&str| !name.starts_with("linux-vdso") && !name.starts_with("ld-linux");
    let mut names: Vec<&str> = names.filter(is_library).collect();
    names.sort_unstable();
    assert!(names.contains(&"libc.so.6"), "{listed}");
    let others: Vec<_> = names
        .iter()
        .filter(|name| !LIBRARIES.contains(name))
        .collect();
    assert!(others.is_empty(), "{listed}");
}

/// What is not given to the build is what no commit has.
#[test]
fn the_build_is_given_all_that_is_in_the_repository() {
    let lines = |name: &str| {
        let text = std::fs::read_to_string(repository().join(name)).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let (ignored, of_fuzz) = (lines(".gitignore"), lines("fuzz/.gitignore"));
    let of_fuzz = of_fuzz.iter().map(|name| format!("/fuzz/{name}"));
    let uncommitted: Vec<String> = of_fuzz.chain(ignored).chain(["/.git".into()]).collect();
    let left_out = lines(".dockerignore");
    assert!(left_out.contains(&"/target".to_owned()), "{left_out:?}");
    for name in left_out {
        assert!(uncommitted.contains(&name), "{name}");
    }
}
