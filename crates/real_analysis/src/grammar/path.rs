//! Paths of files. A hole is dangerous when it can name another folder: it can contain a separator, and nothing has shown
//! that the whole path stays where it should.

use super::{Verdict, scan};
use crate::text::{Checks, Hole, Segment, Taint, Text};

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

/// Whether the whole path is the caller's: it names a file of its own, and there is no folder to leave.
///
/// What comes from `state`, the object that the caller uses, is a folder as good as a constant one.
pub(crate) fn is_named_by_caller(text: &Text, state: Taint) -> bool {
    let begins = |segments: &[Segment]| matches!(segments.first(), Some(Segment::Hole(hole)) if hole.taint & !state != 0);
    let tainted = |segments: &&Vec<Segment>| Text::from_alternatives(vec![(*segments).clone()]).taint() != 0;
    text.alternatives().iter().filter(tainted).all(|segments| begins(segments))
}
