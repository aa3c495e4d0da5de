//! Regular expressions: what they let through, and how long they take.
//!
//! As a guard (`re.fullmatch`) a pattern tells what a text can contain; as an argument of `re.sub` it tells what is taken away,
//! when it matches single characters. Both questions are answered here from the syntax tree ([`syntax`]). How much a
//! backtracking matcher can be made to work is the question of [`backtracking`].

pub(crate) mod backtracking;
pub(crate) mod syntax;

use super::Mask;
use syntax::Node;

/// What is known of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one pattern")]
pub(crate) struct Pattern {
    /// Characters that a match can contain.
    pub(crate) mask: Mask,
    /// A match begins where the text begins.
    pub(crate) anchored_start: bool,
    /// A match ends where the text ends, or at a final line break.
    pub(crate) anchored_end: bool,
    /// `$`: a final line break may follow.
    pub(crate) final_newline: bool,
    /// The pattern is a run of one character class: replacing its matches removes these characters.
    pub(crate) class: Option<Mask>,
    /// The class holds every character beyond ASCII, not just some.
    pub(crate) class_has_all_others: bool,
}

/// Reads a pattern. `None`: it is beyond us.
pub(crate) fn parse(pattern: &str, ignore_case: bool) -> Option<Pattern> {
    let tree = syntax::parse(pattern, ignore_case)?;
    // `^a|b$` anchors only the outer branches.
    let items: &[Node] = match &tree {
        Node::Sequence(items) => items,
        _ => std::slice::from_ref(&tree),
    };
    let class = if items.len() == 1 { removed(&items[0]) } else { None };
    Some(Pattern {
        mask: mask_of(&tree),
        anchored_start: matches!(items.first(), Some(Node::Start)),
        anchored_end: matches!(items.last(), Some(Node::End | Node::FinalLine)),
        final_newline: matches!(items.last(), Some(Node::FinalLine)),
        class: class.map(|(mask, _)| mask),
        class_has_all_others: class.is_some_and(|(mask, negated)| negated && mask.has('\u{80}')),
    })
}

/// The characters of which none is left when all matches are taken away, and whether they are all but some.
fn removed(node: &Node) -> Option<(Mask, bool)> {
    match node {
        Node::Class { mask, negated } => Some((*mask, *negated)),
        Node::Repeat { body, min: 0 | 1, .. } => {
            removed(body).filter(|_| matches!(**body, Node::Class { .. }))
        }
        // Each branch that is one character takes this character away, whatever the others do.
        Node::Choice(branches) => {
            let single = branches.iter().filter_map(removed);
            single.reduce(|(a, all), (b, also)| (a.union(b), all && also))
        }
        _ => None,
    }
}

/// The characters that the expression consumes.
fn mask_of(node: &Node) -> Mask {
    match node {
        Node::Class { mask, .. } => *mask,
        Node::Sequence(items) | Node::Choice(items) => {
            items.iter().fold(Mask::NONE, |mask, item| mask.union(mask_of(item)))
        }
        Node::Repeat { body, .. } => mask_of(body),
        Node::Start | Node::End | Node::FinalLine | Node::Position => Mask::NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::{Mask, parse};

    #[test]
    fn masks_of_patterns() {
        let check = |pattern: &str, allowed: &str, refused: &str| {
            let mask = parse(pattern, false).unwrap_or_else(|| panic!("{pattern} is read")).mask;
            for character in allowed.chars() {
                assert!(mask.has(character), "{pattern} allows {character:?}");
            }
            for character in refused.chars() {
                assert!(!mask.has(character), "{pattern} refuses {character:?}");
            }
        };
        check("^[a-z]+$", "az", "A'; ");
        check(r"\d{1,3}(?:\.\d+)?", "09.", "a-");
        check(r"[\w.-]+@\w+", "aZ_.-@é", "' ;");
        check(r#"(?P<name>[^'\"]*)"#, "a;é", "'\"");
        check("a|b", "ab", "c");
        check(r"[]a]", "]a", "[");
    }

    #[test]
    fn anchors_and_classes() {
        let known = |pattern| parse(pattern, false).expect("the pattern is read");
        assert!(known("^a$").anchored_end && known("^a$").final_newline);
        assert!(known(r"a\Z").anchored_end && !known(r"a\Z").final_newline);
        assert!(!known(r"a\$").anchored_end);
        assert!(!known("^a|b$").anchored_end);
        assert_eq!(known("[^a-z]").class, Some(Mask::between('a', 'z').complement()));
        assert!(known("[^a-z]").class_has_all_others && !known(r"\W").class_has_all_others);
        assert_eq!(known("ab").class, None);
        assert_eq!(known("--|;|'|\\*").class, Some(Mask::of(";'*")));
        assert!(known("(?i)a").mask.has('A') && known("(?x) a b # c").mask == Mask::of("ab"));
        assert_eq!(parse("(a", false), None);
    }
}
