//! Which characters a regular expression lets through.
//!
//! Only two questions are asked. What can a text contain that the pattern matches as a whole (`re.fullmatch` as a guard)?
//! What does a pattern take away that matches single characters (`re.sub("[^a-z]", "", x)`)? The pattern is read by a small
//! recursive parser of Python's syntax; what it does not know, it takes to match anything.

use super::Mask;

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

const DEPTH: u32 = 50;

/// Reads a pattern. `None`: it is beyond us.
pub(crate) fn parse(pattern: &str, ignore_case: bool) -> Option<Pattern> {
    let mut reader = Reader { rest: pattern, ignore_case, dot_all: false, depth: 0 };
    let body = pattern.strip_prefix('^').or_else(|| pattern.strip_prefix("\\A"));
    let anchored_start = body.is_some();
    reader.rest = body.unwrap_or(pattern);
    let (body, end) = split_end(reader.rest);
    reader.rest = body;
    let items = reader.alternatives()?;
    if !reader.rest.is_empty() {
        return None;
    }
    // `^a|b$` anchors only the outer branches.
    let anchors_hold = items.branches == 1;
    let class = (items.branches == 1 && items.atoms == 1).then_some(items.single).flatten();
    Some(Pattern {
        mask: items.mask,
        anchored_start: anchored_start && anchors_hold,
        anchored_end: end != End::Open && anchors_hold,
        final_newline: end == End::Dollar,
        class: class.filter(|_| !anchored_start && end == End::Open),
        class_has_all_others: body.starts_with("[^") && class.is_some_and(|class| class.has('\u{80}')),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Open,
    Dollar,
    Absolute,
}

fn split_end(pattern: &str) -> (&str, End) {
    let escaped = |body: &str| body.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1;
    if let Some(body) = pattern.strip_suffix("\\Z").or_else(|| pattern.strip_suffix("\\z"))
        && !escaped(body)
    {
        return (body, End::Absolute);
    }
    match pattern.strip_suffix('$') {
        Some(body) if !escaped(body) => (body, End::Dollar),
        _ => (pattern, End::Open),
    }
}

struct Items {
    mask: Mask,
    branches: u32,
    atoms: u32,
    /// The class of the only atom.
    single: Option<Mask>,
}

struct Reader<'a> {
    rest: &'a str,
    ignore_case: bool,
    dot_all: bool,
    depth: u32,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.rest = &self.rest[character.len_utf8()..];
        Some(character)
    }

    fn eat(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn alternatives(&mut self) -> Option<Items> {
        let mut items = Items { mask: Mask::NONE, branches: 1, atoms: 0, single: None };
        while let Some(character) = self.peek() {
            match character {
                ')' => break,
                '|' => {
                    self.next();
                    items.branches += 1;
                }
                _ => {
                    let (mask, single) = self.atom()?;
                    self.quantifier();
                    items.mask = items.mask.union(mask);
                    items.atoms += 1;
                    items.single = single.then_some(mask);
                }
            }
        }
        Some(items)
    }

    /// The characters of an atom, and whether it is a single character.
    fn atom(&mut self) -> Option<(Mask, bool)> {
        let character = self.next()?;
        let mask = match character {
            '(' => return self.group(),
            '[' => self.class()?,
            '.' if self.dot_all => Mask::ANY,
            '.' => Mask::ANY.minus(Mask::char('\n')),
            '^' | '$' => return Some((Mask::NONE, false)),
            '\\' => match self.peek()? {
                // Positions match no character; a back reference repeats what the mask has already.
                'b' | 'B' | 'A' | 'Z' | 'z' | '1'..='9' => {
                    self.next();
                    return Some((Mask::NONE, false));
                }
                _ => self.escape()?,
            },
            literal => Mask::char(literal),
        };
        Some((if self.ignore_case { mask.both_cases() } else { mask }, true))
    }

    fn group(&mut self) -> Option<(Mask, bool)> {
        self.depth += 1;
        if self.depth > DEPTH {
            return None;
        }
        let mut counts = true;
        if self.eat("?") {
            if self.eat("P<")
                || (self.rest.starts_with('<')
                    && !self.rest.starts_with("<=")
                    && !self.rest.starts_with("<!"))
            {
                let end = self.rest.find('>')?;
                self.rest = &self.rest[end + 1..];
            } else if self.eat("=") || self.eat("!") || self.eat("<=") || self.eat("<!") {
                counts = false;
            } else if !(self.eat(":") || self.eat(">")) {
                return None;
            }
        }
        let items = self.alternatives()?;
        self.depth -= 1;
        if !self.eat(")") {
            return None;
        }
        Some((if counts { items.mask } else { Mask::NONE }, false))
    }

    fn class(&mut self) -> Option<Mask> {
        let negated = self.eat("^");
        let mut mask = Mask::NONE;
        let mut first = true;
        loop {
            let character = self.next()?;
            if character == ']' && !first {
                break;
            }
            first = false;
            let (low, low_mask) = self.class_member(character)?;
            if self.rest.starts_with('-') && !self.rest.starts_with("-]") && low.is_some() {
                self.next();
                let end = self.next()?;
                let (high, _) = self.class_member(end)?;
                mask = mask.union(Mask::between(low?, high?));
            } else {
                mask = mask.union(low_mask);
            }
        }
        if self.ignore_case {
            mask = mask.both_cases();
        }
        Some(if negated { mask.complement() } else { mask })
    }

    fn class_member(&mut self, character: char) -> Option<(Option<char>, Mask)> {
        if character != '\\' {
            return Some((Some(character), Mask::char(character)));
        }
        let single = self.peek().filter(|next| !next.is_ascii_alphabetic() || "nrtfvab0".contains(*next));
        let mask = self.escape()?;
        let literal = single.map(|character| match character {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'f' => '\x0c',
            'v' => '\x0b',
            'a' => '\x07',
            'b' => '\x08',
            '0' => '\0',
            other => other,
        });
        Some((literal, mask))
    }

    fn escape(&mut self) -> Option<Mask> {
        Some(match self.next()? {
            // Digits and spaces beyond ASCII are as harmless as those within.
            'd' => Mask::DIGITS,
            'D' => Mask::DIGITS.complement(),
            'w' => Mask::WORD.with_other(),
            'W' => Mask::WORD.complement(),
            's' => Mask::SPACE,
            'S' => Mask::SPACE.complement(),
            'n' => Mask::char('\n'),
            'r' => Mask::char('\r'),
            't' => Mask::char('\t'),
            'f' => Mask::char('\x0c'),
            'v' => Mask::char('\x0b'),
            'a' => Mask::char('\x07'),
            '0' => Mask::char('\0'),
            'x' => {
                let code = u32::from_str_radix(self.rest.get(..2)?, 16).ok()?;
                self.rest = &self.rest[2..];
                Mask::char(char::from_u32(code)?)
            }
            letter if letter.is_ascii_alphanumeric() => return None,
            other => Mask::char(other),
        })
    }

    fn quantifier(&mut self) {
        if matches!(self.peek(), Some('*' | '+' | '?')) {
            self.next();
        } else if self.rest.starts_with('{')
            && let Some(end) = self.rest.find('}')
            && self.rest[1..end].chars().all(|character| character.is_ascii_digit() || character == ',')
        {
            self.rest = &self.rest[end + 1..];
        }
        if matches!(self.peek(), Some('?' | '+')) {
            self.next();
        }
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
        assert_eq!(parse("(?i)a", false), None);
    }
}
