//! A record is read or changed, and who asks decides nothing (CWE-862, CWE-863).

use super::body::{Body, Params};
use super::stores::Content;
use super::{MAX_DEPTH, Scene, has_word, report};
use crate::eval::Report;
use crate::ir::{FunctionId, Op, Range};
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

pub(super) fn check(scene: &Scene<'_>, function: FunctionId, reports: &mut Vec<Report>) {
    if !scene.stores.any(|store| store.content == Content::Records) {
        return;
    }
    let body = scene.body(function);
    let idle = body.idle();
    if idle.is_empty() {
        return;
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
            return;
        }
    }
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
