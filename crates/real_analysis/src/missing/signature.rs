//! A signature is taken and never compared (CWE-347).

use super::stores::Content;
use super::{Scene, has_word, report};
use crate::eval::Report;
use crate::ir::{Constant, FunctionId, Op, Terminator};
use crate::rules::Weakness;

const CREDENTIALS: &[&str] = &[
    "signature",
    "sig",
    "sign",
    "signed",
    "hmac",
    "mac",
    "digest",
    "checksum",
    "fingerprint",
    "proof",
    "certificate",
];

pub(super) fn check(scene: &Scene<'_>, function: FunctionId, reports: &mut Vec<Report>) {
    let body = scene.body(function);
    let idle = body.idle();
    if idle.is_empty() {
        return;
    }
    // A table of signatures that nobody looks into: what is compared elsewhere is not compared here.
    let ignored_table = scene.stores.any(|store| store.content == Content::Tokens && !store.values_read);
    for param in idle {
        let param = &body.function.params[param];
        let name = scene.name(param.name);
        let named = has_word(name, CREDENTIALS);
        let confidence = match (ignored_table, named) {
            (true, true) => 0.85,
            (true, false) => 0.65,
            (false, true) if does_something(body) => 0.65,
            _ => continue,
        };
        let message = format!("the parameter `{name}` is never compared with what it should be");
        reports.push(report(Weakness::MissingVerification, param.range, message, confidence));
        return;
    }
}

/// Not a stub: the function calls something and returns something.
fn does_something(body: &super::body::Body<'_>) -> bool {
    let calls = body.insts().any(|(_, op)| super::body::is_effect(op));
    let returns = body.order.iter().any(|block| match body.function.blocks[block.index()].terminator {
        Terminator::Return(value) => !matches!(body.op(value), Op::Constant(Constant::None)),
        _ => false,
    });
    calls && returns
}
