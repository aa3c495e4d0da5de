//! What callers send is kept in a container that outlives the call, and nothing limits its size (CWE-770).

use super::body::Body;
use super::stores::Content;
use super::{Scene, report};
use crate::eval::Report;
use crate::ir::{CompareOp, FunctionId, Op, Symbol, ValueId};
use crate::rules::Weakness;

/// Calls at the top of a program that make a table of its own.
const FILLED: usize = 4;
const SIZES: &[&str] = &["qsize", "full", "__len__", "count"];
const EVICTIONS: &[&str] = &["pop", "popleft", "popitem", "clear", "remove", "discard", "__delitem__"];

pub(super) fn check(scene: &Scene<'_>, function: FunctionId, reports: &mut Vec<Report>) {
    if !scene.stores.any(|store| store.content == Content::Empty) {
        return;
    }
    let body = scene.body(function);
    if registers(body, function) {
        return;
    }
    for (id, op) in body.insts() {
        let Some((store, kept)) = grows(scene, body, op) else { continue };
        let bounded = is_bounded(body, id, store) || evicts(body, store);
        if holds_param(body, kept, 0) && !bounded {
            let name = scene.name(store);
            let message = format!("what callers send is kept in `{name}`, whose size nothing limits");
            reports.push(report(
                Weakness::UnboundedGrowth,
                body.function.insts[id.index()].range,
                message,
                0.6,
            ));
            return;
        }
    }
}

/// Whether the program itself fills its tables with the function: as a decorator, or with one call after another.
fn registers(body: &Body<'_>, function: FunctionId) -> bool {
    let module = &body.module.functions[0];
    let is_it = |value: ValueId| matches!(module.insts[value.index()].op, Op::Closure { function: closure, .. } if closure == function);
    let decorates = module.insts.iter().any(|inst| match &inst.op {
        Op::Closure { decorators, .. } => decorators.iter().any(|decorator| is_it(*decorator)),
        _ => false,
    });
    let calls =
        module.insts.iter().filter(|inst| matches!(inst.op, Op::Call { callee, .. } if is_it(callee)));
    decorates || calls.count() >= FILLED
}

/// The container that an instruction makes larger, and what it adds.
fn grows(scene: &Scene<'_>, body: &Body<'_>, op: &Op) -> Option<(Symbol, ValueId)> {
    let (object, kept) = match op {
        Op::Call { callee, args } => {
            let (object, name) = body.method(*callee)?;
            let position = match name {
                "append" | "add" | "appendleft" | "put" | "put_nowait" => 0,
                "insert" => 1,
                _ => return None,
            };
            (object, args.get(position)?.value)
        }
        // A key of the caller's choice; one that is known to exist replaces a value.
        Op::StoreSubscript { object, index, value } if body.params_of(*index) != 0 => {
            matches!(body.op(*object), Op::Global(_)).then_some((*object, *value))?
        }
        _ => return None,
    };
    let (store, _) = body.path(object)?;
    scene.stores.is(store, Content::Empty).then_some((store, kept))
}

/// Whether a value is a parameter or made of one: what was computed from it has a size of its own.
fn holds_param(body: &Body<'_>, value: ValueId, depth: u32) -> bool {
    if depth > 6 || body.params_of(value) == 0 {
        return false;
    }
    let holds = |value: ValueId| holds_param(body, value, depth + 1);
    match body.op(value) {
        Op::Param(index) if body.is_receiver(*index) => false,
        Op::Param(index) => {
            let param = &body.function.params[*index as usize];
            let annotation = param.annotation.as_ref().map(|annotation| &*annotation.name);
            !matches!(annotation, Some("int" | "float" | "bool" | "type" | "Type" | "Callable"))
        }
        Op::Dict(pairs) => pairs.iter().any(|(_, value)| holds(*value)),
        Op::Sequence { items, .. } => items.iter().any(|item| holds(item.value())),
        Op::Format(_) => true,
        Op::Binary { left, right, .. } => holds(*left) || holds(*right),
        Op::Phi(values) => values.iter().any(|value| holds(*value)),
        Op::Subscript { object, .. } => holds(*object),
        _ => false,
    }
}

/// Whether the growth depends on the size of the container.
fn is_bounded(body: &Body<'_>, id: ValueId, store: Symbol) -> bool {
    let of_store = |value: ValueId| body.path(value).is_some_and(|(name, _)| name == store);
    let is_size = |value: ValueId| match body.op(value) {
        Op::Call { callee, args } => match body.method(*callee) {
            Some((object, name)) => SIZES.contains(&name) && of_store(object),
            None => {
                body.builtin(*callee) == Some("len") && args.first().is_some_and(|arg| of_store(arg.value))
            }
        },
        // A key that must be there already names a value that is replaced.
        Op::Compare { op: CompareOp::In, right, .. } => of_store(*right),
        _ => false,
    };
    let edges = body.control.all(body.block_of(id));
    edges
        .into_iter()
        .filter_map(|edge| body.condition(edge))
        .any(|condition| body.mentions(condition, is_size))
}

/// Whether the function also takes something out.
fn evicts(body: &Body<'_>, store: Symbol) -> bool {
    body.insts().any(|(_, op)| match op {
        Op::Call { callee, .. } => body.method(*callee).is_some_and(|(object, name)| {
            EVICTIONS.contains(&name) && body.path(object).is_some_and(|(found, _)| found == store)
        }),
        Op::StoreGlobal(name, _) => *name == store,
        _ => false,
    })
}
