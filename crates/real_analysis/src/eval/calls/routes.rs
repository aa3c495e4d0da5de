//! The parts of a route's path, and what the framework lets through for each.
//!
//! ```text
//! /user/<int:id>/<any(red, blue):color>     Flask
//! /user/<slug:name>/  (?P<year>[0-9]{4})    Django
//! /tag/<tag:re:[a-z]+>                      Bottle
//! /item/{id:int}/{name:[a-z]+}              Starlette, aiohttp, Falcon, Pyramid
//! ```

use crate::facts::Refinement;
use crate::text::{Mask, regex};

/// The named parts of a route that cannot be any text.
pub(super) fn parts(route: &str) -> Vec<(&str, Refinement)> {
    let mut parts = Vec::new();
    for (at, open) in route.char_indices().filter(|(_, character)| matches!(character, '<' | '{')) {
        let close = if open == '<' { '>' } else { '}' };
        let Some(inside) = matching(&route[at + 1..], open, close) else { continue };
        if route[..at].ends_with("(?P") {
            let body = matching(&route[at + 2 + inside.len()..], '(', ')');
            parts.extend(body.and_then(pattern).map(|proof| (inside, proof)));
            continue;
        }
        let Some((one, other)) = split(inside) else { continue };
        let declared = converter(one).filter(|_| is_name(other)).map(|proof| (other, proof));
        let declared =
            declared.or_else(|| converter(other).or_else(|| pattern(other)).map(|proof| (one, proof)));
        parts.extend(declared);
    }
    parts
}

fn is_name(text: &str) -> bool {
    text.chars().all(|next| next.is_alphanumeric() || next == '_')
}

/// At the first colon that is not inside of brackets: `any(a:b, c):name`.
fn split(inside: &str) -> Option<(&str, &str)> {
    let mut depth = 0;
    for (at, character) in inside.char_indices() {
        match character {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ':' if depth == 0 => return Some((&inside[..at], &inside[at + 1..])),
            _ => {}
        }
    }
    None
}

/// What is before the bracket that closes one that was opened.
fn matching(text: &str, open: char, close: char) -> Option<&str> {
    let mut depth = 1;
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        match character {
            '\\' => escaped = true,
            _ if character == close => depth -= 1,
            _ if character == open => depth += 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&text[..at]);
        }
    }
    None
}

/// A converter that a framework knows by name.
fn converter(kind: &str) -> Option<Refinement> {
    if let Some(texts) = kind.strip_prefix("any(").and_then(|rest| rest.strip_suffix(')')) {
        return Some(Refinement::constants(
            texts.split(',').map(|text| text.trim().trim_matches(['\'', '"'])),
        ));
    }
    match kind.split('(').next()? {
        "int" | "float" | "uuid" | "number" => Some(Refinement::number()),
        "slug" => Some(Refinement::mask(Mask::WORD.union(Mask::char('-')))),
        _ => None,
    }
}

/// A regular expression in the place of a converter.
fn pattern(text: &str) -> Option<Refinement> {
    let text = text.strip_prefix("re:").unwrap_or(text);
    let special = text.contains(['[', '\\', '(', '+', '*', '|']);
    Some(Refinement::mask(regex::parse(text, false).filter(|_| special)?.mask))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_routes() {
        let masks = |route| -> Vec<(&str, Mask)> {
            parts(route).into_iter().map(|(name, proof)| (name, proof.mask)).collect()
        };
        let lower = Mask::between('a', 'z');
        assert_eq!(masks("/a/<name>/{other}/<path:rest>/{rest:path}"), []);
        assert_eq!(masks("/<int:n>"), [("n", Mask::NUMBER)]);
        assert_eq!(masks("/{n:int}/x"), [("n", Mask::NUMBER)]);
        assert_eq!(masks("/<kind:re:[a-z]+>"), [("kind", lower)]);
        assert_eq!(masks("/{kind:[a-z]{2,3}}/{x}"), [("kind", lower)]);
        assert_eq!(masks("/<any(ab, ba):word>"), [("word", Mask::of("ab"))]);
        assert_eq!(masks(r"^(?P<kind>[a-z]+)/$"), [("kind", lower)]);
        assert_eq!(masks("/<slug:s>"), [("s", Mask::WORD.union(Mask::char('-')))]);
    }
}
