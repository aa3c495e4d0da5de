//! Query languages beside SQL: an `XPath` expression, a filter of an LDAP directory, a formula of a spreadsheet. A hole between
//! quotes is dangerous when it can contain the quote; a bare one when it can be more than a word.

use super::{Verdict, scan};
use crate::text::{Alternative, Mask, Segment, Text};

/// Whether hostile content can leave its place in an `XPath` expression.
pub(crate) fn judge_xpath(text: &Text) -> Option<Verdict> {
    let bare = Mask::WORD.union(Mask::ascii(b"-. ")).with_other();
    scan(text, &None, &mut advance, &mut |quote, hole| {
        let dangerous = quote.map_or(!hole.mask.within(bare), |quote| hole.mask.has(quote));
        dangerous.then_some(0.9)
    })
}

fn advance(quote: &mut Option<char>, text: &str) {
    for character in text.chars() {
        match *quote {
            None if matches!(character, '\'' | '"') => *quote = Some(character),
            Some(open) if open == character => *quote = None,
            _ => {}
        }
    }
}

/// Whether hostile content can add a condition to an LDAP filter.
pub(crate) fn judge_ldap(text: &Text) -> Option<Verdict> {
    let special = Mask::ascii(b"*()");
    scan(text, &(), &mut |(), _| (), &mut |(), hole| hole.mask.intersects(special).then_some(0.9))
}

/// Whether hostile content can name another entry of a directory than the text around it says.
pub(crate) fn judge_dn(text: &Text) -> Option<Verdict> {
    let special = Mask::ascii(b",+=");
    scan(text, &(), &mut |(), _| (), &mut |(), hole| hole.mask.intersects(special).then_some(0.85))
}

/// Whether hostile content begins a cell of a table with what a spreadsheet takes for a formula. Behind a constant text it begins none.
pub(crate) fn judge_cell(text: &Text) -> Option<Verdict> {
    let begins = |alternative: &Alternative| match alternative.first() {
        Some(Segment::Hole(hole)) if hole.mask.has('=') => hole.taint,
        Some(Segment::Repeat(part)) if part.summary().mask.has('=') => part.taint(),
        _ => 0,
    };
    Verdict::of(text.alternatives().iter().fold(0, |taint, alternative| taint | begins(alternative)), 1.0)
}

/// Whether the constant parts begin like a filter: `(uid=`, `(&(objectclass=`.
pub(crate) fn looks_like_filter(text: &Text) -> bool {
    text.alternatives().iter().any(|alternative| match alternative.first() {
        Some(Segment::Text(start)) => {
            let name = start.trim_start_matches(['(', '&', '|', '!']);
            let length = name.find(|next: char| !next.is_ascii_alphanumeric()).unwrap_or(name.len());
            start.starts_with('(') && length > 0 && name[length..].starts_with(['=', '~', '>', '<'])
        }
        _ => false,
    })
}
