//! Who the attacker is, chosen per file: a program that imports a web framework is attacked by requests, one with an entry
//! point of its own by what it reads, and one without (the usual answer of a language model) by whoever calls it.

use crate::ThreatModel;
use crate::ir::{CompareOp, Module, Op};
use crate::library::{self, Origin, Returns};

/// The threat model of a program that nobody has said anything about.
pub(crate) fn choose(module: &Module) -> ThreatModel {
    let imports =
        module.functions.iter().flat_map(|function| &function.insts).filter_map(|inst| match inst.op {
            Op::Import(path) => Some(module.symbols.text(path)),
            _ => None,
        });
    let is_web = |path: &str| library::WEB_FRAMEWORKS.contains(&path.split('.').next().unwrap_or_default());
    if imports.clone().any(is_web) {
        return ThreatModel::Web;
    }
    if has_entry_point(module) { ThreatModel::Program } else { ThreatModel::Library }
}

/// Module code that tests `__name__`, or reads what a user gives.
fn has_entry_point(module: &Module) -> bool {
    let body = &module.functions[0];
    let name = |op: &Op| match op {
        Op::Builtin(symbol) | Op::Import(symbol) => Some(module.symbols.text(*symbol)),
        _ => None,
    };
    let tests_name = body.insts.iter().any(|inst| match inst.op {
        Op::Compare { op: CompareOp::Equal, left, .. } => {
            name(&body.insts[left.index()].op) == Some("__name__")
        }
        _ => false,
    });
    let reads = body.blocks.iter().flat_map(|block| &block.insts).any(|id| match &body.insts[id.index()].op {
        Op::Call { callee, .. } => {
            let path = match &body.insts[callee.index()].op {
                Op::Builtin(symbol) => format!("builtins.{}", module.symbols.text(*symbol)),
                Op::Import(symbol) => module.symbols.text(*symbol).to_owned(),
                Op::Attribute { object, name: attribute } => match name(&body.insts[object.index()].op) {
                    Some(object) => format!("{object}.{}", module.symbols.text(*attribute)),
                    None => return false,
                },
                _ => return false,
            };
            matches!(library::find(&path), Some(api) if matches!(api.returns, Returns::Source(Origin::User, _)))
        }
        _ => false,
    });
    tests_name || reads
}
