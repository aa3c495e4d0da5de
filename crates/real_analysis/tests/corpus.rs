//! Labelled programs that do not belong to the project: the suites beside the repository.
//!
//! The thresholds are floors below what was measured when they were written, and above what any tool reached that looks at
//! words. Comments are not blanked here: the analyzer does not read them.

use std::path::{Path, PathBuf};

use real_analysis::{Options, analyze};
use serde_json::Value;

fn suite(name: &str) -> Option<Vec<Value>> {
    let shared = std::env::var_os("REAL_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let path = shared.join("data/suites").join(format!("{name}.jsonl"));
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: {} is not there", path.display());
        return None;
    };
    Some(text.lines().map(|line| serde_json::from_str(line).expect("a suite is JSON lines")).collect())
}

/// Found among the vulnerable, found among the safe, in percent.
fn rates(records: &[Value], cwe: u16) -> (f64, f64) {
    let mut counts = [[0.0; 2]; 2];
    for record in records {
        let code = record["code"].as_str().expect("a record has its code");
        let analysis = analyze(code, &Options::default());
        let found = analysis.findings.iter().any(|finding| cwe == 0 || finding.cwe.contains(&cwe));
        let label = usize::from(record["label"] == "safe");
        counts[label][usize::from(found)] += 1.0;
    }
    let rate = |[missed, found]: [f64; 2]| 100.0 * found / (missed + found).max(1.0);
    (rate(counts[0]), rate(counts[1]))
}

#[test]
fn safesql() {
    let Some(records) = suite("safesql") else { return };
    let (found, false_alarms) = rates(&records, 89);
    assert!(found >= 99.0 && false_alarms <= 4.0, "{found} / {false_alarms}");
}

#[test]
fn harmless_programs() {
    let Some(records) = suite("neg_apps") else { return };
    let (_, false_alarms) = rates(&records, 0);
    assert!(false_alarms <= 1.0, "{false_alarms}");
}

/// The classes without a data flow, by the first CWE of their records.
#[test]
fn missing_checks() {
    for name in ["seccodeplt", "seccodeplt_renamed"] {
        let Some(records) = suite(name) else { return };
        for cwe in [200, 347, 352, 862, 915] {
            let class = format!("CWE-{cwe}");
            let of_class: Vec<Value> =
                records.iter().filter(|record| record["cwe"][0] == *class).cloned().collect();
            let (found, false_alarms) = rates(&of_class, cwe);
            assert!(found >= 95.0 && false_alarms <= 2.0, "{name} {class}: {found} / {false_alarms}");
        }
    }
}

#[test]
fn renamed_variables_change_nothing() {
    let (Some(plain), Some(renamed)) = (suite("seccodeplt"), suite("seccodeplt_renamed")) else { return };
    for cwe in [79, 95, 327, 502] {
        let name = format!("CWE-{cwe}");
        let of = |records: &[Value]| {
            let records: Vec<Value> =
                records.iter().filter(|record| record["cwe"][0] == *name).cloned().collect();
            rates(&records, cwe)
        };
        let (a, b) = (of(&plain), of(&renamed));
        assert!((a.0 - b.0).abs() <= 2.0 && (a.1 - b.1).abs() <= 2.0, "{name}: {a:?} {b:?}");
        assert!(a.0 - a.1 >= 75.0, "{name}: {a:?}");
    }
}
