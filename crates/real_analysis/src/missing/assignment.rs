//! Fields of a record are set under names that the caller chooses (CWE-915).

use super::body::{Body, Params};
use super::stores::Content;
use super::{Scene, report};
use crate::eval::Report;
use crate::ir::{CompareOp, FunctionId, Op, ParamKind, Symbol, ValueId};
use crate::rules::Weakness;

pub(super) fn check(scene: &Scene<'_>, function: FunctionId, reports: &mut Vec<Report>) {
    let body = scene.body(function);
    for (id, op) in body.insts() {
        if let Some(data) = assigned_at_will(body, id, op)
            && has_unasked_list(scene, body, data)
        {
            let range = body.function.insts[id.index()].range;
            let message =
                "fields are set under names of the caller's choice, and the list of allowed ones is unused";
            reports.push(report(Weakness::MassAssignment, range, message.to_owned(), 0.75));
            return;
        }
    }
}

/// The parameters whose data name the fields that an instruction sets, if nothing checks the names.
fn assigned_at_will(body: &Body<'_>, id: ValueId, op: &Op) -> Option<Params> {
    let (data, at_will) = match op {
        Op::Call { callee, args } => match (body.method(*callee), body.builtin(*callee), &args[..]) {
            (Some((object, "update")), _, [arg]) => {
                let whole = matches!(body.op(arg.value), Op::Param(_) | Op::Subscript { .. });
                let others = !(body.params_of(arg.value) | body.params_of(object));
                let at_will = whole
                    && is_record(body, object)
                    && is_data(body, arg.value)
                    && !is_privileged(body, id, others);
                (arg.value, at_will)
            }
            (_, Some("setattr"), [object, name, _]) => {
                (name.value, is_record(body, object.value) && is_free_key(body, id, name.value))
            }
            _ => return None,
        },
        Op::StoreSubscript { object, index, .. } => {
            (*index, is_record(body, *object) && is_free_key(body, id, *index))
        }
        _ => return None,
    };
    at_will.then(|| body.params_of(data))
}

/// Whether the program knows which fields may be set, and never asks: a list that nothing reads, or that this function reads for something
/// else than the data.
fn has_unasked_list(scene: &Scene<'_>, body: &Body<'_>, data: Params) -> bool {
    scene.stores.any(|store| store.content == Content::Words && !store.read)
        || body.insts().any(|(_, op)| {
            name(op).is_some_and(|list| is_list(scene, body, list) && !is_asked(body, list, data))
        })
}

/// The name that is read, if it is none of the function's.
fn name(op: &Op) -> Option<Symbol> {
    match op {
        Op::Global(name) | Op::Builtin(name) => Some(*name),
        _ => None,
    }
}

/// A list of words of the module, or a constant that the program looks things up in and has from elsewhere: `PERMITTED_FIELDS`.
fn is_list(scene: &Scene<'_>, body: &Body<'_>, list: Symbol) -> bool {
    let is_list = |value: ValueId| name(body.op(value)) == Some(list);
    let looks_up = |op: &Op| match op {
        Op::Compare { op: CompareOp::In | CompareOp::NotIn, right, .. } => is_list(*right),
        Op::Element(elements) => is_list(*elements),
        _ => false,
    };
    let text = body.name(list);
    let is_constant = text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase);
    match scene.stores.get(list) {
        Some(store) => store.content == Content::Words,
        None => is_constant && body.insts().any(|(_, op)| looks_up(op)),
    }
}

/// Whether something is computed from both the list and the data.
fn is_asked(body: &Body<'_>, list: Symbol, data: Params) -> bool {
    body.insts().any(|(_, op)| {
        let (mut of_list, mut of_data) = (false, false);
        op.operands(|operand| {
            if body.mentions(operand, |value| name(body.op(value)) == Some(list)) {
                of_list = true;
            } else {
                of_data |= body.params_of(operand) & data != 0;
            }
        });
        of_list && of_data
    })
}

/// A parameter, or something that outlives the call: not what the function made itself, nor the object that it belongs to.
fn is_record(body: &Body<'_>, value: ValueId) -> bool {
    match body.op(value) {
        Op::Param(index) => !body.is_receiver(*index),
        _ => body.path(value).is_some(),
    }
}

/// Data of the caller. Keyword arguments are named by code, not by data.
fn is_data(body: &Body<'_>, value: ValueId) -> bool {
    let params = body.params_of(value);
    let named_by_code = body.function.params.iter().position(|param| param.kind == ParamKind::KeywordRest);
    params != 0 && named_by_code.is_none_or(|index| params & (1 << index.min(63)) == 0)
}

/// A key that comes from iterating over a parameter, and that nothing checks.
fn is_free_key(body: &Body<'_>, id: ValueId, key: ValueId) -> bool {
    let is_foreign = matches!(body.op(key), Op::Unpack { .. } | Op::Element(_)) && is_data(body, key);
    is_foreign && !is_checked(body, id, key)
}

/// Whether a condition mentions the key.
fn is_checked(body: &Body<'_>, id: ValueId, key: ValueId) -> bool {
    let edges = body.control.all(body.block_of(id));
    edges
        .into_iter()
        .filter_map(|edge| body.condition(edge))
        .any(|condition| body.mentions(condition, |v| v == key))
}

/// Whether this happens only when something else than the record and the data is true: the caller may set everything.
fn is_privileged(body: &Body<'_>, id: ValueId, others: Params) -> bool {
    let edges = body.control.all(body.block_of(id));
    edges
        .into_iter()
        .filter(|edge| edge.first)
        .filter_map(|edge| body.condition(edge))
        .any(|condition| body.params_of(condition) & others != 0)
}
