//! A record is read or changed, and who asks decides nothing (CWE-862, CWE-863).

use super::body::{Body, Params};
use super::stores::Content;
use super::{MAX_DEPTH, Scene, has_word, report};
use crate::eval::Report;
use crate::ir::{FunctionId, Op, Range, Terminator};
use crate::rules::Weakness;

const SUBJECTS: &[&str] = &[
    "user",
    "actor",
    "caller",
    "requester",
    "current",
    "operator",
    "editor",
    "employee",
    "staff",
    "role",
    "member",
    "account",
    "principal",
    "viewer",
    "performer",
    "acting",
    "requesting",
    "admin",
    "executor",
    "initiator",
];

/// A record under a key of the caller's choice.
pub(super) struct Access {
    pub(super) range: Range,
    /// Parameters that the key was computed from.
    pub(super) key: Params,
}

/// Names of parameters that are who asks, whatever the program is about.
const ASKERS: &[&str] =
    &["current_user", "user", "requester", "actor", "caller", "acting_user", "requesting_user", "principal"];

pub(super) fn check(scene: &Scene<'_>, function: FunctionId, reports: &mut Vec<Report>) {
    if !check_stores(scene, function, reports) {
        check_siblings(scene, function, reports);
    }
}

/// Others decide by who asks, and this function takes the same parameter and does not look at it:
///
/// ```python
/// def read_note(notes, key, current_user):
///     if notes[key].owner != current_user: raise PermissionError
/// def delete_note(notes, key, current_user):
///     notes.pop(key)
/// ```
fn check_siblings(scene: &Scene<'_>, function: FunctionId, reports: &mut Vec<Report>) {
    let body = scene.body(function);
    let asker = |param: &usize| ASKERS.contains(&scene.name(body.function.params[*param].name));
    let Some(param) = body.idle().into_iter().find(asker) else { return };
    let name = body.function.params[param].name;
    let decides = |(id, other): (usize, &crate::ir::Function)| {
        let other_body = scene.body(FunctionId(id as u32));
        let place = other.params.iter().position(|param| param.name == name);
        place.is_some_and(|place| !other_body.idle().contains(&place) && decides_by(other_body, place))
    };
    if !scene.module.functions.iter().enumerate().skip(1).any(decides) {
        return;
    }
    let chosen = !(1 << param.min(63));
    let reaches = |op: &Op| match op {
        Op::Subscript { index, .. } | Op::StoreSubscript { index, .. } => {
            body.params_of(*index) & chosen != 0
        }
        Op::Call { callee, args } => {
            body.method(*callee).is_some() && args.iter().any(|arg| body.params_of(arg.value) & chosen != 0)
        }
        _ => false,
    };
    let Some((id, _)) = body.insts().find(|(_, op)| reaches(op)) else { return };
    let message =
        format!("others decide by `{0}`, and here nothing depends on the parameter `{0}`", scene.name(name));
    let range = body.function.insts[id.index()].range;
    reports.push(report(Weakness::MissingAuthorization, range, message, 0.6));
}

/// Whether a condition of the function depends on a parameter.
fn decides_by(body: &Body<'_>, param: usize) -> bool {
    body.function.blocks.iter().any(|block| match block.terminator {
        Terminator::Branch { condition, .. } => body.params_of(condition) & (1 << param.min(63)) != 0,
        _ => false,
    })
}

/// Whether something was found.
fn check_stores(scene: &Scene<'_>, function: FunctionId, reports: &mut Vec<Report>) -> bool {
    if !scene.stores.any(|store| store.content == Content::Records) {
        return false;
    }
    let body = scene.body(function);
    let idle = body.idle();
    if idle.is_empty() {
        return false;
    }
    let accesses = accesses(scene, function, 0);
    for param in idle {
        let Some(access) = accesses.iter().find(|access| access.key & !(1 << param) != 0) else { continue };
        let name = scene.name(body.function.params[param].name);
        let mut confidence = 0.45;
        if has_word(name, SUBJECTS) {
            confidence += 0.2;
        }
        if scene.stores.names_subjects {
            confidence += 0.2;
        }
        if scene.stores.any(|store| store.content == Content::Records && !store.read) {
            confidence += 0.05;
        }
        if confidence >= 0.6 {
            let message = format!("a record is used whoever asks: nothing depends on the parameter `{name}`");
            reports.push(report(Weakness::MissingAuthorization, access.range, message, confidence));
            return true;
        }
    }
    false
}

/// The records that a function reaches, by itself and through the functions that it calls.
fn accesses(scene: &Scene<'_>, function: FunctionId, depth: u32) -> Vec<Access> {
    let body = scene.body(function);
    let mut found = Vec::new();
    for (id, op) in body.insts() {
        let range = body.function.insts[id.index()].range;
        match op {
            Op::Subscript { .. } | Op::StoreSubscript { .. } => found.extend(access(scene, body, op, range)),
            Op::Call { callee, args } => {
                found.extend(body.path(id).and_then(|(store, keys)| {
                    let key = keys.iter().fold(0, |all, key| all | body.params_of(*key));
                    (key != 0 && scene.stores.is(store, Content::Records)).then_some(Access { range, key })
                }));
                let Op::Global(name) = body.op(*callee) else { continue };
                let Some(target) = scene.function_named(*name).filter(|_| depth < MAX_DEPTH) else {
                    continue;
                };
                for inner in accesses(scene, target, depth + 1) {
                    let passed =
                        args.iter().enumerate().filter(|(index, _)| inner.key & (1 << (*index).min(63)) != 0);
                    let key = passed.fold(0, |all, (_, arg)| all | body.params_of(arg.value));
                    if key != 0 {
                        found.push(Access { range, key });
                    }
                }
            }
            _ => {}
        }
    }
    found
}

fn access(scene: &Scene<'_>, body: &Body<'_>, op: &Op, range: Range) -> Option<Access> {
    let (object, index) = match op {
        Op::Subscript { object, index } | Op::StoreSubscript { object, index, .. } => (*object, *index),
        _ => return None,
    };
    let (store, keys) = body.path(object)?;
    let key = keys.iter().chain([&index]).fold(0, |all, key| all | body.params_of(*key));
    (key != 0 && scene.stores.is(store, Content::Records)).then_some(Access { range, key })
}
