//! What the analyzer says about a program: the types of its answer, and how they look as JSON.

use serde::{Serialize, Serializer};

use crate::ThreatModel;

/// The verdict on one program.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// Rule name in kebab case, such as `sql-injection`.
    pub rule: &'static str,
    /// CWE numbers, the most specific first. As JSON: `["CWE-89"]`.
    #[serde(serialize_with = "cwe_names")]
    pub cwe: Vec<u16>,
    /// One sentence: what reaches what.
    pub message: String,
    /// Between 0 and 1.
    pub confidence: f32,
    /// Where the sink is.
    #[serde(flatten)]
    pub span: Span,
    /// The check or filter that was seen, and why it does not suffice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guard: Option<String>,
    /// The same for the same weakness in the next version of a program: lines may have moved, and code beside it may have changed.
    pub fingerprint: String,
    /// A comment asks people's tools to look away: `# real: ignore` or `# real: ignore[rule]`. For a reward it means nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub suppressed: bool,
    /// From source to sink; empty for weaknesses without a data flow.
    pub flow: Vec<FlowStep>,
}

/// One step of a data flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FlowStep {
    /// Where.
    #[serde(flatten)]
    pub span: Span,
    /// What happens there.
    pub message: String,
}

/// A range of source text. Lines and columns count from 1, columns in characters; offsets are bytes; the end is exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
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

fn cwe_names<S: Serializer>(numbers: &[u16], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(numbers.iter().map(|number| format!("CWE-{number}")))
}

/// Turns byte ranges into spans.
pub(crate) struct Lines<'a> {
    source: &'a str,
    starts: Vec<u32>,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(source: &'a str) -> Self {
        let breaks = source.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(breaks.map(|(at, _)| at as u32 + 1)).collect();
        Self { source, starts }
    }

    pub(crate) fn span(&self, range: crate::ir::Range) -> Span {
        let (line, column) = self.position(range.start);
        let (end_line, end_column) = self.position(range.end);
        Span { line, column, end_line, end_column, start: range.start, end: range.end }
    }

    fn position(&self, offset: u32) -> (u32, u32) {
        let line = self.starts.partition_point(|start| *start <= offset) - 1;
        let start = self.starts[line] as usize;
        let before = self.source.get(start..offset as usize).unwrap_or_default();
        (line as u32 + 1, before.chars().count() as u32 + 1)
    }
}

/// A number that a sink keeps when the program around it changes: of its rule, its text without spaces, and how many of the same
/// came before.
pub(crate) fn fingerprint(rule: &str, code: &str, earlier: usize) -> String {
    // FNV-1a: written down with findings, so it must not change with a library.
    let text = code.split_whitespace().flat_map(str::bytes);
    let all = rule.bytes().chain([0]).chain(text).chain([0]).chain((earlier as u64).to_le_bytes());
    let hash = all.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// Whether a comment asks to ignore a rule.
pub(crate) fn is_suppressed(comment: &str, rule: &str) -> bool {
    let Some((_, request)) = comment.split_once("real: ignore") else { return false };
    match request.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((rules, _)) => rules.split(',').any(|name| name.trim() == rule),
        None => !request.starts_with(|next: char| next.is_alphanumeric() || next == '['),
    }
}
