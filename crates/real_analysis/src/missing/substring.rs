//! A text passes because it *contains* something allowed (CWE-183, CWE-20).
//!
//! ```python
//! if any(word in command for word in ("ls", "date")):
//!     return command
//! ```
//!
//! `rm -rf / # ls` contains `ls`, as `https://evil.example/?trusted.com` contains `trusted.com`. The other way round, a list of
//! what must not occur, is weak too but common; what tells them apart is which side of the branch goes on with the text.

use super::body::Body;
use super::stores::{Content, is_host};
use super::{Scene, report};
use crate::control::Edge;
use crate::eval::Report;
use crate::ir::{CompareOp, FunctionId, Op, Terminator, ValueId};
use crate::rules::Weakness;

pub(super) fn check(scene: &Scene<'_>, function: FunctionId, reports: &mut Vec<Report>) {
    let body = scene.body(function);
    for (id, op) in body.insts() {
        let Op::Compare { op: CompareOp::In, left, right } = op else { continue };
        let Some(host) = allowed(scene, body, *left) else { continue };
        if let Some(text) = whole_text(body, *right)
            && let Some(test) = test_of(body, id)
            && goes_on_with(body, test, text)
        {
            let weakness = if host { Weakness::HostBySubstring } else { Weakness::WordBySubstring };
            let message = "containing something allowed is enough to pass".to_owned();
            reports.push(report(weakness, body.function.insts[id.index()].range, message, 0.7));
            return;
        }
    }
}

/// Whether the text that must occur is a constant or one of a list of the module, and whether it is a host.
fn allowed(scene: &Scene<'_>, body: &Body<'_>, value: ValueId) -> Option<bool> {
    if let Some(text) = body.text(value) {
        return is_host(text).then_some(true);
    }
    let Op::Element(iterable) = body.op(value) else { return None };
    let (store, keys) = body.path(*iterable)?;
    match scene.stores.get(store)?.content {
        Content::Hosts if keys.is_empty() => Some(true),
        Content::Words if keys.is_empty() => Some(false),
        _ => None,
    }
}

/// The parameter that a text is, but for its case and the spaces around it: not its parts, in which membership is exact.
fn whole_text(body: &Body<'_>, value: ValueId) -> Option<ValueId> {
    match body.op(value) {
        Op::Param(index) => {
            let annotation = body.function.params[*index as usize].annotation.as_ref();
            annotation.is_none_or(|annotation| &*annotation.name == "str").then_some(value)
        }
        Op::Call { callee, .. } => {
            let (object, "lower" | "strip" | "upper") = body.method(*callee)? else { return None };
            whole_text(body, object)
        }
        _ => None,
    }
}

/// The value on which the program branches: the comparison itself, or `any(…)` of it.
fn test_of(body: &Body<'_>, comparison: ValueId) -> Option<ValueId> {
    let collected = body.insts().find_map(|(_, op)| match op {
        Op::Append { container, value } if *value == comparison => Some(*container),
        _ => None,
    });
    let Some(container) = collected else { return Some(comparison) };
    body.insts().find_map(|(id, op)| match op {
        Op::Call { callee, args } => {
            let is_any =
                body.builtin(*callee) == Some("any") && args.first().map(|arg| arg.value) == Some(container);
            is_any.then_some(id)
        }
        _ => None,
    })
}

/// Whether the text is returned or passed on where the test is true, and only there.
fn goes_on_with(body: &Body<'_>, test: ValueId, text: ValueId) -> bool {
    let depends = |edge: &Edge| edge.first && body.condition(*edge) == Some(test);
    let uses = |value: ValueId| body.mentions(value, |at| at == text);
    body.order.iter().any(|block| {
        let block_of = &body.function.blocks[block.index()];
        let returned = matches!(block_of.terminator, Terminator::Return(value) if uses(value));
        let passed = block_of.insts.iter().any(|id| match body.op(*id) {
            Op::Call { callee, args } => {
                let complains =
                    body.builtin(*callee).is_some_and(|name| name.ends_with("Error") || name == "print");
                !complains && args.iter().any(|arg| uses(arg.value))
            }
            _ => false,
        });
        (returned || passed) && body.control.all(*block).iter().any(depends)
    })
}
