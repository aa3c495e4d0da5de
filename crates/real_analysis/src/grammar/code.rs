//! Python source. Digits and arithmetic are harmless, and so is one literal between quotes; letters can call something.

use super::{Verdict, scan};
use crate::text::{Checks, Hole, Mask, Text};

const ARITHMETIC: Mask = Mask::NUMBER.union(Mask::SPACE).union(Mask::ascii(b"*/%()<>=!&|^~,"));

/// Whether hostile content can become more than arithmetic.
pub(crate) fn judge(text: &Text) -> Option<Verdict> {
    scan(text, &(), &mut |(), _| (), &mut |(), hole| breaks(hole).then_some(0.95))
}

fn breaks(hole: Hole) -> bool {
    let literal = hole.checks.has(Checks::QUOTE_FIRST) && hole.checks.has(Checks::NO_QUOTE_INSIDE);
    !hole.mask.within(ARITHMETIC) && !hole.checks.has(Checks::TREE_CHECKED) && !literal
}

/// Whether hostile content can name any module or attribute.
pub(crate) fn judge_name(text: &Text) -> Option<Verdict> {
    scan(text, &(), &mut |(), _| (), &mut |(), hole| (!hole.mask.within(Mask::NUMBER)).then_some(0.7))
}

/// Whether a constant only computes or names something: nothing in it is called or imported.
pub(crate) fn is_harmless(text: &Text) -> bool {
    let calm = |text: &&str| {
        Mask::of(text).within(ARITHMETIC)
            || !(text.contains(['(', '@', ';', '\n']) || text.contains("import"))
    };
    text.as_constants().is_some_and(|texts| texts.iter().all(calm))
        || text.summary().checks.has(Checks::TREE_CHECKED)
        || text.summary().mask.within(ARITHMETIC)
}
