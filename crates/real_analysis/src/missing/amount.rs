//! A request says how much memory or time is taken, and nothing limits it (CWE-770).
//!
//! ```python
//! size = int(request.args["size"])
//! return Response("x" * size)          # a limit: min(size, 1000), or a comparison that size has to pass
//! ```

use super::{Body, Scene, report};
use crate::eval::Report;
use crate::ir::{ArgKind, BinaryOp, CompareOp, Constant, FunctionId, Op, ValueId};
use crate::rules::Weakness;

/// Functions whose first argument is an amount.
const TAKERS: &[&str] = &[
    "time.sleep",
    "asyncio.sleep",
    "os.urandom",
    "secrets.token_bytes",
    "secrets.token_hex",
    "secrets.token_urlsafe",
    "numpy.zeros",
    "numpy.ones",
    "numpy.empty",
    "random.randbytes",
];
/// Calls inside calls.
const MAX_DEPTH: u32 = 6;

pub(super) fn check(scene: &Scene<'_>, function: FunctionId, reports: &mut Vec<Report>) {
    let body = scene.body(function);
    for (id, op) in body.insts() {
        let amounts = amounts(body, op);
        let hostile = |amount: &ValueId| is_chosen(body, *amount, 0) && !is_limited(body, id, *amount);
        if amounts.iter().any(hostile) {
            let range = body.function.insts[id.index()].range;
            let message = format!("the request {}", Weakness::UnboundedAmount.consequence());
            reports.push(report(Weakness::UnboundedAmount, range, message, 0.65));
        }
    }
}

/// The values that say how much an instruction takes.
fn amounts(body: &Body<'_>, op: &Op) -> Vec<ValueId> {
    match op {
        Op::Binary { op: BinaryOp::Multiply, left, right } => {
            let is_unit = |value: ValueId| {
                matches!(
                    body.op(value),
                    Op::Constant(Constant::Str(_) | Constant::Bytes(_)) | Op::Sequence { .. }
                )
            };
            let sides = [(*left, *right), (*right, *left)];
            sides.into_iter().filter(|(unit, _)| is_unit(*unit)).map(|(_, amount)| amount).collect()
        }
        Op::Call { callee, args } => {
            let first = args.first().filter(|arg| arg.kind == ArgKind::Positional).map(|arg| arg.value);
            let takes = match body.builtin(*callee) {
                Some(name) => matches!(name, "bytearray" | "bytes"),
                None => body.import_path(*callee).is_some_and(|path| TAKERS.contains(&&*path)),
            };
            // `list(range(n))`
            let listed = first
                .filter(|_| matches!(body.builtin(*callee), Some("list" | "tuple" | "set")))
                .and_then(|range| match body.op(range) {
                    Op::Call { callee, args } if body.builtin(*callee) == Some("range") => {
                        Some(args.last()?.value)
                    }
                    _ => None,
                });
            first.filter(|_| takes).into_iter().chain(listed).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether a number is the request's: `int(request.args["n"])`, `request.args.get("n", type=int)`, `n: int` of a route.
fn is_chosen(body: &Body<'_>, value: ValueId, depth: u32) -> bool {
    if depth > MAX_DEPTH {
        return false;
    }
    let of_request = |value: ValueId| body.mentions(value, |part| is_request(body, part));
    match body.op(value) {
        Op::Param(index) => {
            let param = &body.function.params[*index as usize];
            let annotation = param.annotation.as_ref().map_or("", |annotation| &annotation.name);
            matches!(annotation, "int" | "float") && !body.is_receiver(*index)
        }
        Op::Call { callee, args } => match (body.builtin(*callee), body.method(*callee)) {
            (Some("max"), _) => args.iter().any(|arg| is_chosen(body, arg.value, depth + 1)),
            (Some("int" | "float" | "abs" | "round"), _) => {
                args.iter().any(|arg| of_request(arg.value) || is_chosen(body, arg.value, depth + 1))
            }
            (None, Some((object, "get"))) => {
                let is_number = args.iter().any(|arg| {
                    matches!(arg.kind, ArgKind::Keyword(name) if body.name(name) == "type")
                        && matches!(body.builtin(arg.value), Some("int" | "float"))
                });
                is_number && of_request(object)
            }
            _ => false,
        },
        Op::Binary { op: BinaryOp::Modulo, .. } => false,
        Op::Binary { left, right, .. } => {
            is_chosen(body, *left, depth + 1) || is_chosen(body, *right, depth + 1)
        }
        Op::Phi(values) => values.iter().any(|value| is_chosen(body, *value, depth + 1)),
        _ => false,
    }
}

fn is_request(body: &Body<'_>, value: ValueId) -> bool {
    match body.op(value) {
        Op::Param(index) => body.name(body.function.params[*index as usize].name) == "request",
        Op::Builtin(name) => body.name(*name) == "request",
        Op::Global(_) | Op::Import(_) | Op::Attribute { .. } => {
            body.import_path(value).is_some_and(|path| path.ends_with(".request"))
        }
        _ => false,
    }
}

/// Whether a condition on the way sets a limit. One that only asks for more than something sets none.
fn is_limited(body: &Body<'_>, id: ValueId, amount: ValueId) -> bool {
    body.control.all(body.block_of(id)).into_iter().any(|edge| {
        let Some(condition) = body.condition(edge) else { return false };
        let asks = |value: ValueId| {
            value == amount
                || body.mentions(amount, |part| part == value && !matches!(body.op(part), Op::Constant(_)))
        };
        match body.op(condition) {
            Op::Compare { op: CompareOp::Less | CompareOp::LessEqual, left, right } => {
                if edge.first {
                    asks(*left)
                } else {
                    asks(*right)
                }
            }
            Op::Compare { op: CompareOp::Greater | CompareOp::GreaterEqual, left, right } => {
                if edge.first {
                    asks(*right)
                } else {
                    asks(*left)
                }
            }
            _ => body.mentions(condition, asks),
        }
    })
}
