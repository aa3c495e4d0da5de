//! Findings as a SARIF 2.1.0 log (OASIS Standard, 27 March 2020): what code hosts and editors show.

use std::collections::BTreeMap;

use real_analysis::{Finding, Span};
use serde_json::{Value, json};

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json";

/// One run with all findings, each with the path of its file.
pub(super) fn log<'a>(findings: impl Iterator<Item = (&'a str, &'a Finding)>) -> Value {
    let mut rules: BTreeMap<&str, &Finding> = BTreeMap::new();
    let results: Vec<Value> = findings
        .map(|(path, finding)| {
            rules.entry(finding.rule).or_insert(finding);
            result(path, finding)
        })
        .collect();
    let rules: Vec<Value> = rules
        .into_iter()
        .map(|(id, finding)| {
            let tags: Vec<String> = finding.cwe.iter().map(|n| format!("external/cwe/cwe-{n:03}")).collect();
            json!({
                "id": id,
                "name": id,
                "shortDescription": { "text": id.replace('-', " ") },
                "properties": { "tags": tags },
            })
        })
        .collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "real", "version": env!("CARGO_PKG_VERSION"), "rules": rules } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn result(path: &str, finding: &Finding) -> Value {
    let mut result = json!({
        "ruleId": finding.rule,
        "level": if finding.confidence >= 0.5 { "error" } else { "warning" },
        "message": { "text": finding.message },
        "locations": [{ "physicalLocation": location(path, &finding.span) }],
        "rank": f64::from((finding.confidence * 100.0).round()),
        "partialFingerprints": { "realFinding/v1": finding.fingerprint },
    });
    if finding.suppressed {
        result["suppressions"] = json!([{ "kind": "inSource" }]);
    }
    if let Some(guard) = &finding.guard {
        result["message"]["text"] = format!("{} ({guard})", finding.message).into();
    }
    if !finding.flow.is_empty() {
        let steps: Vec<Value> = finding
            .flow
            .iter()
            .map(|step| {
                json!({ "location": {
                    "physicalLocation": location(path, &step.span),
                    "message": { "text": step.message },
                } })
            })
            .collect();
        result["codeFlows"] = json!([{ "threadFlows": [{ "locations": steps }] }]);
    }
    result
}

fn location(path: &str, span: &Span) -> Value {
    json!({
        "artifactLocation": { "uri": path.replace('\\', "/").replace(' ', "%20") },
        "region": {
            "startLine": span.line,
            "startColumn": span.column,
            "endLine": span.end_line,
            "endColumn": span.end_column,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the schema of SARIF 2.1.0 demands of the parts that are written here: required properties, and those that exist.
    const SHAPES: &[(&str, &[&str], &[&str])] = &[
        ("", &["version", "runs"], &["$schema"]),
        ("/runs/0", &["tool"], &["columnKind", "results"]),
        ("/runs/0/tool", &["driver"], &[]),
        ("/runs/0/tool/driver", &["name"], &["version", "rules"]),
        ("/runs/0/tool/driver/rules/0", &["id"], &["name", "shortDescription", "properties"]),
        ("/runs/0/tool/driver/rules/0/shortDescription", &["text"], &[]),
        (
            "/runs/0/results/0",
            &["message"],
            &["ruleId", "level", "locations", "rank", "partialFingerprints", "suppressions", "codeFlows"],
        ),
        ("/runs/0/results/0/message", &["text"], &[]),
        ("/runs/0/results/0/suppressions/0", &["kind"], &[]),
        ("/runs/0/results/0/locations/0", &[], &["physicalLocation"]),
        ("/runs/0/results/0/locations/0/physicalLocation", &["artifactLocation"], &["region"]),
        ("/runs/0/results/0/locations/0/physicalLocation/artifactLocation", &[], &["uri"]),
        (
            "/runs/0/results/0/locations/0/physicalLocation/region",
            &[],
            &["startLine", "startColumn", "endLine", "endColumn"],
        ),
        ("/runs/0/results/0/codeFlows/0", &["threadFlows"], &[]),
        ("/runs/0/results/0/codeFlows/0/threadFlows/0", &["locations"], &[]),
        ("/runs/0/results/0/codeFlows/0/threadFlows/0/locations/0", &[], &["location"]),
        (
            "/runs/0/results/0/codeFlows/0/threadFlows/0/locations/0/location",
            &[],
            &["physicalLocation", "message"],
        ),
    ];

    #[test]
    fn a_log_has_the_shape_of_the_schema() {
        let source = "import os\nname = input()\nname = name.replace(';', '')\nos.system('ls ' + name)  # real: ignore\n";
        let analysis = real_analysis::analyze(source, &real_analysis::Options::default());
        let log = log(analysis.findings.iter().map(|finding| ("a b.py", finding)));
        for (place, required, optional) in SHAPES {
            let object =
                log.pointer(place).and_then(Value::as_object).unwrap_or_else(|| panic!("{place}: {log}"));
            for name in *required {
                assert!(object.contains_key(*name), "{place} lacks {name}");
            }
            let known = |name: &str| required.contains(&name) || optional.contains(&name);
            assert!(object.keys().all(|name| known(name)), "{place}: {object:?}");
        }
        let result = &log["runs"][0]["results"][0];
        assert_eq!(log["version"], "2.1.0");
        assert_eq!(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "a%20b.py");
        assert!(["none", "note", "warning", "error"].contains(&result["level"].as_str().unwrap_or_default()));
        assert!(result["rank"].as_f64().is_some_and(|rank| (0.0..=100.0).contains(&rank)));
        assert!(
            result["message"]["text"].as_str().is_some_and(|text| text.contains("were ruled out")),
            "{result}"
        );
        assert_eq!(result["ruleId"], log["runs"][0]["tool"]["driver"]["rules"][0]["id"]);
    }
}
