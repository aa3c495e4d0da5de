//! Python source in, security findings out.
//!
//! The pipeline is parse → IR → CFG → SSA → values, taint and guards → rules. A program that does not parse is data:
//! [`Analysis::parsed`] is false, and what does parse is still judged. Nothing here does I/O or reads a clock.

/// What to assume about a program besides its text.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Who the attacker is; `None` chooses per file from imports and entry points.
    pub threat_model: Option<ThreatModel>,
    /// Trusted set-up code that runs before the program (a unit test's set-up, constants). Its findings are not reported.
    pub prelude: Option<String>,
}

/// Where hostile data comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ThreatModel {
    /// Requests of a web framework.
    Web,
    /// A script: `input()`, `sys.argv`, stdin, sockets.
    Program,
    /// Parameters of public functions.
    Library,
}

/// The verdict on one program.
#[derive(Debug, Clone)]
pub struct Analysis {
    /// The whole text is syntactically valid Python.
    pub parsed: bool,
    /// The threat model that was used.
    pub threat_model: ThreatModel,
    /// In order of position, then rule.
    pub findings: Vec<Finding>,
    /// A linear-time budget was exhausted: findings may be missing.
    pub budget_hit: bool,
}

/// One weakness.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Rule name in kebab case, such as `sql-injection`.
    pub rule: &'static str,
    /// CWE numbers, the most specific first.
    pub cwe: Vec<u16>,
    /// One sentence: what reaches what.
    pub message: String,
    /// Between 0 and 1.
    pub confidence: f32,
    /// Where the sink is.
    pub span: Span,
    /// From source to sink; empty for weaknesses without a data flow.
    pub flow: Vec<FlowStep>,
}

/// One step of a data flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowStep {
    /// Where.
    pub span: Span,
    /// What happens there.
    pub message: String,
}

/// A range of source text. Lines and columns count from 1, columns in characters; offsets are bytes; the end is exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// First line.
    pub line: u32,
    /// First column.
    pub column: u32,
    /// Last line.
    pub end_line: u32,
    /// Column after the last character.
    pub end_column: u32,
    /// First byte.
    pub start: u32,
    /// Byte after the last.
    pub end: u32,
}
