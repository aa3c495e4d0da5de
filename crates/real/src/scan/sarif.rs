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
            json!({ "id": id, "name": id, "properties": { "tags": tags } })
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
    });
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
