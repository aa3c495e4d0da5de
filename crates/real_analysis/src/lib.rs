//! Python source in, security findings out.
//!
//! The pipeline is parse → IR → CFG → SSA → values, taint and guards → rules. A program that does not parse is data:
//! [`Analysis::parsed`] is false, and what does parse is still judged. Nothing here does I/O or reads a clock.

mod dominators;
mod finding;
mod ir;
mod python;
mod ssa;

pub use finding::{Analysis, Finding, FlowStep, Span};
pub use python::{Outline, OutlineItem, OutlineKind, outline};

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
    Analysis {
        parsed: program.valid(),
        threat_model: options.threat_model.unwrap_or(ThreatModel::Library),
        findings: Vec::new(),
        budget_hit: module.truncated,
    }
}
