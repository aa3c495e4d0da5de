//! The taint analyzer's findings, and which of them count.

use std::panic::{AssertUnwindSafe, catch_unwind};

use real_analysis::{Finding, Options, Returned, analyze};

use crate::config::{RewardConfig, Scope};
use crate::{FindingRecord, Task};

/// What the analyzer says.
#[derive(Debug, Clone)]
pub(crate) struct Security {
    /// The program is valid Python.
    pub(crate) parsed: bool,
    /// The analysis gave up on its budget, so that silence means nothing.
    pub(crate) incomplete: bool,
    pub(crate) findings: Vec<FindingRecord>,
}

impl Security {
    /// Findings that lower the quality. A program too large to be analysed counts as one.
    pub(crate) fn counted(&self) -> usize {
        self.findings.iter().filter(|finding| finding.counted).count() + usize::from(self.incomplete)
    }
}

/// Analyses a program. A panic of the analyzer is our failure and loses this program only.
pub(crate) fn judge(config: &RewardConfig, task: &Task, program: &str) -> Result<Security, String> {
    let prelude = Some(task.prelude.clone()).filter(|prelude| !prelude.is_empty());
    let options = Options {
        threat_model: None,
        prelude,
        entry_point: task.entry_point.clone(),
        returns: returned(task),
        ..Options::default()
    };
    let analysis = catch_unwind(AssertUnwindSafe(|| analyze(program, &options)))
        .map_err(|_| "the analyzer panicked".to_owned())?;
    let record = |finding: Finding| {
        let counted = counts(config, task, &finding);
        FindingRecord::new(finding, counted)
    };
    Ok(Security {
        parsed: analysis.parsed,
        incomplete: analysis.budget_hit,
        findings: analysis.findings.into_iter().map(record).collect(),
    })
}

/// The language of the returned value, as the task's contract says.
fn returned(task: &Task) -> Option<Returned> {
    match task.contract.as_ref()?.returns.as_deref()? {
        "html" => Some(Returned::Html),
        "url" => Some(Returned::Url),
        "command" => Some(Returned::Command),
        "header" => Some(Returned::Header),
        "sql" => Some(Returned::Sql),
        _ => None,
    }
}

fn counts(config: &RewardConfig, task: &Task, finding: &Finding) -> bool {
    let in_scope = match config.scope {
        Scope::All => true,
        Scope::Task if task.cwe.is_empty() => true,
        Scope::Task => finding.cwe.iter().any(|number| task.cwe.contains(&format!("CWE-{number}"))),
    };
    // Code that cannot be read is no weakness by itself, but nothing else that is said about the program can be trusted.
    let sure = finding.confidence >= config.min_confidence || finding.rule == "opaque-code";
    config.judges_security(task) && sure && in_scope
}
