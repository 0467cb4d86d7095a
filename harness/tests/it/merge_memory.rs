//! Merging holds one result beside the sum, and makes it of its text.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::cli::{PROGRAM, Sandbox, ftrace, output};

/// Of each result, at the least.
const BYTES: usize = 12 << 20;

/// What all of the command's data may take: heap and anonymous mappings. It takes less than seven
/// times a result of small findings. As values of any JSON such a result takes more than twelve.
const KIBIBYTES: usize = 8 * BYTES / 1024;

const SHARDS: u64 = 3;

/// Merges the results in `@results` within [`KIBIBYTES`] of memory; its exit status.
fn merged(sandbox: &Sandbox, command: &str) -> Option<i32> {
    let script = format!("ulimit -d {KIBIBYTES} && exec \"$0\" \"$@\"");
    let mut merge = Command::new("sh");
    merge.args(["-c", &script, PROGRAM]);
    merge.args(sandbox.args(&[command, "merge", "@results"]));
    let output = output(merge.stdin(Stdio::null()));
    assert_eq!(sandbox.text(&output.stderr), "");
    output.status.code()
}

/// A result of a shard, with as much of this as it takes to be large.
fn write_result(sandbox: &Sandbox, number: u64, result: &Value) {
    let text = result.to_string();
    assert!(text.len() >= BYTES, "{}", text.len());
    sandbox.write(&format!("results/{number}.json"), text);
}

/// How often it takes this part to have [`BYTES`] of it.
fn times(part: &Value) -> usize {
    BYTES / part.to_string().len() + 1
}

#[test]
fn results_of_campaigns_are_merged_in_a_few_times_the_memory_of_one() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("results")).unwrap();
    for number in 1..=SHARDS {
        let shard = format!("--shard={number}/{SHARDS}");
        let args = ["fuzz", "--driver=linux-6.12", "--cases=3", "--json", &shard];
        let found = sandbox.run(&args);
        let mut result: Value = serde_json::from_slice(&found.stdout).unwrap();
        let findings = result["findings"].as_array().unwrap();
        assert!(!findings.is_empty());
        // Each is found again and again.
        let many = times(&result["findings"]) * findings.len();
        let many: Vec<Value> = findings.iter().cycle().take(many).cloned().collect();
        result["findings"] = many.into();
        write_result(&sandbox, number, &result);
    }
    assert_eq!(merged(&sandbox, "fuzz"), Some(1));
}

#[test]
fn results_of_replays_are_merged_in_a_few_times_the_memory_of_one() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("results")).unwrap();
    sandbox.write("trace", ftrace(&[("WS", 0, 8)]));
    let args = ["replay", "@trace", "--each-device", "--memory", "--size=1M"];
    let mut result = sandbox.report(&args);
    let volume = result["volumes"][0].clone();
    let volumes = SHARDS * times(&volume) as u64;
    result["trace_volumes"] = volumes.into();
    for number in 1..=SHARDS {
        let own = (number - 1..volumes).step_by(SHARDS as usize).map(|index| {
            let mut own = volume.clone();
            own["number"] = index.into();
            own
        });
        result["volumes"] = own.collect();
        result["shards"] = json!({ "of": SHARDS, "numbers": [number] });
        write_result(&sandbox, number, &result);
    }
    assert_eq!(merged(&sandbox, "replay"), Some(0));
}
