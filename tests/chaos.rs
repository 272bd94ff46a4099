//! `flotilla-chaos` for some seconds: a few faults, and a report that says that nothing is wrong.

use std::process::Command;

use flotilla_tests::binary::flotilla;
use serde_json::Value;

#[test]
fn a_cluster_under_fire_loses_nothing_and_the_report_says_so() {
    let only = "kill-store,pause-store,cut-minority";
    let ended = Command::new(env!("CARGO_BIN_EXE_flotilla-chaos"))
        .args(["--minutes", "0.15", "--seed", "3", "--clients", "4", "--only", only])
        .args(["-o", "json", "--binary"])
        .arg(flotilla())
        .output()
        .expect("the program can be started");
    let (stdout, stderr) = (ended.stdout, String::from_utf8_lossy(&ended.stderr).into_owned());
    assert_eq!(ended.status.code(), Some(0), "{stderr}\n{}", String::from_utf8_lossy(&stdout));
    let report: Value = serde_json::from_slice(&stdout).expect("one object");
    let number = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("{name}: {report}"));
    for wrong in ["lost", "stale", "duplicated", "torn"] {
        assert_eq!(number(wrong), 0, "{report}");
    }
    assert!(number("faults_seen") > 0, "{report}");
    assert!(number("ok") > 0 && number("regions") > 0, "{report}");
    assert!(report["recovery_ms"]["max"].as_u64() > Some(0), "{report}");
}

#[test]
fn a_fault_that_is_none_is_bad_usage() {
    let ended = Command::new(env!("CARGO_BIN_EXE_flotilla-chaos"))
        .args(["--only", "earthquake"])
        .output()
        .expect("the program can be started");
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
}
