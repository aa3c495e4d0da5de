//! The record of one judged completion: the line that `real score` writes.

use std::collections::BTreeMap;

use real_analysis::{Finding, Span};
use serde::{Deserialize, Serialize};

/// One completion, judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// The task's `id`.
    pub task_id: String,
    /// Which completion of the task, from 0.
    pub sample: u64,
    /// The hybrid reward, in [−1, 1]. Null when we failed to judge, and never a number then.
    pub reward: Option<f64>,
    /// The paper's `r_quality`, in [0, 1]: 0 for what cannot run.
    pub quality: Option<f64>,
    /// The paper's `r_function`, in [0, 1].
    pub function: Option<f64>,
    /// Every functional test passed.
    pub passed: bool,
    /// There is a closed code block and it is valid Python.
    pub parsed: bool,
    /// Weaknesses, in order of position.
    pub findings: Vec<FindingRecord>,
    /// Type errors, in order of position. Empty where types are no part of the task's quality.
    pub type_errors: Vec<TypeError>,
    /// Test results.
    pub tests: TestReport,
    /// Observations: what looks like an attempt to cheat, and oddities of the answer. They never change the reward.
    pub flags: Vec<String>,
    /// Our own failure, in words. The item should be left out of training, not punished.
    pub infra_error: Option<String>,
    /// Milliseconds, by judge.
    pub ms: Timing,
}

/// A weakness as a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FindingRecord {
    /// Rule name.
    pub rule: String,
    /// `CWE-89`, the most specific first.
    pub cwe: Vec<String>,
    /// What reaches what.
    pub message: String,
    /// Between 0 and 1.
    pub confidence: f32,
    /// It lowered the quality: it is confident enough, and within the scope.
    pub counted: bool,
    /// First line, from 1.
    pub line: u32,
    /// First column, from 1, in characters.
    pub column: u32,
    /// Last line.
    pub end_line: u32,
    /// Column after the last character.
    pub end_column: u32,
    /// The same in the completion: the first character and the one after the last, from 0. What credit for single tokens needs.
    pub span: [usize; 2],
    /// From source to sink.
    pub flow: Vec<FlowRecord>,
}

/// A step of a flow as a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowRecord {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// What happens there.
    pub message: String,
}

/// An error of the type checker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TypeError {
    /// Line of the program, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// mypy's code, such as `no-untyped-def`, or one of ours, which start with `real-`.
    pub code: String,
    /// In words.
    pub message: String,
}

/// Results of a program's tests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestReport {
    /// Functional tests that passed.
    pub passed: u32,
    /// Functional tests.
    pub total: u32,
    /// The same by kind: `function`, `attack`.
    pub by_kind: BTreeMap<String, Count>,
    /// Each test, in order.
    pub cases: Vec<CaseReport>,
}

/// Passed of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// Passed.
    pub passed: u32,
    /// All.
    pub total: u32,
}

/// One test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseReport {
    /// `function` or `attack`.
    pub kind: CaseKind,
    /// What happened.
    pub verdict: CaseVerdict,
    /// The exception, the exit status, the class of a value of the wrong type; shortened.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// What a test is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseKind {
    /// Does it do what was asked? Part of `r_function`.
    Function,
    /// Does it withstand an attack? Reported only.
    Attack,
}

/// What happened in a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseVerdict {
    /// As expected.
    Pass,
    /// Another value, another output, or no exception where one was due.
    Wrong,
    /// An exception that was not expected.
    Raised,
    /// Not valid Python.
    SyntaxError,
    /// The entry point is missing.
    Missing,
    /// The process ended before it answered.
    Exited,
    /// Killed by a signal.
    Signaled,
    /// Out of time.
    Timeout,
    /// Out of memory.
    Memory,
    /// Too much output.
    Output,
    /// Not run, because too many before it exceeded a limit or because nothing can run. Counts as failed.
    Skipped,
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// Taint analysis.
    pub analysis: f64,
    /// Type check: this program's share of its batch.
    pub types: f64,
    /// Tests.
    pub tests: f64,
}

impl Score {
    /// The score of an item that was not judged because of us: no reward, and why.
    pub fn outage(task_id: &str, sample: u64, reason: &str) -> Self {
        Self { sample, infra_error: Some(reason.to_owned()), ..Self::blank(task_id) }
    }

    /// A score that says nothing yet.
    pub(crate) fn blank(task_id: &str) -> Self {
        Self {
            task_id: task_id.to_owned(),
            sample: 0,
            reward: None,
            quality: None,
            function: None,
            passed: false,
            parsed: false,
            findings: Vec::new(),
            type_errors: Vec::new(),
            tests: TestReport::default(),
            flags: Vec::new(),
            infra_error: None,
            ms: Timing::default(),
        }
    }
}

impl FindingRecord {
    pub(crate) fn new(finding: Finding, counted: bool) -> Self {
        let Span { line, column, end_line, end_column, .. } = finding.span;
        Self {
            rule: finding.rule.to_owned(),
            cwe: finding.cwe.iter().map(|number| format!("CWE-{number}")).collect(),
            message: finding.message,
            confidence: finding.confidence,
            counted,
            line,
            column,
            end_line,
            end_column,
            span: [0, 0],
            flow: finding
                .flow
                .into_iter()
                .map(|step| FlowRecord {
                    line: step.span.line,
                    column: step.span.column,
                    message: step.message,
                })
                .collect(),
        }
    }
}

impl TestReport {
    /// Counts the cases. The totals come from here alone, so that they are right by construction.
    pub(crate) fn new(cases: Vec<CaseReport>) -> Self {
        let mut by_kind: BTreeMap<String, Count> = BTreeMap::new();
        for case in &cases {
            let name = match case.kind {
                CaseKind::Function => "function",
                CaseKind::Attack => "attack",
            };
            let count = by_kind.entry(name.to_owned()).or_default();
            count.total += 1;
            count.passed += u32::from(case.verdict == CaseVerdict::Pass);
        }
        let Count { passed, total } = by_kind.get("function").copied().unwrap_or_default();
        Self { passed, total, by_kind, cases }
    }
}
