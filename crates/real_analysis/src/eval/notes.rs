//! What was done to hostile data on its way, and why that does not suffice.

use crate::text::{Checks, Hole, Mask, Segment, Text};

/// Characters that end something in some language, as a reader wants to see them.
const NOTABLE: &str = "'\"`<>;&|$\\/\n()*";

/// One sentence about the check or filter that was seen; `None` where there was none.
pub(super) fn insufficient(text: &Text, taint: u64) -> Option<String> {
    let hole = holes(text).into_iter().find(|hole| hole.taint & taint != 0)?;
    let known = [
        (Checks::SHELL_QUOTED, "it is quoted for a shell, but stands between quotes already"),
        (Checks::QUOTES_DOUBLED, "its quotes are doubled, but no single quotes stand around it"),
        (
            Checks::RESOLVED,
            "the path was made absolute, but not compared with the folder that it must stay in",
        ),
        (Checks::NO_PARENT, "`..` was ruled out, but an absolute path replaces the folder in front"),
        (Checks::RELATIVE, "absolute paths were ruled out, but `..` was not"),
        (Checks::HOST_CHECKED, "its host was checked, but more than the host matters here"),
        (Checks::SHORT, "its length is limited, but not what it contains"),
    ];
    let check =
        known.into_iter().find(|(check, _)| hole.checks.has(*check)).map(|(_, sentence)| sentence.to_owned());
    check.or_else(|| filtered(hole))
}

fn filtered(hole: Hole) -> Option<String> {
    if hole.mask == Mask::ANY {
        return None;
    }
    let left: Vec<String> = NOTABLE
        .chars()
        .filter(|character| hole.mask.has(*character))
        .map(|character| format!("`{}`", character.escape_debug()))
        .collect();
    Some(if left.is_empty() {
        "some characters were ruled out, but letters are enough here".to_owned()
    } else {
        format!("some characters were ruled out, but not {}", left.join(" "))
    })
}

fn holes(text: &Text) -> Vec<Hole> {
    let holes = text.alternatives().iter().flatten().flat_map(|segment| match segment {
        Segment::Hole(hole) => vec![*hole],
        Segment::Repeat(body) => holes(body),
        Segment::Text(_) => Vec::new(),
    });
    holes.collect()
}
