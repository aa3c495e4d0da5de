//! Fields of a record are set under names that the caller chooses (CWE-915).

use super::body::{Body, Params};
use super::stores::Content;
use super::{Scene, report};
use crate::eval::Report;
use crate::ir::{FunctionId, Op, ParamKind, ValueId};
use crate::rules::Weakness;

pub(super) fn check(scene: &Scene<'_>, function: FunctionId, reports: &mut Vec<Report>) {
    // The program knows which fields may be set, and never asks.
    if !scene.stores.any(|store| store.content == Content::Words && !store.read) {
        return;
    }
    let body = scene.body(function);
    for (id, op) in body.insts() {
        if assigns_any_field(body, id, op) {
            let range = body.function.insts[id.index()].range;
            let message =
                "fields are set under names of the caller's choice, and the list of allowed ones is unused";
            reports.push(report(Weakness::MassAssignment, range, message.to_owned(), 0.75));
            return;
        }
    }
}

fn assigns_any_field(body: &Body<'_>, id: ValueId, op: &Op) -> bool {
    match op {
        Op::Call { callee, args } => match (body.method(*callee), body.builtin(*callee), &args[..]) {
            (Some((object, "update")), _, [arg]) => {
                let whole = matches!(body.op(arg.value), Op::Param(_) | Op::Subscript { .. });
                let others = !body.params_of(arg.value);
                whole
                    && is_record(body, object)
                    && is_data(body, arg.value)
                    && !is_privileged(body, id, others)
            }
            (_, Some("setattr"), [object, name, _]) => {
                is_record(body, object.value)
                    && is_foreign_key(body, name.value)
                    && !is_checked(body, id, name.value)
            }
            _ => false,
        },
        Op::StoreSubscript { object, index, .. } => {
            is_record(body, *object) && is_foreign_key(body, *index) && !is_checked(body, id, *index)
        }
        _ => false,
    }
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

/// A key that comes from iterating over a parameter.
fn is_foreign_key(body: &Body<'_>, key: ValueId) -> bool {
    matches!(body.op(key), Op::Unpack { .. } | Op::Element(_)) && is_data(body, key)
}

/// Whether a condition mentions the key.
fn is_checked(body: &Body<'_>, id: ValueId, key: ValueId) -> bool {
    let edges = body.control.all(body.block_of(id));
    edges
        .into_iter()
        .filter_map(|edge| body.condition(edge))
        .any(|condition| body.mentions(condition, |v| v == key))
}

/// Whether this happens only when something else than the data is true: the caller may set everything.
fn is_privileged(body: &Body<'_>, id: ValueId, others: Params) -> bool {
    let edges = body.control.all(body.block_of(id));
    edges
        .into_iter()
        .filter(|edge| edge.first)
        .filter_map(|edge| body.condition(edge))
        .any(|condition| body.params_of(condition) & others != 0)
}
