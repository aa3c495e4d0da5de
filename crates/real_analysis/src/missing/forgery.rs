//! A request changes something, and nothing in the request shows that the user meant it (CWE-352).
//!
//! A browser sends cookies along with a request that another page made it send. Such a request lacks what only the real page
//! knows: a token in a header or field. So a change that a request asks for must depend on a header, a token or the origin.

use super::body::Body;
use super::{MAX_DEPTH, Scene, has_word, report};
use crate::eval::Report;
use crate::ir::{FunctionId, Op, Terminator, ValueId};
use crate::rules::Weakness;

const TOKENS: &[&str] = &["csrf", "xsrf", "token", "nonce", "origin", "referer", "referrer", "authorization"];
const CONTENT: &[&str] = &["body", "form", "json", "data"];
const EVIDENCE: &[&str] = &["headers", "cookies", "META"];
pub(super) const MUTATORS: &[&str] = &[
    "append",
    "add",
    "insert",
    "extend",
    "update",
    "remove",
    "pop",
    "popitem",
    "clear",
    "discard",
    "setdefault",
    "appendleft",
    "__delitem__",
    "put",
];

pub(super) fn check(scene: &Scene<'_>, function: FunctionId, reports: &mut Vec<Report>) {
    let body = scene.body(function);
    let Some(content) = body.insts().find(|(id, _)| is_part(body, *id, CONTENT)).map(|(id, _)| id) else {
        return;
    };
    // A cloud function is called by a gateway, not by a browser.
    if body.function.params.iter().any(|param| matches!(scene.name(param.name), "event" | "context")) {
        return;
    }
    let request = body.params_of(content);
    for (id, op) in body.insts() {
        let changes = changes_state(scene, body, op, 0);
        let parses = !changes && parses_body(body, op);
        if (changes || parses) && !depends_on_evidence(body, id) && depends_on(body, id, op, request) {
            let range = body.function.insts[id.index()].range;
            let (what, confidence) = if changes {
                ("the request changes something and nothing shows that its user meant it", 0.7)
            } else {
                ("the request is parsed whatever type it declares, which a foreign page can send", 0.55)
            };
            reports.push(report(Weakness::CrossSiteRequestForgery, range, what.to_owned(), confidence));
            return;
        }
    }
}

/// `request["body"]`, `request.get("body")`: a part of a parameter.
fn is_part(body: &Body<'_>, value: ValueId, names: &[&str]) -> bool {
    let (object, key) = match body.op(value) {
        Op::Subscript { object, index } => (*object, body.text(*index)),
        Op::Call { callee, args } => match (body.method(*callee), args.first()) {
            (Some((object, "get")), Some(arg)) => (object, body.text(arg.value)),
            _ => return false,
        },
        _ => return false,
    };
    key.is_some_and(|key| names.contains(&key)) && matches!(body.op(object), Op::Param(_))
}

fn is_evidence(body: &Body<'_>, value: ValueId) -> bool {
    is_part(body, value, EVIDENCE) || body.text(value).is_some_and(|text| has_word(text, TOKENS))
}

fn depends_on_evidence(body: &Body<'_>, inst: ValueId) -> bool {
    let edges = body.control.all(body.block_of(inst));
    let mut conditions = edges.into_iter().filter_map(|edge| body.condition(edge));
    conditions.any(|condition| body.mentions(condition, |value| is_evidence(body, value)))
}

fn depends_on(body: &Body<'_>, id: ValueId, op: &Op, request: u64) -> bool {
    let mut params = body.deciding(body.block_of(id));
    op.operands(|operand| params |= body.params_of(operand));
    params & request != 0
}

/// Whether an instruction changes what outlives the call.
fn changes_state(scene: &Scene<'_>, body: &Body<'_>, op: &Op, depth: u32) -> bool {
    match op {
        Op::StoreGlobal(..) => true,
        Op::StoreSubscript { object, .. } | Op::StoreAttribute { object, .. } => body.path(*object).is_some(),
        Op::Call { callee, .. } => {
            if let Some((object, name)) = body.method(*callee) {
                return MUTATORS.contains(&name) && body.path(object).is_some();
            }
            let Op::Global(name) = body.op(*callee) else { return false };
            let Some(target) = scene.function_named(*name).filter(|_| depth < MAX_DEPTH) else {
                return false;
            };
            let inner = scene.body(target);
            inner.insts().any(|(_, op)| changes_state(scene, inner, op, depth + 1))
        }
        _ => false,
    }
}

/// `return json.loads(request["body"])`
fn parses_body(body: &Body<'_>, op: &Op) -> bool {
    let Op::Call { callee, args } = op else { return false };
    let parses = body.method(*callee).is_some_and(|(_, name)| name == "loads")
        || matches!(body.op(*callee), Op::Import(path) if body.name(*path) == "json.loads");
    let returned = body.order.iter().any(|block| match body.function.blocks[block.index()].terminator {
        Terminator::Return(value) => std::ptr::eq(body.op(value), op),
        _ => false,
    });
    parses && returned && args.first().is_some_and(|arg| is_part(body, arg.value, CONTENT))
}
