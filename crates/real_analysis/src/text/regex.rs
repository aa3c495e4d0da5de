//! Regular expressions: what they let through, and how long they take.
//!
//! As a guard (`re.fullmatch`) a pattern tells what a text can contain; as an argument of `re.sub` it tells what is taken away,
//! when it matches single characters. Both questions are answered here from the syntax tree ([`syntax`]). How much a
//! backtracking matcher can be made to work is the question of [`backtracking`].

pub(crate) mod backtracking;
pub(crate) mod syntax;

use super::{Checks, Mask};
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

/// What every text that begins with a match of the pattern is, or, as a `whole`, every match; and which texts match, if few do.
pub(crate) fn shape(pattern: &str, whole: bool) -> Option<(Checks, Option<Vec<String>>)> {
    let tree = syntax::parse(pattern, false)?;
    let items = [tree.clone()];
    let (first, may_be_empty) = first_of(&items);
    let mut checks = Checks::NONE;
    if first == Mask::char('/') && !may_be_empty {
        let after = if whole { Mask::NONE } else { Mask::ANY };
        let leads_away = second_of(&items, after, 0).intersects(Mask::ascii(b"/\\"));
        checks = if leads_away { Checks::ROOTED } else { Checks::ROOTED.with(Checks::NO_DOUBLE_SLASH) };
    }
    let mut start = String::new();
    constant_start(&items, &mut start);
    if start.starts_with("http://") || start.starts_with("https://") {
        checks = checks.with(Checks::WEB_URL);
    }
    if start.split_once("://").is_some_and(|(_, rest)| rest.contains('/')) {
        checks = checks.with(Checks::HOST_CHECKED);
    }
    Some((checks, texts_of(&tree)))
}

/// The characters that a group of a pattern, by its number or name, can hold.
pub(crate) fn group(pattern: &str, wanted: &str) -> Option<Mask> {
    let mut open: Vec<(usize, Option<usize>)> = Vec::new();
    let (mut number, mut in_class, mut skip) = (0, false, false);
    let flags: String = pattern.strip_prefix("(?").and_then(|rest| rest.split_once(')')).map_or_else(
        String::new,
        |(flags, _)| {
            if flags.chars().all(|flag| flag.is_ascii_lowercase()) {
                format!("(?{flags})")
            } else {
                String::new()
            }
        },
    );
    for (at, character) in pattern.char_indices() {
        if std::mem::take(&mut skip) {
            continue;
        }
        match character {
            '\\' => skip = true,
            '[' if !in_class => in_class = true,
            ']' if in_class => in_class = false,
            '(' if !in_class => {
                let rest = &pattern[at + 1..];
                let named = rest.strip_prefix("?P<").and_then(|rest| rest.split_once('>'));
                let captures = named.is_some() || !rest.starts_with('?');
                number += usize::from(captures);
                let is_wanted = captures
                    && (wanted == number.to_string() || named.is_some_and(|(name, _)| name == wanted));
                open.push((at, is_wanted.then(|| at + named.map_or(1, |(name, _)| name.len() + 5))));
            }
            ')' if !in_class => {
                if let Some((_, Some(start))) = open.pop() {
                    let body = syntax::parse(&format!("{flags}{}", &pattern[start..at]), false)?;
                    return Some(mask_of(&body));
                }
            }
            _ => {}
        }
    }
    None
}

/// More texts than these are not told apart.
const MAX_TEXTS: usize = 32;
/// Parts of a pattern that are looked at for its beginning.
const MAX_STEPS: u32 = 40;

/// The texts that match, where there are few.
fn texts_of(node: &Node) -> Option<Vec<String>> {
    let texts = match node {
        Node::Class { mask, .. } => {
            let all: Vec<char> =
                (0..128u8).map(char::from).filter(|character| mask.has(*character)).collect();
            let few = all.len() <= MAX_TEXTS && !mask.has('\u{80}');
            few.then(|| all.into_iter().map(String::from).collect())?
        }
        Node::Sequence(items) => items.iter().try_fold(vec![String::new()], |before, item| {
            let next = texts_of(item)?;
            let few = before.len() * next.len() <= MAX_TEXTS;
            few.then(|| before.iter().flat_map(|a| next.iter().map(move |b| format!("{a}{b}"))).collect())
        })?,
        Node::Choice(branches) => {
            let all: Option<Vec<Vec<String>>> = branches.iter().map(texts_of).collect();
            all?.concat()
        }
        Node::Repeat { body, min: 0, max: Some(1), .. } => {
            let mut texts = texts_of(body)?;
            texts.push(String::new());
            texts
        }
        Node::Start | Node::End | Node::FinalLine => vec![String::new()],
        Node::Repeat { .. } | Node::Position => return None,
    };
    (texts.len() <= MAX_TEXTS).then_some(texts)
}

/// The characters that a match can begin with, and whether it can be empty.
fn first_of(items: &[Node]) -> (Mask, bool) {
    let mut mask = Mask::NONE;
    for item in items {
        let (first, may_be_empty) = match item {
            Node::Class { mask, .. } => (*mask, false),
            Node::Sequence(items) => first_of(items),
            Node::Choice(branches) => branches
                .iter()
                .map(|branch| first_of(std::slice::from_ref(branch)))
                .fold((Mask::NONE, false), |(mask, empty), (first, may_be_empty)| {
                    (mask.union(first), empty || may_be_empty)
                }),
            Node::Repeat { body, min, .. } => {
                let (first, may_be_empty) = first_of(std::slice::from_ref(body));
                (first, may_be_empty || *min == 0)
            }
            Node::Start | Node::End | Node::FinalLine | Node::Position => (Mask::NONE, true),
        };
        mask = mask.union(first);
        if !may_be_empty {
            return (mask, false);
        }
    }
    (mask, true)
}

/// The characters that can come second in a match, with those that can come `after` it.
fn second_of(items: &[Node], after: Mask, steps: u32) -> Mask {
    let Some((item, rest)) = items.split_first() else { return after };
    if steps > MAX_STEPS {
        return Mask::ANY;
    }
    let before = |parts: &[Node]| second_of(&[parts, rest].concat(), after, steps + 1);
    match item {
        Node::Class { .. } => match first_of(rest) {
            (first, true) => first.union(after),
            (first, false) => first,
        },
        Node::Sequence(parts) => before(parts),
        Node::Choice(branches) => {
            branches.iter().fold(Mask::NONE, |mask, branch| mask.union(before(std::slice::from_ref(branch))))
        }
        Node::Repeat { body, min, max, possessive } => {
            let body_once = (**body).clone();
            let again = Node::Repeat { body: body.clone(), min: 0, max: *max, possessive: *possessive };
            let once = if *max == Some(1) { before(&[body_once]) } else { before(&[body_once, again]) };
            if *min == 0 { once.union(second_of(rest, after, steps + 1)) } else { once }
        }
        Node::Start | Node::End | Node::FinalLine | Node::Position => second_of(rest, after, steps + 1),
    }
}

/// The constant text that every match begins with; what may be there or not is taken as absent. Whether it goes on.
fn constant_start(items: &[Node], start: &mut String) -> bool {
    items.iter().all(|item| match item {
        Node::Class { .. } => match texts_of(item).as_deref() {
            Some([only]) => {
                start.push_str(only);
                true
            }
            _ => false,
        },
        Node::Sequence(items) => constant_start(items, start),
        Node::Repeat { body, min: 0, max: Some(1), .. } => {
            texts_of(body).as_deref() == Some(&["s".to_owned()])
        }
        Node::Start => true,
        _ => false,
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
    use super::{Checks, Mask, group, parse, shape};

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
    fn shapes_of_patterns() {
        let checks = |pattern| shape(pattern, true).expect("the pattern is read").0;
        let begins = |pattern| shape(pattern, false).expect("the pattern is read").0;
        let own_site = Checks::ROOTED.with(Checks::NO_DOUBLE_SLASH);
        for pattern in ["/[a-z]+(/[a-z]+)*", "/$", "/(home|about)?"] {
            assert!(checks(pattern).has(own_site), "{pattern}");
        }
        assert!(begins("/[a-z]+").has(own_site) && !begins("/(home|about)?").has(own_site));
        assert!(
            !checks("/.*").has(own_site)
                && !checks("/[a-z]*/x").has(own_site)
                && !checks("/?x").has(own_site)
        );
        assert!(checks(r"https?://www\.example\.com/.*").has(Checks::HOST_CHECKED.with(Checks::WEB_URL)));
        assert!(!checks(r"https://www\.example\.com.*").has(Checks::HOST_CHECKED));
        assert!(!checks(r"https://www.example\.com/").has(Checks::HOST_CHECKED));
        let texts = shape("(a|b)c?", true).expect("the pattern is read").1.expect("few texts match");
        assert_eq!(texts, ["ac", "a", "bc", "b"]);
        assert_eq!(shape("a+", true).expect("the pattern is read").1, None);
    }

    #[test]
    fn masks_of_groups() {
        assert_eq!(group(r"([a-z]+):(.+)", "1"), Some(Mask::between('a', 'z')));
        assert_eq!(group(r"(?P<num>\d+)-(?P<rest>[(x]*)", "num"), Some(Mask::DIGITS));
        assert_eq!(group(r"(?:a)(?P<num>\d+)-(?P<rest>[(x]*)", "2"), Some(Mask::of("(x")));
        assert_eq!(group("(?i)(a)", "1"), Some(Mask::of("aA")));
        assert_eq!(group("(a)", "2"), None);
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
