//! Comparisons that take the longer the more is right: `==` on a signature.
//!
//! ```python
//! expected = hmac.new(KEY, body, "sha256").hexdigest()
//! if request.headers["X-Signature"] == expected:      # stops at the first wrong character
//! ```
//!
//! Whoever can send many guesses learns the signature character by character; `hmac.compare_digest` takes the same time for all.

use crate::eval::Report;
use crate::ir::{CompareOp, Constant, FunctionId, Module, Op, ValueId};
use crate::missing::Body;
use crate::rules::Weakness;

/// Operations through which a signature stays one.
const MAX_STEPS: u32 = 6;

/// The reports about every function of the program.
pub(crate) fn reports(module: &Module) -> Vec<Report> {
    // Nothing can be found without the module that makes signatures.
    if module.symbols.lookup("hmac").is_none() && module.symbols.lookup("hmac.new").is_none() {
        return Vec::new();
    }
    let first = module.trusted_functions;
    let functions = (0..module.functions.len() as u32).filter(|index| *index == 0 || *index >= first);
    functions.flat_map(|index| comparisons(&Body::of(module, FunctionId(index)))).collect()
}

fn comparisons(body: &Body<'_>) -> Vec<Report> {
    let found = body.insts().filter(|(_, op)| match op {
        Op::Compare { op: CompareOp::Equal | CompareOp::NotEqual, left, right } => {
            let fixed =
                |value: ValueId| matches!(body.op(value), Op::Constant(Constant::None | Constant::Str(_)));
            (is_signature(body, *left, 0) && !fixed(*right))
                || (is_signature(body, *right, 0) && !fixed(*left))
        }
        _ => false,
    });
    let report = |(id, _): (ValueId, &Op)| Report {
        weakness: Weakness::TimedComparison,
        range: body.function.insts[id.index()].range,
        message: Weakness::TimedComparison.consequence().to_owned(),
        confidence: 0.6,
        flow: Vec::new(),
        guard: None,
    };
    found.map(report).collect()
}

/// Whether a value is what `hmac` computed, in any notation.
fn is_signature(body: &Body<'_>, value: ValueId, depth: u32) -> bool {
    if depth > MAX_STEPS {
        return false;
    }
    match body.op(value) {
        Op::Call { callee, args } => {
            let path = body.import_path(*callee).unwrap_or_default();
            let is_mac = matches!(&*path, "hmac.new" | "hmac.digest" | "hmac.HMAC");
            let encodes = path.starts_with("base64.") || path.starts_with("binascii.");
            let of_argument =
                encodes && args.first().is_some_and(|arg| is_signature(body, arg.value, depth + 1));
            let of_receiver = body.method(*callee).is_some_and(|(object, name)| {
                matches!(name, "hexdigest" | "digest" | "decode" | "encode" | "strip" | "lower" | "upper")
                    && is_signature(body, object, depth + 1)
            });
            is_mac || of_argument || of_receiver
        }
        Op::Format(_) | Op::Binary { .. } | Op::Phi(_) => {
            let mut any = false;
            body.op(value).operands(|operand| any |= is_signature(body, operand, depth + 1));
            any
        }
        _ => false,
    }
}
