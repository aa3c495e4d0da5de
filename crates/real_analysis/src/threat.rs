//! Who the attacker is, chosen per file: a program that imports a web framework is attacked by requests, one with an entry
//! point of its own by what it reads, and one without (the usual answer of a language model) by whoever calls it.

use rustc_hash::FxHashSet;

use crate::ThreatModel;
use crate::ir::{Annotation, CompareOp, Function, FunctionId, Module, Op, Symbol, ValueId};
use crate::library::{self, Libraries, Origin, Returns};
use crate::missing::import_path;

/// The threat model of a program that nobody has said anything about.
pub(crate) fn choose(module: &Module, libraries: Libraries<'_>) -> ThreatModel {
    let imports =
        module.functions.iter().flat_map(|function| &function.insts).filter_map(|inst| match inst.op {
            Op::Import(path) => Some(module.symbols.text(path)),
            _ => None,
        });
    if imports.clone().any(is_web) && answers_requests(module) {
        return ThreatModel::Web;
    }
    if has_entry_point(module, libraries) { ThreatModel::Program } else { ThreatModel::Library }
}

/// Whether anything in a module takes a request: a framework's object is used, a name says so, a call, a decorator, or the base of a class.
///
/// A helper that only imports a framework is attacked by those who call it, like any library.
fn answers_requests(module: &Module) -> bool {
    let text = |symbol: Symbol| module.symbols.text(symbol);
    let is_request = |name: &str| matches!(name, "request" | "req" | "websocket");
    let params = || module.functions.iter().flat_map(|function| &function.params);
    let typed = |annotation: &Annotation| {
        annotation.name.ends_with("Request") || annotation.name.ends_with("WebSocket")
    };
    let view = |name: &str| library::VIEW_CLASSES.iter().any(|suffix| name.ends_with(suffix));
    let uses = |function: &Function, op: &Op| match op {
        Op::Import(path) => {
            let path = text(*path);
            let connects = ["gradio", "graphene", "grpc"].iter().any(|framework| path.starts_with(framework));
            is_web(path) && (path.ends_with(".request") || connects)
        }
        Op::Builtin(name) => text(*name) == "request",
        Op::Attribute { object, name } => {
            let owner = &function.insts[object.index()].op;
            text(*name) == "request" && matches!(owner, Op::Import(path) if is_web(text(*path)))
        }
        Op::Call { callee, .. } => match function.insts[callee.index()].op {
            Op::Attribute { name, .. } | Op::Import(name) | Op::Builtin(name) | Op::Global(name) => {
                let name = text(name).rsplit('.').next().unwrap_or_default();
                library::ROUTE_REGISTRARS.contains(&name)
            }
            _ => false,
        },
        _ => false,
    };
    params().any(|param| is_request(text(param.name)) || param.annotation.as_ref().is_some_and(typed))
        || module.functions.iter().any(|function| text(function.name) == "lambda_handler")
        || module.functions.iter().any(|function| function.insts.iter().any(|inst| uses(function, &inst.op)))
        || module.symbols.all().any(view)
        || !routes(module).is_empty()
}

fn is_web(path: &str) -> bool {
    library::WEB_FRAMEWORKS.contains(&path.split('.').next().unwrap_or_default())
}

/// The functions that answer requests because a decorator says so: `@app.route("/")`, whatever `app` is.
pub(crate) fn routes(module: &Module) -> FxHashSet<FunctionId> {
    let mut routes = FxHashSet::default();
    let decorators_of = |name: &str| {
        let root = name.split('.').next();
        library::REMOTE_DECORATORS.iter().find(|(framework, _)| Some(*framework) == root)
    };
    let frameworks = module.symbols.all().filter_map(decorators_of);
    let remote: Vec<&str> = frameworks.flat_map(|(_, names)| names.iter().copied()).collect();
    for owner in &module.functions {
        for inst in &owner.insts {
            if let Op::Closure { function, decorators, .. } = &inst.op
                && decorators.iter().any(|decorator| is_route(module, owner, *decorator, &remote))
            {
                routes.insert(*function);
            }
        }
    }
    routes
}

fn is_route(module: &Module, owner: &Function, decorator: ValueId, remote: &[&str]) -> bool {
    let named = |value: ValueId, names: &[&str]| match owner.insts[value.index()].op {
        Op::Attribute { name, .. } | Op::Import(name) | Op::Builtin(name) => {
            names.contains(&module.symbols.text(name).rsplit('.').next().unwrap_or_default())
        }
        _ => false,
    };
    match owner.insts[decorator.index()].op {
        Op::Call { callee, .. } => named(callee, library::ROUTE_DECORATORS) || named(callee, remote),
        _ => is_exposed(module, owner, decorator) || named(decorator, remote),
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

/// Whether a module is a program of its own: its module code reads what a user gives, or it tests `__name__` and something in it does.
///
/// A test of `__name__` alone says that the rest is there to be imported; what stands behind it is an example.
fn has_entry_point(module: &Module, libraries: Libraries<'_>) -> bool {
    let body = &module.functions[0];
    let tests_name = body.insts.iter().any(|inst| match inst.op {
        Op::Compare { op: CompareOp::Equal, left, .. } => {
            path(module, body, left).as_deref() == Some("builtins.__name__")
        }
        _ => false,
    });
    let reads = |function: &Function| {
        let mut ids = function.blocks.iter().flat_map(|block| &block.insts);
        ids.any(|id| reads_user(module, function, *id, libraries))
    };
    if tests_name { module.functions.iter().any(reads) } else { reads(body) }
}

/// `input()`, `sys.argv`, `argparse.ArgumentParser()`
fn reads_user(module: &Module, function: &Function, id: ValueId, libraries: Libraries<'_>) -> bool {
    let value = match &function.insts[id.index()].op {
        Op::Call { callee, .. } => *callee,
        Op::Import(_) | Op::Attribute { .. } => id,
        _ => return false,
    };
    let Some(path) = path(module, function, value) else { return false };
    let parses = library::COMMAND_LINE_PARSERS.contains(&path.split('.').next().unwrap_or_default());
    parses
        || libraries.find(&path).is_some_and(|api| {
            let is_used = value != id || api.is_attribute;
            is_used && matches!(api.returns, Returns::Source(Origin::User, _))
        })
}

/// The path of something built in or imported.
fn path(module: &Module, function: &Function, value: ValueId) -> Option<String> {
    match &function.insts[value.index()].op {
        Op::Builtin(name) => Some(format!("builtins.{}", module.symbols.text(*name))),
        _ => import_path(module, function, value),
    }
}
