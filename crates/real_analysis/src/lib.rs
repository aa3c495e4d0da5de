//! Python source in, security findings out.
//!
//! The pipeline is parse → IR → CFG → SSA → values, taint and guards → rules. A program that does not parse is data:
//! [`Analysis::parsed`] is false, and what does parse is still judged. Nothing here does I/O or reads a clock.
//!
//! ```
//! let program = "import os\nname = input()\nos.system('ping ' + name)\n";
//! let analysis = real_analysis::analyze(program, &real_analysis::Options::default());
//! assert_eq!(analysis.findings[0].rule, "command-injection");
//! assert_eq!(analysis.findings[0].cwe, [78, 77]);
//! assert_eq!(analysis.findings[0].span.line, 3);
//! ```

mod control;
mod dominators;
mod eval;
mod facts;
mod finding;
mod grammar;
mod ir;
mod library;
mod missing;
mod names;
mod python;
mod rules;
mod ssa;
mod text;
mod threat;
mod timing;
mod value;

pub use finding::{Analysis, Finding, FlowStep, Span};
pub use library::{Library, LibraryError};
pub use python::{Outline, OutlineItem, OutlineKind, outline};

use std::sync::Arc;

use library::Libraries;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

/// What to assume about a program besides its text.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Who the attacker is; `None` chooses per file from imports and entry points.
    pub threat_model: Option<ThreatModel>,
    /// Trusted set-up code that runs before the program (a unit test's set-up, constants). Its findings are not reported.
    pub prelude: Option<String>,
    /// The function (or `Class.method`) that outsiders call: its parameters are hostile whatever the threat model is.
    pub entry_point: Option<String>,
    /// What the entry point returns, so that whoever gets it will interpret it.
    pub returns: Option<Returned>,
    /// What to believe without proof.
    pub mode: Mode,
    /// Parameters, by name, whose values nobody hostile chooses: the contract of a task says so.
    pub trusted_params: Vec<String>,
    /// What is known about libraries beside what is built in; its entries go first.
    pub library: Option<Arc<Library>>,
}

/// The language of a returned value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Returned {
    /// A page or a part of one.
    Html,
    /// Where a browser is sent.
    Url,
    /// A command line for a shell.
    Command,
    /// A header line of a message.
    Header,
    /// An SQL statement.
    Sql,
}

/// What to believe without proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Annotations hold, what an unknown function returns is hostile only if its arguments are, a function named `escape` that
    /// nobody can look into escapes, and who calls a function decides what it is given.
    #[default]
    Precise,
    /// None of this: whatever is not known to be harmless is hostile, and every function may be called by anybody.
    Sound,
}

/// Where hostile data comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThreatModel {
    /// Requests of a web framework.
    Web,
    /// A script: `input()`, `sys.argv`, stdin, sockets.
    Program,
    /// Parameters of public functions.
    Library,
}

/// Analyses one program.
pub fn analyze(source: &str, options: &Options) -> Analysis {
    let program = python::parse(source);
    let prelude = options.prelude.as_deref().map(python::parse);
    let module = python::lower(prelude.as_ref(), &program);
    debug_assert_eq!(ir::verify::module(&module), Ok(()));
    let threat_model = options
        .threat_model
        .unwrap_or_else(|| threat::choose(&module, Libraries::new(options.library.as_deref())));
    let mut engine = eval::Engine::new(&module, threat_model, options);
    engine.run_all();
    let (exposed, routes) = engine.exposed();
    let missing = missing::reports(&module, &exposed, &routes);
    let named = names::reports(&module, &routes);
    let timed = timing::reports(&module);
    let reports = engine.reports.iter().chain(&missing).chain(&named).chain(&timed);
    let findings = findings(source, &program, reports);
    Analysis { parsed: program.valid(), threat_model, findings, budget_hit: engine.budget_hit }
}

/// The reports in order of position, in terms of the text.
fn findings<'r>(
    source: &str,
    program: &python::Parsed,
    reports: impl Iterator<Item = &'r eval::Report>,
) -> Vec<Finding> {
    let lines = finding::Lines::new(source);
    let text = |start: u32, end: u32| source.get(start as usize..end as usize).unwrap_or_default();
    let mut findings: Vec<Finding> = reports.map(|report| finding(report, &lines)).collect();
    if findings.is_empty() {
        return findings;
    }
    findings.sort_by(|a, b| (a.span, a.rule).cmp(&(b.span, b.rule)));
    let comments: Vec<(u32, &str)> =
        program.comments().map(|range| (lines.span(range).line, text(range.start, range.end))).collect();
    let mut seen: FxHashMap<(&str, &str), usize> = FxHashMap::default();
    for finding in &mut findings {
        let code = text(finding.span.start, finding.span.end);
        let earlier = seen.entry((finding.rule, code)).or_default();
        finding.fingerprint = finding::fingerprint(finding.rule, code, *earlier);
        *earlier += 1;
        let own_lines = finding.span.line..=finding.span.end_line;
        let mut own = comments.iter().filter(|(line, _)| own_lines.contains(line));
        finding.suppressed = own.any(|(_, comment)| finding::is_suppressed(comment, finding.rule));
    }
    findings
}

fn finding(report: &eval::Report, lines: &finding::Lines<'_>) -> Finding {
    Finding {
        rule: report.weakness.rule(),
        cwe: report.weakness.cwe().to_vec(),
        message: report.message.clone(),
        confidence: report.confidence.clamp(0.0, 1.0),
        span: lines.span(report.range),
        guard: report.guard.clone(),
        fingerprint: String::new(),
        suppressed: false,
        flow: report.flow.iter().map(|step| eval::step(lines, step)).collect(),
    }
}
