//! Uploaded files that are kept under a name of the client's choice without a look at what they are.
//!
//! ```python
//! upload = request.files["photo"]
//! upload.save(os.path.join(FOLDER, secure_filename(upload.filename)))     # photo.php, shell.py, page.html
//! ```
//!
//! Some condition on the way to `save` has to depend on the file's name or type by more than its presence: a comparison with
//! constants, `endswith`, membership, or a function that is asked about it.

use super::{Scene, report};
use crate::eval::Report;
use crate::ir::{CompareOp, Constant, FunctionId, Op, ValueId};
use crate::missing::Body;
use crate::rules::Weakness;

pub(super) fn check(scene: &Scene<'_>, function: FunctionId, reports: &mut Vec<Report>) {
    if scene.module.symbols.lookup("files").is_none() {
        return;
    }
    let body = scene.body(function);
    for (id, op) in body.insts() {
        let Op::Call { callee, args } = op else { continue };
        let Some((file, "save")) = body.method(*callee) else { continue };
        let uploaded = body.mentions(file, |value| is_attribute(scene, body, value, &["files"]));
        let names = |value: ValueId| is_attribute(scene, body, value, &["filename", "name"]);
        let named = args.first().is_some_and(|arg| body.mentions(arg.value, names));
        let typed = |value: ValueId| {
            is_attribute(scene, body, value, &["filename", "name", "content_type", "mimetype"])
        };
        let block = body.function.insts[id.index()].block;
        let judged = body.control.all(block).into_iter().any(|edge| {
            body.condition(edge)
                .is_some_and(|condition| is_judgement(body, condition) && body.mentions(condition, typed))
        });
        if uploaded && named && !judged {
            let range = body.function.insts[id.index()].range;
            let message = Weakness::UncheckedUpload.consequence().to_owned();
            reports.push(report(Weakness::UncheckedUpload, range, message, 0.6));
        }
    }
}

fn is_attribute(scene: &Scene<'_>, body: &Body<'_>, value: ValueId, names: &[&str]) -> bool {
    matches!(body.op(value), Op::Attribute { name, .. } if names.contains(&scene.name(*name)))
}

/// Whether a condition asks for more than that something is there.
fn is_judgement(body: &Body<'_>, condition: ValueId) -> bool {
    match body.op(condition) {
        Op::Compare { op: CompareOp::Equal | CompareOp::NotEqual, right, .. } => {
            !matches!(body.op(*right), Op::Constant(Constant::Str(text)) if text.is_empty())
        }
        Op::Compare { .. } | Op::Call { .. } => true,
        Op::Unary { operand, .. } => is_judgement(body, *operand),
        Op::Phi(operands) => operands.iter().any(|operand| is_judgement(body, *operand)),
        _ => false,
    }
}
