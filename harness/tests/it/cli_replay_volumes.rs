//! `ubdlab replay --each-device`, its shards, and `ubdlab replay merge`.

use serde_json::Value;

use crate::support::cli::Sandbox;

/// Lines of an Alibaba trace with this number of requests to each of these volumes, in turn: those
/// with an even number only read. Each volume is 256 KiB at most.
pub(crate) fn volumes(ids: &[u64], requests: u64) -> String {
    let line = |n: u64| {
        let id = ids[n as usize % ids.len()];
        let turn = n / ids.len() as u64;
        let writes = id % 2 == 1 && !turn.is_multiple_of(3);
        let operation = if writes { 'W' } else { 'R' };
        let (sector, sectors) = ((turn * 37 + id * 11) % 500, 1 + (turn + id) % 8);
        let (offset, length) = (sector * 512, sectors * 512);
        format!("{id},{operation},{offset},{length},{}\n", 1000 + n)
    };
    (0..requests * ids.len() as u64).map(line).collect()
}

const IDS: [u64; 7] = [1, 2, 3, 10, 11, 40, 419];

fn with_volumes() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("volumes.csv", volumes(&IDS, 60));
    sandbox
}

/// Past what a device may be that nobody asked for.
pub(crate) const FAR: &str = "77,W,300000000000,512,5000\n";

/// A result, times and what they depend on aside.
pub(crate) fn without_times(text: &str) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, _| !name.ends_with("_ns") && name != "jobs");
                fields.values_mut().for_each(strip);
            }
            Value::Array(values) => values.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut value = serde_json::from_str(text).unwrap();
    strip(&mut value);
    value
}

/// Runs the program, which has to end with this status; what it printed, and what it said.
fn ends(sandbox: &Sandbox, args: &[&str], status: i32) -> (String, String) {
    let output = sandbox.run(args);
    let (printed, said) = (sandbox.text(&output.stdout), sandbox.text(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "of {args:?}: {said}");
    (printed, said)
}

/// Replays with these options into a file for each shard, which all end with this status; the names
/// of the files.
fn in_shards(sandbox: &Sandbox, of: u32, options: &[&str], status: i32) -> Vec<String> {
    let shards = (1..=of).map(|number| {
        let shard = format!("--shard={number}/{of}");
        let args = ["replay", "@volumes.csv", "--each-device", "--json", &shard];
        let (result, _) = ends(sandbox, &[&args[..], options].concat(), status);
        let name = format!("{number}-of-{of}.json");
        sandbox.write(&name, result);
        format!("@{name}")
    });
    shards.collect()
}

#[test]
fn merged_shards_are_the_replay_in_one_piece_whatever_their_number() {
    let sandbox = with_volumes();
    let whole = [
        "replay",
        "@volumes.csv",
        "--each-device",
        "--memory",
        "--json",
    ];
    let whole = sandbox.succeeds(&whole);
    let expected = without_times(&whole);
    let volumes = expected["volumes"].as_array().unwrap();
    let names: Vec<_> = volumes
        .iter()
        .map(|it| it["volume"].as_str().unwrap())
        .collect();
    assert_eq!(names, IDS.map(|id| id.to_string()));
    assert!(
        volumes.iter().all(|volume| volume["requests"] == 60),
        "{whole}"
    );
    // More shards than volumes: some have none.
    for of in [1, 2, 3, 9] {
        let files = in_shards(&sandbox, of, &["--memory"], 0);
        let mut args = vec!["replay", "merge", "--json"];
        args.extend(files.iter().rev().map(String::as_str));
        let merged = sandbox.succeeds(&args);
        assert_eq!(without_times(&merged), expected, "of {of} shards");
        // What is merged is a result too.
        sandbox.write("merged", &merged);
        assert_eq!(
            sandbox.succeeds(&["replay", "merge", "--json", "@merged"]),
            merged
        );
    }
    let options = [
        "replay",
        "@volumes.csv",
        "--each-device",
        "--memory",
        "--jobs=3",
        "--json",
    ];
    assert_eq!(without_times(&sandbox.succeeds(&options)), expected);
}

#[test]
fn a_volume_is_replayed_as_it_is_alone() {
    let sandbox = with_volumes();
    for part in [&["--memory"][..], &["--memory", "--skip=10", "--from=20us"]] {
        let args = [&["replay", "@volumes.csv", "--each-device", "--json"], part].concat();
        let all = without_times(&sandbox.succeeds(&args));
        for volume in all["volumes"].as_array().unwrap() {
            let name = volume["volume"].as_str().unwrap();
            let args = ["replay", "@volumes.csv", "--json", "--trace-device", name];
            let alone = without_times(&sandbox.succeeds(&[&args[..], part].concat()));
            let mut compared = 0;
            for (field, value) in volume.as_object().unwrap() {
                // A list there and a number here, and what has latencies in it.
                if alone.get(field).is_some() && field != "resizes" {
                    assert_eq!(*value, alone[field], "{field} of {name}");
                    compared += 1;
                }
            }
            assert!(compared > 18, "{volume}");
        }
    }
}

#[test]
fn what_is_wrong_comes_first_and_does_not_end_the_others() {
    let sandbox = with_volumes();
    sandbox.write("volumes.csv", volumes(&IDS, 60) + FAR);
    // The other volumes are well.
    let each = ["replay", "@volumes.csv", "--each-device", "--memory"];
    let (text, said) = ends(&sandbox, &each, 3);
    assert_eq!(said, "ubdlab: 1 of 8 volumes could not be replayed\n");
    let (_, table) = text.split_once("\nvolume ").unwrap();
    let first = table.lines().nth(1).unwrap();
    assert!(
        first.starts_with("77                   FAILED: @volumes.csv: the last request ends at "),
        "{text}"
    );
    assert!(
        text.contains("\nfailed     1 volume could not be replayed\n"),
        "{text}"
    );
    assert!(
        text.contains("\nreplayed   7 volumes with 420 requests in "),
        "{text}"
    );
    assert_eq!(table.lines().count(), 9, "{text}");

    // Read-only volumes show nothing of this defect.
    let model = [
        "--memory",
        "--driver=linux-6.12",
        "--defect=last-run-offset",
    ];
    let (text, said) = ends(&sandbox, &[&each[..3], &model].concat(), 1);
    assert_eq!(said, "");
    let rows = text.split_once("\nvolume ").unwrap().1.lines().skip(1);
    let rows: Vec<_> = rows.filter(|row| !row.starts_with("  ")).collect();
    let place = |name: &str| {
        let is = |row: &&str| row.split_whitespace().next() == Some(name);
        rows.iter()
            .position(is)
            .unwrap_or_else(|| panic!("no {name}: {text}"))
    };
    for wrong in ["1", "3", "11", "419"] {
        assert!(place(wrong) < 4, "{text}");
    }
    assert_eq!(place("77"), 4, "{text}");
    assert!(text.contains("\n  WRONG    "), "{text}");
    assert!(
        text.contains("\nwrong      4 volumes show what they should not\n"),
        "{text}"
    );

    // Merged, the exit status is that of the whole, not of one of the shards.
    for name in ["1", "2"] {
        let shard = format!("--shard={name}/2");
        let args = [&each[..3], &model, &["--json", &shard]].concat();
        let result = sandbox.run(&args);
        sandbox.write(&format!("{name}.json"), result.stdout);
    }
    let (merged, _) = ends(&sandbox, &["replay", "merge", "@1.json", "@2.json"], 1);
    let untimed = |text: &str| {
        text.lines()
            .filter(|line| line.starts_with("  "))
            .map(String::from)
            .collect::<Vec<_>>()
    };
    assert_eq!(untimed(&merged)[1..], untimed(&text)[1..]);
}

#[test]
fn a_part_that_leaves_a_volume_without_requests_fails_nothing() {
    let sandbox = with_volumes();
    let late: String = (0..4)
        .map(|n| format!("5,R,0,512,{}\n", 1000 + n * 1_000_000))
        .collect();
    sandbox.write("volumes.csv", volumes(&IDS, 60) + &late);
    let args = [
        "replay",
        "@volumes.csv",
        "--each-device",
        "--memory",
        "--from=1s",
    ];
    let text = sandbox.succeeds(&args);
    assert!(
        text.contains("\nreplayed   1 volume with 3 requests in "),
        "{text}"
    );
    let nothing = "nothing taken: @volumes.csv: none of 60 requests was taken: --from, --to and \
                   --skip leave them out";
    assert_eq!(text.matches(nothing).count(), IDS.len(), "{text}");
}

#[test]
fn results_that_do_not_fit_are_named() {
    let sandbox = with_volumes();
    in_shards(&sandbox, 3, &["--memory"], 0);
    let merge = |files: &[&str], message: &str| {
        sandbox.refuses(&[&["replay", "merge"], files].concat(), message);
    };
    let [one, two, three] = ["@1-of-3.json", "@2-of-3.json", "@3-of-3.json"];
    merge(
        &[one, three],
        "found 2 of 3 shards, expected all: shard 2 is missing",
    );
    let doubled = "@1-of-3.json: found shard 1/3, which is in @1-of-3.json too";
    merge(&[one, two, three, one], doubled);

    std::fs::create_dir(sandbox.path("results")).unwrap();
    for name in ["1-of-3.json", "2-of-3.json", "3-of-3.json"] {
        std::fs::rename(sandbox.path(name), sandbox.path("results").join(name)).unwrap();
    }
    // What else there may be.
    sandbox.write("results/readme.txt", "no result");
    sandbox.write(
        "results/fuzz.json",
        "{\"format\": \"ubdlab fuzz result 1\"}",
    );
    sandbox.succeeds(&["replay", "merge", "@results"]);
    sandbox.write("results/4.json", "{\"format\": \"ubdlab replay result 2\"}");
    let format = "@results/4.json: found format \"ubdlab replay result 2\", expected \"ubdlab replay \
                  result 1\"";
    merge(&["@results"], format);
    sandbox.write("results/4.json", "[]");
    let none = "@results/4.json: not a result of ubdlab replay --each-device --json: found no format, \
                expected \"ubdlab replay result 1\"";
    merge(&["@results"], none);
    std::fs::remove_file(sandbox.path("results/4.json")).unwrap();

    let other = &in_shards(&sandbox, 1, &["--memory", "--size=1M"], 0)[0];
    let foreign = "@1-of-1.json: a result of another replay than @results/1-of-3.json: options: found \
                   \"--memory --size 1048576\", expected \"--memory\"";
    merge(&["@results", other], foreign);
    sandbox.write("volumes.csv", volumes(&IDS[1..], 60));
    in_shards(&sandbox, 3, &["--memory"], 0);
    let foreign = "@1-of-3.json: a result of another replay than @results/1-of-3.json: trace_volumes: \
                   found 6, expected 7";
    merge(&["@results", one], foreign);
    merge(&["@none"], "@none: opening: no such file or directory");
}

#[test]
fn options_that_go_not_together_with_each_device_are_refused() {
    let sandbox = with_volumes();
    let refused = |args: &[&str], message: &str| {
        let (_, said) = ends(&sandbox, &[&["replay"], args].concat(), 2);
        assert!(said.contains(message), "of {args:?}: {said}");
    };
    let each = "--each-device";
    for other in ["--device=ubda=@cow", "--trace-device=1"] {
        refused(&["@volumes.csv", each, other], "cannot be used with");
    }
    for alone in ["--shard=1/2", "--jobs=2"] {
        refused(
            &["@volumes.csv", "--memory", alone],
            "required arguments were not provided:\n  --each-device",
        );
    }
    refused(
        &["@volumes.csv", each, "--shard=3/2"],
        "found \"3/2\", expected K/N with K from 1 to N",
    );
    refused(
        &["@volumes.csv", each, "--driver=kernel"],
        "--each-device: not with --driver kernel",
    );
    refused(&[], "required arguments were not provided:\n  <TRACE>");
    refused(&["@volumes.csv", "merge", "@1"], "merge");
    let one = "@one.csv: found a trace that does not tell to which device its requests go, expected \
               requests to volumes: without --each-device it is replayed as one";
    sandbox.write("one.csv", crate::support::cli::vscsi(3));
    sandbox.refuses(&["replay", "@one.csv", each, "--memory"], one);
}

#[test]
fn each_volume_has_files_of_its_own() {
    let sandbox = Sandbox::new();
    // MSR's names are a host's and a disk's number.
    let line = |n: u64, host: &str| format!("{},{host},0,Write,{},512,100\n", 1000 + n, n * 512);
    let hosts = ["a/b", "a_b", "<b>"];
    let lines: String = (0..30).map(|n| line(n, hosts[n as usize % 3])).collect();
    sandbox.write("msr.csv", lines);
    let args = ["replay", "@msr.csv", "--each-device"];
    sandbox.succeeds(&[&args[..], &["--out=@files", "--report=@page.html"]].concat());
    let names = ["00001-_b_.0", "00002-a_b.0", "00003-a_b.0"];
    for name in names {
        for file in ["backing.img", "device.cow"] {
            let path = sandbox.path("files").join(name).join(file);
            assert!(path.is_file(), "{path:?}");
        }
    }
    let made = std::fs::read_dir(sandbox.path("files")).unwrap();
    assert_eq!(made.count(), names.len());
    let page = String::from_utf8(sandbox.read("page.html")).unwrap();
    assert!(
        page.contains("&lt;b&gt;.0") && !page.contains("<b>.0"),
        "{page}"
    );
    assert!(page.contains("Nothing was lost"), "{page}");
    // They are not written over.
    let (text, said) = ends(&sandbox, &[&args[..], &["--out=@files"]].concat(), 3);
    assert_eq!(said, "ubdlab: 3 of 3 volumes could not be replayed\n");
    assert_eq!(text.matches(" FAILED: @files/").count(), 3, "{text}");
    // Others are temporary.
    sandbox.succeeds(&[&args[..], &["--jobs=2"]].concat());
    let left = std::fs::read_dir(sandbox.temporary()).unwrap();
    assert_eq!(left.count(), 0);
}

#[test]
fn there_may_be_more_volumes_than_are_listed_elsewhere() {
    let sandbox = Sandbox::new();
    let line = |id: u64| format!("{id},W,0,512,{}\n", 1000 + id);
    sandbox.write("many.csv", (0..1100).map(line).collect::<String>());
    let args = [
        "replay",
        "@many.csv",
        "--each-device",
        "--memory",
        "--stamps-only",
    ];
    let text = sandbox.succeeds(&[&args[..], &["--shard=90/100"]].concat());
    assert!(
        text.contains("\nshard      90/100 of the volumes\n"),
        "{text}"
    );
    let of_shard: Vec<_> = (0..11).map(|n| (89 + 100 * n).to_string()).collect();
    let rows = text.split_once("\nvolume ").unwrap().1.lines().skip(1);
    let mut rows: Vec<_> = rows
        .map(|row| row.split_whitespace().next().unwrap())
        .collect();
    rows.sort_by_key(|row| row.parse::<u64>().unwrap());
    assert_eq!(rows, of_shard);
}
