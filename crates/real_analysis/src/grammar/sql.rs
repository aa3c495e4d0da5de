//! SQL. A hole between quotes is dangerous when it can contain the quote; a bare hole when it can be more than a number or,
//! where a name stands, more than a name.
//!
//! ```text
//! SELECT * FROM t WHERE name = '⟨a⟩' AND age > ⟨b⟩ ORDER BY ⟨c⟩
//!                               quoted          a value       a name
//! ```
//!
//! A word of letters in the place of a value is a column: `WHERE id = id` is true of every row.

use super::{Verdict, scan};
use crate::text::{Checks, Hole, Mask, Text};

#[derive(Clone, PartialEq)]
struct State {
    quote: Quote,
    /// The last word or operator outside quotes, in lower case.
    last: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Quote {
    Bare,
    In(char),
    Line,
    Block,
}

const NUMBER: Mask = Mask::NUMBER.union(Mask::ascii(b" "));
const NAME: Mask = Mask::WORD.union(Mask::ascii(b".+- ")).with_other();

/// Whether hostile content can leave its place in a statement.
pub(crate) fn judge(text: &Text) -> Option<Verdict> {
    let start = State { quote: Quote::Bare, last: String::new() };
    scan(text, &start, &mut advance, &mut |state, hole| breaks(state, hole))
}

fn breaks(state: &mut State, hole: Hole) -> Option<f32> {
    let dangerous = match state.quote {
        Quote::In('\'') if hole.checks.has(Checks::QUOTES_DOUBLED) => false,
        Quote::In(quote) => hole.mask.has(quote),
        Quote::Line => hole.mask.has('\n'),
        Quote::Block => hole.mask.has('*') && hole.mask.has('/'),
        Quote::Bare if expects_value(&state.last) => !hole.mask.within(NUMBER),
        Quote::Bare => !hole.mask.within(NAME),
    };
    if state.quote == Quote::Bare {
        "hole".clone_into(&mut state.last);
    }
    dangerous.then_some(0.95)
}

fn expects_value(last: &str) -> bool {
    let operator = last.ends_with(['=', '<', '>', '(', ',', '+', '-', '*', '/', '|']);
    operator
        || matches!(
            last,
            "like" | "between" | "in" | "and" | "or" | "not" | "where" | "limit" | "offset" | "values" | "is"
        )
}

fn advance(state: &mut State, text: &str) {
    let mut characters = text.chars().peekable();
    let mut word = String::new();
    while let Some(character) = characters.next() {
        match state.quote {
            Quote::In(quote) => {
                if character == quote && characters.peek() != Some(&quote) {
                    state.quote = Quote::Bare;
                    "value".clone_into(&mut state.last);
                } else if character == quote {
                    characters.next();
                }
                continue;
            }
            Quote::Line => {
                if character == '\n' {
                    state.quote = Quote::Bare;
                }
                continue;
            }
            Quote::Block => {
                if character == '*' && characters.next_if_eq(&'/').is_some() {
                    state.quote = Quote::Bare;
                }
                continue;
            }
            Quote::Bare => {}
        }
        if character.is_alphanumeric() || character == '_' {
            word.extend(character.to_lowercase());
            continue;
        }
        if !word.is_empty() {
            state.last = std::mem::take(&mut word);
        }
        match character {
            '\'' | '"' | '`' => state.quote = Quote::In(character),
            '-' if characters.next_if_eq(&'-').is_some() => state.quote = Quote::Line,
            '/' if characters.next_if_eq(&'*').is_some() => state.quote = Quote::Block,
            space if space.is_whitespace() => {}
            other => state.last = other.to_string(),
        }
    }
    if !word.is_empty() {
        state.last = word;
    }
}

/// Whether the constant parts begin like a statement.
pub(crate) fn looks_like(text: &Text) -> bool {
    text.alternatives().iter().any(|alternative| {
        let start = match alternative.first() {
            Some(crate::text::Segment::Text(text)) => text.trim_start().to_ascii_lowercase(),
            _ => return false,
        };
        let has = |first: &str, later: &str| start.starts_with(first) && start.contains(later);
        has("select ", " from ")
            || has("insert ", "into ")
            || has("update ", " set ")
            || has("delete ", "from ")
    })
}
