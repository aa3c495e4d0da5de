//! Who the attacker is, chosen per file: a program that imports a web framework is attacked by requests, one with an entry
//! point of its own by what it reads, and one without (the usual answer of a language model) by whoever calls it.

use rustc_hash::FxHashSet;

use crate::ThreatModel;
use crate::ir::{CompareOp, Function, FunctionId, Module, Op, ValueId};
use crate::library::{self, Libraries, Origin, Returns};

/// The threat model of a program that nobody has said anything about.
pub(crate) fn choose(module: &Module, libraries: Libraries<'_>) -> ThreatModel {
    let imports =
        module.functions.iter().flat_map(|function| &function.insts).filter_map(|inst| match inst.op {
            Op::Import(path) => Some(module.symbols.text(path)),
            _ => None,
        });
    let is_web = |path: &str| library::WEB_FRAMEWORKS.contains(&path.split('.').next().unwrap_or_default());
    if imports.clone().any(is_web) && answers_requests(module) {
        return ThreatModel::Web;
    }
    if has_entry_point(module, libraries) { ThreatModel::Program } else { ThreatModel::Library }
}

/// Whether anything in a module takes a request: a name says so, a decorator, or the base of a class.
///
/// A helper that only imports a framework is attacked by those who call it, like any library.
fn answers_requests(module: &Module) -> bool {
    let named = |name: &str| {
        matches!(name, "request" | "req" | "websocket" | "gradio" | "lambda_handler")
            || library::ROUTE_REGISTRARS.contains(&name)
    };
    let types = || {
        module.functions.iter().flat_map(|function| &function.params).filter_map(|p| p.annotation.as_ref())
    };
    let view = |name: &str| library::VIEW_CLASSES.iter().any(|suffix| name.ends_with(suffix));
    module.symbols.all().any(|name| named(name) || view(name) || name.ends_with(".request"))
        || types().any(|annotation| annotation.name.ends_with("Request"))
        || !routes(module).is_empty()
}

/// The functions that answer requests because a decorator says so: `@app.route("/")`, whatever `app` is.
pub(crate) fn routes(module: &Module) -> FxHashSet<FunctionId> {
    let mut routes = FxHashSet::default();
    for owner in &module.functions {
        for inst in &owner.insts {
            if let Op::Closure { function, decorators, .. } = &inst.op
                && decorators.iter().any(|decorator| is_route(module, owner, *decorator))
            {
                routes.insert(*function);
            }
        }
    }
    routes
}

fn is_route(module: &Module, owner: &Function, decorator: ValueId) -> bool {
    let Op::Call { callee, .. } = owner.insts[decorator.index()].op else {
        return is_exposed(module, owner, decorator);
    };
    match owner.insts[callee.index()].op {
        Op::Attribute { name, .. } | Op::Import(name) | Op::Builtin(name) => {
            let name = module.symbols.text(name).rsplit('.').next().unwrap_or_default();
            library::ROUTE_DECORATORS.contains(&name)
        }
        _ => false,
    }
}

/// `@cherrypy.expose`, without a call.
fn is_exposed(module: &Module, owner: &Function, decorator: ValueId) -> bool {
    let import = |value: ValueId| match owner.insts[value.index()].op {
        Op::Import(path) | Op::Global(path) => Some(module.symbols.text(path)),
        _ => None,
    };
    match owner.insts[decorator.index()].op {
        Op::Attribute { object, name } => {
            module.symbols.text(name) == "expose" && import(object) == Some("cherrypy")
        }
        _ => import(decorator) == Some("cherrypy.expose"),
    }
}

/// Module code that tests `__name__`, or reads what a user gives.
fn has_entry_point(module: &Module, libraries: Libraries<'_>) -> bool {
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
            matches!(libraries.find(&path), Some(api) if matches!(api.returns, Returns::Source(Origin::User, _)))
        }
        _ => false,
    });
    tests_name || reads
}
