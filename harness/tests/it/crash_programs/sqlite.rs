//! SQLite under `ubdlab crash`, beside what its manual says of each way to sync.

use serde_json::Value;

use super::{crash, found, work};
use crate::support::cli::Sandbox;
use crate::support::peers::peer;
use crate::support::share::share;

fn sqlite() -> Option<(String, Sandbox)> {
    let program = peer("sqlite3")?;
    Some((program.to_str().unwrap().to_owned(), work(&[])?))
}

fn crashed(sandbox: &Sandbox, check: &str, more: &[&str], command: &[&str], status: i32) -> Value {
    let (points, most) = share(("80", "12"), ("20", "5"));
    let usual = [
        "--json", "--jobs", "1", "--points", points, "--images", most,
    ];
    found(
        &crash(sandbox, check, &[&usual, more].concat(), command),
        status,
    )
}

/// With FULL a power cut corrupts nothing, with OFF it may, and with NORMAL it may where there is a
/// rollback journal. WAL is exclusive, so that it needs no mapping that is shared.
#[test]
fn a_database_survives_with_its_syncs_and_not_without() {
    let Some((sqlite, sandbox)) = sqlite() else {
        return;
    };
    let setup = format!(
        "{sqlite} work/db 'create table t(a, b); \
         insert into t select value, hex(randomblob(500)) from generate_series(1, 30)'"
    );
    let check = format!("test \"$({sqlite} work/db 'pragma integrity_check')\" = ok");
    let modes = [
        ("delete", "full", 0),
        ("wal", "full", 0),
        ("delete", "off", 1),
        ("delete", "normal", 1),
        ("delete", "extra", 0),
        ("wal", "off", 1),
        ("wal", "normal", 0),
        ("wal", "extra", 0),
    ];
    for &(journal, synchronous, status) in share(&modes[..], &modes[..3]) {
        let script = format!(
            "pragma locking_mode=exclusive; pragma journal_mode={journal}; \
             pragma synchronous={synchronous}; \
             update t set b = hex(randomblob(500)) where a > 10; \
             delete from t where a < 5; insert into t values (99, 'x')"
        );
        let more = ["--setup", &setup];
        let command = [&sqlite, "work/db", &script];
        crashed(&sandbox, &check, &more, &command, status);
    }
}

/// Three transactions, one after the other. After each, the number of those that SQLite has
/// reported as committed is noted beside the database, durably.
fn three_commits(sqlite: &str, synchronous: &str) -> String {
    format!(
        "for n in 1 2 3; do \
         {sqlite} work/db 'pragma synchronous={synchronous}; insert into t values ('$n')' && \
         printf x >>work/committed && sync work/committed || exit 1; done"
    )
}

/// What the manual says of the rollback journal: with FULL the last transaction may be taken back
/// by a power cut, because nothing syncs the directory in which the journal was removed; EXTRA
/// syncs it.
#[test]
fn a_reported_commit_may_be_taken_back_at_full_and_not_at_extra() {
    let Some((sqlite, sandbox)) = sqlite() else {
        return;
    };
    let setup = format!("{sqlite} work/db 'create table t(a)' && touch work/committed");
    let check = format!(
        "rows=$({sqlite} work/db 'select count(*) from t') || exit 2; \
         noted=$(wc -c <work/committed); \
         test $rows -ge $noted || {{ echo $noted commits were reported, $rows are there; exit 1; }}"
    );
    let more = ["--setup", &setup];
    let full = three_commits(&sqlite, "full");
    let report = crashed(&sandbox, &check, &more, &["sh", "-c", &full], 1);
    let findings = report["findings"].as_array().unwrap();
    let said = findings[0]["check"]["said"][0].as_str().unwrap();
    assert!(said.ends_with("are there"), "{report}");
    // What was lost is the name of the journal that went.
    let unsynced = findings[0]["unsynced"].as_array().unwrap();
    let is_lost = |it: &&Value| it["fate"] == "lost";
    let lost: Vec<_> = unsynced.iter().filter(is_lost).collect();
    assert!(
        lost.iter().any(|it| it["operation"] == "remove db-journal"),
        "{report}"
    );
    let extra = three_commits(&sqlite, "extra");
    crashed(&sandbox, &check, &more, &["sh", "-c", &extra], 0);
}
