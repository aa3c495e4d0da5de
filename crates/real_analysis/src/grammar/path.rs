//! Paths of files. A hole is dangerous when it can name another folder: it can contain a separator, and nothing has shown
//! that the whole path stays where it should.

use super::{Verdict, scan};
use crate::text::{Alternative, Checks, Hole, Segment, Taint, Text};

/// Whether hostile content can lead to another folder.
pub(crate) fn judge(text: &Text) -> Option<Verdict> {
    scan(text, &false, &mut |after_text, _| *after_text = true, &mut |after_text, hole| {
        let dangerous = leaves(hole, *after_text);
        *after_text = true;
        dangerous.then_some(0.85)
    })
}

fn leaves(hole: Hole, after_text: bool) -> bool {
    if hole.checks.has(Checks::CONFINED) || !hole.mask.has('/') {
        return false;
    }
    // Without `..`, and appended to a folder or not beginning at the root, a path can only go down.
    let down_only = hole.checks.has(Checks::NO_PARENT) && (after_text || hole.checks.has(Checks::RELATIVE));
    !down_only
}

/// What a caller can lead out of a folder. A path that is all his own leaves none: `open(path)`. But behind a folder, be it the
/// program's or another parameter (`folders` are the origins of these), a name should stay in it: `os.path.join(folder, name)`.
///
/// What comes from `state`, the object that the caller uses, is a folder as good as a constant one.
pub(crate) fn judge_of_caller(text: &Text, folders: Taint, state: Taint) -> Option<Verdict> {
    let in_folder = |segments: &Alternative| {
        let first = match segments.first() {
            Some(Segment::Hole(hole)) => hole.taint & !state,
            _ => 0,
        };
        let taint = Text::from_alternatives(vec![segments.clone()]).taint();
        taint & !folders != 0 && first & !folders == 0
    };
    if !text.alternatives().iter().any(in_folder) {
        return None;
    }
    let verdict = judge(&text.map_holes(|hole| Hole { taint: hole.taint & !folders, ..hole }))?;
    (verdict.taint & !state != 0).then_some(verdict)
}
