//! The manifests in `deploy/`, without a cluster: they are read into the types that Kubernetes
//! publishes, keep its rules for them, and what their containers are to run is run.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{Container, PersistentVolumeClaim, PodSpec};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

use crate::cluster::{
    OPTIONS, SHARDS, deploy, in_one_piece, result, still_runs, wait_for_a_checkpoint,
};
use crate::cluster_image::Containerfile;
use crate::support::cli::{Sandbox, output};

/// The documents of a manifest.
fn documents(text: &str) -> Vec<Value> {
    let documents = YamlLoader::load_from_str(text).unwrap();
    documents.into_iter().map(value).collect()
}

fn value(yaml: Yaml) -> Value {
    match yaml {
        Yaml::Null => Value::Null,
        Yaml::Boolean(is) => is.into(),
        Yaml::Integer(number) => number.into(),
        Yaml::String(text) => text.into(),
        Yaml::Array(values) => values.into_iter().map(value).collect(),
        Yaml::Hash(fields) => fields
            .into_iter()
            .map(|(name, field)| (name.into_string().unwrap(), value(field)))
            .collect(),
        other @ (Yaml::Real(_) | Yaml::Alias(_) | Yaml::BadValue) => panic!("{other:?}"),
    }
}

fn manifest(name: &str) -> String {
    std::fs::read_to_string(deploy().join(name)).unwrap()
}

/// The object that a document describes. The types pass over fields that they do not know: all that
/// was read has to be in what is written again.
fn object<T: DeserializeOwned + Serialize>(document: &Value) -> Result<T, String> {
    let object: T = serde_json::from_value(document.clone()).map_err(|error| error.to_string())?;
    let again = serde_json::to_value(&object).unwrap();
    match again == *document {
        true => Ok(object),
        false => Err(format!(
            "found {document}, of which Kubernetes reads {again}"
        )),
    }
}

/// The volume's claim, and the job of the shards.
fn claim_and_job(text: &str) -> Result<(PersistentVolumeClaim, JobSpec), String> {
    let documents = documents(text);
    let [claim, job] = &documents[..] else {
        return Err(format!("found {} documents", documents.len()));
    };
    let job: Job = object(job)?;
    Ok((object(claim)?, job.spec.unwrap()))
}

fn merge() -> JobSpec {
    let documents = documents(&manifest("kubernetes-merge.yaml"));
    let [job] = &documents[..] else {
        panic!("found {} documents", documents.len());
    };
    object::<Job>(job).unwrap().spec.unwrap()
}

fn shards() -> JobSpec {
    claim_and_job(&manifest("kubernetes.yaml")).unwrap().1
}

fn pod(job: &JobSpec) -> &PodSpec {
    job.template.spec.as_ref().unwrap()
}

/// The container of a job's pods, which have one.
fn container(job: &JobSpec) -> &Container {
    let containers = &pod(job).containers;
    assert_eq!(containers.len(), 1);
    assert_eq!(pod(job).init_containers, None);
    &containers[0]
}

/// The value that the manifest gives a variable.
fn variable<'a>(container: &'a Container, name: &str) -> &'a str {
    let mut variables = container.env.iter().flatten();
    let variable = variables.find(|variable| variable.name == name).unwrap();
    variable.value.as_deref().unwrap()
}

#[test]
fn a_field_that_kubernetes_does_not_know_is_noticed() {
    let text = manifest("kubernetes.yaml");
    claim_and_job(&text).unwrap();
    for (right, wrong) in [
        ("backoffLimitPerIndex:", "backoffLimitPerindex:"),
        ("mountPath:", "mountPaths:"),
        ("completions: 8", "completions: eight"),
        ("kind: Job", "kind: CronJob"),
    ] {
        assert!(text.contains(right), "{right}");
        let refused = claim_and_job(&text.replace(right, wrong));
        assert!(refused.is_err(), "{wrong}");
    }
}

#[test]
fn there_is_an_index_for_each_shard_and_each_has_its_own_pods() {
    let job = shards();
    assert_eq!(job.completion_mode.as_deref(), Some("Indexed"));
    let completions = job.completions.unwrap();
    assert_eq!(completions.to_string(), variable(container(&job), "SHARDS"));
    assert_eq!(completions.to_string(), SHARDS.to_string());
    assert_eq!(job.parallelism, Some(completions));
    // One index does not use up the tries of the others. Kubernetes takes both with Never only.
    assert!(job.backoff_limit_per_index.unwrap() > 0);
    assert_eq!(job.backoff_limit, None);
    assert!(job.pod_failure_policy.is_some());
    assert_eq!(pod(&job).restart_policy.as_deref(), Some("Never"));
    // A merge that finds something has failed, and would again.
    assert_eq!(merge().backoff_limit, Some(0));
    assert_eq!(pod(&merge()).restart_policy.as_deref(), Some("Never"));
}

#[test]
fn all_pods_have_one_volume() {
    let (claim, job) = claim_and_job(&manifest("kubernetes.yaml")).unwrap();
    let modes = claim.spec.unwrap().access_modes.unwrap();
    assert_eq!(modes, ["ReadWriteMany"]);
    for job in [job, merge()] {
        let volumes = pod(&job).volumes.as_ref().unwrap();
        assert_eq!(volumes.len(), 1);
        let claimed = volumes[0].persistent_volume_claim.as_ref().unwrap();
        assert_eq!(Some(&claimed.claim_name), claim.metadata.name.as_ref());
        let mounts = container(&job).volume_mounts.as_ref().unwrap();
        assert_eq!(mounts.len(), 1);
        assert_eq!(mounts[0].name, volumes[0].name);
        assert_eq!(mounts[0].read_only, None);
    }
}

#[test]
fn the_image_is_the_one_that_is_built_and_its_user_is_not_root() {
    let containerfile = Containerfile::read();
    let documentation = deploy().join("../docs/cluster.md");
    let documentation = std::fs::read_to_string(documentation).unwrap();
    for job in [shards(), merge()] {
        let image = container(&job).image.as_deref();
        assert_eq!(image, Some(containerfile.tag()));
        let security = pod(&job).security_context.as_ref().unwrap();
        assert_eq!(security.run_as_non_root, Some(true));
        let user = security.run_as_user.unwrap();
        assert_eq!(user.to_string(), containerfile.last_says("USER"));
        // Or it could not write into the volume.
        assert_eq!(security.fs_group, Some(user));
    }
    for command in ["podman build -f deploy/Containerfile -t", "podman push"] {
        let command = format!("{command} {}", containerfile.tag());
        assert!(documentation.contains(&command), "{command}");
    }
}

/// What a shard is given is the same on all three ways.
#[test]
fn a_pod_has_the_memory_and_the_time_to_end_that_slurm_gives() {
    let slurm = manifest("slurm.sh");
    let option = |name: &str| {
        let start = format!("#SBATCH --{name}=");
        let mut values = slurm.lines().filter_map(|line| line.strip_prefix(&start));
        values.next().unwrap()
    };
    let job = shards();
    let resources = container(&job).resources.as_ref().unwrap();
    let (requests, limits) = (&resources.requests, &resources.limits);
    let (requests, limits) = (requests.as_ref().unwrap(), limits.as_ref().unwrap());
    assert_eq!(requests["cpu"].0, option("cpus-per-task"));
    assert_eq!(limits["memory"].0, format!("{}i", option("mem")));
    assert_eq!(requests["memory"].0, "256Mi");
    // In that time SIGTERM's checkpoint is written.
    let grace = pod(&job).termination_grace_period_seconds.unwrap();
    assert_eq!(option("signal"), format!("TERM@{grace}"));
}

/// The image's own files, the volume, and nothing else that could be written to.
struct Node {
    sandbox: Sandbox,
    campaign: PathBuf,
}

impl Node {
    fn new() -> Node {
        let sandbox = Sandbox::new();
        Containerfile::read().install(&sandbox.path("image"));
        let campaign = sandbox.path("campaign");
        std::fs::create_dir(&campaign).unwrap();
        Node { sandbox, campaign }
    }

    /// What a pod's container runs, with these options in the place of the manifest's.
    fn command(&self, container: &Container, options: &str) -> Command {
        let mounted = &container.volume_mounts.as_ref().unwrap()[0].mount_path;
        let given = [&container.command, &container.args];
        let words: Vec<&str> = given
            .into_iter()
            .flatten()
            .flatten()
            .map(String::as_str)
            .collect();
        // A path begins with it, which may have a name in it that is the same.
        let here = |word: &str| {
            let parts = word
                .split(' ')
                .map(|part| match part.strip_prefix(mounted.as_str()) {
                    Some(rest) => format!("{}{rest}", self.campaign.display()),
                    None => part.to_owned(),
                });
            parts.collect::<Vec<_>>().join(" ")
        };
        let programs = self.sandbox.path("image/usr/local/bin");
        // As the system looks for it in the image's PATH.
        let program = match programs.join(words[0]) {
            own if own.exists() => own,
            _ => PathBuf::from(words[0]),
        };
        let mut command = Command::new(program);
        command.args(words[1..].iter().map(|word| here(word)));
        command.env_clear().stdin(Stdio::null()).current_dir("/");
        command.env("PATH", format!("{}:/usr/bin:/bin", programs.display()));
        command.env("TMPDIR", "/nothing/can/be/written/here");
        for variable in container.env.iter().flatten() {
            // Kubernetes replaces it in commands before a shell sees them.
            let reference = format!("$({})", variable.name);
            assert!(!words.iter().any(|word| word.contains(&reference)));
            command.env(&variable.name, variable.value.as_ref().unwrap());
        }
        if container.env.is_some() {
            command.env("OPTIONS", options);
        }
        command
    }

    /// A pod of this index.
    fn pod(&self, index: u32, options: &str) -> Command {
        let mut command = self.command(container(&shards()), options);
        command.env("JOB_COMPLETION_INDEX", index.to_string());
        command
    }

    fn run(&self, index: u32, options: &str) -> Output {
        output(&mut self.pod(index, options))
    }
}

/// The statuses for which an index is given up.
fn given_up_for() -> Vec<i32> {
    let policy = shards().pod_failure_policy.unwrap();
    let mut statuses = Vec::new();
    for rule in policy.rules {
        let Some(codes) = rule.on_exit_codes else {
            assert_eq!(rule.action, "Ignore", "what is no fault of the shard's");
            continue;
        };
        assert_eq!((&*rule.action, &*codes.operator), ("FailIndex", "In"));
        assert_eq!(
            codes.container_name.as_ref(),
            Some(&container(&shards()).name)
        );
        statuses.extend(codes.values);
    }
    statuses
}

#[test]
fn what_the_pods_run_makes_the_campaign_and_a_new_pod_goes_on_with_a_shard() {
    let node = Node::new();
    let options = OPTIONS.join(" ");
    let mut pod = node.pod(0, &options);
    let mut child = pod.stderr(Stdio::null()).spawn().unwrap();
    wait_for_a_checkpoint(&node.campaign, || still_runs(&mut child));
    // The first process of the container is asked to end.
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let status = child.wait().unwrap().code().unwrap();
    assert_eq!(status, 143);
    assert!(!given_up_for().contains(&status));
    let checkpoint = |number: u32| format!("{number}-of-{SHARDS}.checkpoint");
    assert_eq!(names_in(&node.campaign), [checkpoint(1)]);

    for index in 0..SHARDS {
        let ended = node.run(index, &options);
        assert!(ended.status.success(), "{index}: {ended:?}");
    }
    let mut expected: Vec<_> = (1..=SHARDS)
        .flat_map(|number| [checkpoint(number), format!("{number}-of-{SHARDS}.json")])
        .collect();
    assert_eq!(names_in(&node.campaign), expected);

    let merge = merge();
    let mut command = node.command(container(&merge), &options);
    let merged = output(command.arg("--json"));
    assert_eq!(merged.status.code(), Some(1), "{merged:?}");
    assert_eq!(result(&merged.stdout), in_one_piece(&node.sandbox));
    expected.push("campaign.html".to_owned());
    assert_eq!(names_in(&node.campaign), expected);
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The next pod would fail likewise.
#[test]
fn an_index_is_given_up_for_what_is_wrong_with_its_command() {
    let node = Node::new();
    let wrong_usage = node.run(0, "--cases=none").status.code().unwrap();
    assert!(node.run(0, "--cases=8").status.success());
    let of_another = node.run(0, "--cases=9").status.code().unwrap();
    assert_eq!(wrong_usage, of_another);
    assert_eq!(given_up_for(), [wrong_usage]);
}
