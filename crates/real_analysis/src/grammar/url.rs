//! URLs. What matters is who decides the host: a constant `https://host/` before the hole does, a leading `/` that no second
//! one can follow does for a redirect, and so does a check of the host.

use super::Verdict;
use crate::text::{Checks, Hole, Mask, Segment, Text};

/// What the URL is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Redirect,
    Fetch,
}

/// Whether hostile content can decide the host.
pub(crate) fn judge(text: &Text, purpose: Purpose) -> Option<Verdict> {
    let mut taint = 0;
    for alternative in text.alternatives() {
        taint |= host_taint(alternative, purpose);
    }
    Verdict::of(taint, 0.85)
}

fn host_taint(segments: &[Segment], purpose: Purpose) -> u64 {
    let mut before = String::new();
    for (index, segment) in segments.iter().enumerate() {
        match segment {
            Segment::Hole(hole) if is_label(*hole, &before, segments.get(index + 1)) => before.push('h'),
            Segment::Text(text) => before.push_str(text),
            Segment::Hole(hole) => {
                if fixes_host(&before, purpose) {
                    return 0;
                }
                if decides(*hole, &before, purpose) {
                    return hole.taint;
                }
                before.push('h');
            }
            Segment::Repeat(body) => return body.taint(),
        }
    }
    0
}

/// `https://⟨name⟩.example.com/`: a hole that can only be a part of a name, in front of the rest of the name.
fn is_label(hole: Hole, before: &str, after: Option<&Segment>) -> bool {
    let in_host = before.split_once("://").is_some_and(|(_, rest)| !rest.contains('/'));
    let named = matches!(after, Some(Segment::Text(text)) if text.starts_with('.') && text.trim_end_matches('/').len() > 3);
    in_host && named && hole.mask.within(Mask::WORD.union(Mask::ascii(b"-.")).with_other())
}

fn fixes_host(before: &str, purpose: Purpose) -> bool {
    // Behind the path there is nothing that leads elsewhere.
    if before.contains(['?', '#']) {
        return true;
    }
    match before.split_once("://") {
        Some((_, rest)) => rest.contains(['/', '?', '#']),
        None if purpose == Purpose::Redirect => {
            let mut characters = before.chars();
            characters.next() == Some('/')
                && characters.next().is_some_and(|second| second != '/' && second != '\\')
        }
        None => false,
    }
}

fn decides(hole: Hole, before: &str, purpose: Purpose) -> bool {
    // A URL that the program itself has signed is one of its own.
    if hole.taint == 0 || hole.checks.has(Checks::HOST_CHECKED) || hole.checks.has(Checks::AUTHENTIC) {
        return false;
    }
    if before.is_empty() {
        // A path of this site. (`/\\` leads away, too, in browsers; who rules out `//` is believed to mean it.)
        if hole.checks.has(Checks::ROOTED.with(Checks::NO_DOUBLE_SLASH)) && purpose == Purpose::Redirect {
            return false;
        }
        // Another site needs `//` or a scheme.
        return hole.mask.has('/') || hole.mask.has(':') || hole.mask.has('\\');
    }
    if before == "/" {
        return hole.mask.intersects(Mask::ascii(b"/\\")) && !hole.checks.has(Checks::RELATIVE);
    }
    true
}
