//! A recursive parser of Python's regular expressions. What it does not know makes the whole pattern unknown.

use crate::text::Mask;

/// A part of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    /// One character of a set.
    Class {
        mask: Mask,
        /// Written as what it is not: it holds every character that it does not name.
        negated: bool,
    },
    Sequence(Vec<Node>),
    Choice(Vec<Node>),
    Repeat {
        body: Box<Node>,
        min: u32,
        /// `None`: without a limit.
        max: Option<u32>,
        /// Gives nothing back once it has matched.
        possessive: bool,
    },
    /// `^` at the beginning of the text.
    Start,
    /// `\Z`
    End,
    /// `$`: the end, or before a final line break.
    FinalLine,
    /// Any other position: `\b`, a look-around, a back reference, which consumes what was matched before.
    Position,
}

/// Groups inside groups.
const MAX_DEPTH: u32 = 50;

/// Reads a pattern. `None`: it is beyond us.
pub(crate) fn parse(pattern: &str, ignore_case: bool) -> Option<Node> {
    let mut reader = Reader { rest: pattern, ignore_case, dot_all: false, verbose: false, depth: 0 };
    let node = reader.choice()?;
    reader.rest.is_empty().then_some(node)
}

struct Reader<'a> {
    rest: &'a str,
    ignore_case: bool,
    dot_all: bool,
    verbose: bool,
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
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn choice(&mut self) -> Option<Node> {
        let mut branches = vec![self.sequence()?];
        while self.eat("|") {
            branches.push(self.sequence()?);
        }
        if branches.len() == 1 { branches.pop() } else { Some(Node::Choice(branches)) }
    }

    fn sequence(&mut self) -> Option<Node> {
        let mut items = Vec::new();
        loop {
            self.skip_spaces();
            match self.peek() {
                None | Some('|' | ')') => break,
                Some(_) => {}
            }
            // Flags change how the rest is read and are nothing themselves.
            let atom = self.atom()?;
            if atom != Node::Sequence(Vec::new()) {
                items.push(self.repeated(atom)?);
            }
        }
        if items.len() == 1 { items.pop() } else { Some(Node::Sequence(items)) }
    }

    /// In verbose patterns spaces and comments mean nothing.
    fn skip_spaces(&mut self) {
        while self.verbose && self.rest.starts_with(|next: char| next.is_ascii_whitespace() || next == '#') {
            let length =
                if self.rest.starts_with('#') { self.rest.find('\n').unwrap_or(self.rest.len()) } else { 1 };
            self.rest = &self.rest[length..];
        }
    }

    fn class_of(&self, mask: Mask, negated: bool) -> Node {
        Node::Class { mask: if self.ignore_case { mask.both_cases() } else { mask }, negated }
    }

    fn atom(&mut self) -> Option<Node> {
        Some(match self.next()? {
            '(' => return self.group(),
            '[' => self.class()?,
            '.' if self.dot_all => Node::Class { mask: Mask::ANY, negated: true },
            '.' => Node::Class { mask: Mask::ANY.minus(Mask::char('\n')), negated: true },
            '^' => Node::Start,
            '$' => Node::FinalLine,
            '\\' => match self.peek()? {
                'Z' | 'z' => self.position(Node::End),
                'A' => self.position(Node::Start),
                'b' | 'B' | '1'..='9' => self.position(Node::Position),
                letter => {
                    let mask = self.escape()?;
                    self.class_of(mask, matches!(letter, 'S' | 'D'))
                }
            },
            '*' | '+' | '?' => return None,
            literal => self.class_of(Mask::char(literal), false),
        })
    }

    fn position(&mut self, node: Node) -> Node {
        self.next();
        node
    }

    fn group(&mut self) -> Option<Node> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let (mut counts, mut atomic) = (true, false);
        if self.eat("?") {
            if self.eat("P=") {
                self.rest = &self.rest[self.rest.find(')')? + 1..];
                self.depth -= 1;
                return Some(Node::Position);
            }
            let named =
                self.rest.starts_with('<') && !self.rest.starts_with("<=") && !self.rest.starts_with("<!");
            if named || self.rest.starts_with("P<") {
                self.rest = &self.rest[self.rest.find('>')? + 1..];
            } else if self.eat("=") || self.eat("!") || self.eat("<=") || self.eat("<!") {
                counts = false;
            } else if self.eat(">") {
                atomic = true;
            } else if !self.eat(":") {
                self.depth -= 1;
                return self.flags().then(|| Node::Sequence(Vec::new()));
            }
        }
        let body = self.choice()?;
        self.depth -= 1;
        let group = match (counts, atomic) {
            (false, _) => Node::Position,
            (true, false) => body,
            (true, true) => Node::Repeat { body: Box::new(body), min: 1, max: Some(1), possessive: true },
        };
        self.eat(")").then_some(group)
    }

    /// `(?imsx)`, for the rest of the pattern.
    fn flags(&mut self) -> bool {
        loop {
            match self.next() {
                Some('i') => self.ignore_case = true,
                Some('s') => self.dot_all = true,
                Some('x') => self.verbose = true,
                Some('a' | 'u' | 'L') => {}
                Some(')') => return true,
                _ => return false,
            }
        }
    }

    fn class(&mut self) -> Option<Node> {
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
        let mask = if self.ignore_case { mask.both_cases() } else { mask };
        Some(Node::Class { mask: if negated { mask.complement() } else { mask }, negated })
    }

    fn class_member(&mut self, character: char) -> Option<(Option<char>, Mask)> {
        if character != '\\' {
            return Some((Some(character), Mask::char(character)));
        }
        let single = self.peek().filter(|next| !next.is_ascii_alphabetic() || "nrtfvab0".contains(*next));
        let mask = self.escape()?;
        Some((single.map(escaped), mask))
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
            'x' => self.code_point(2)?,
            'u' => self.code_point(4)?,
            letter @ ('n' | 'r' | 't' | 'f' | 'v' | 'a' | 'b' | '0') => Mask::char(escaped(letter)),
            letter if letter.is_ascii_alphanumeric() => return None,
            other => Mask::char(other),
        })
    }

    fn code_point(&mut self, digits: usize) -> Option<Mask> {
        let code = u32::from_str_radix(self.rest.get(..digits)?, 16).ok()?;
        self.rest = &self.rest[digits..];
        Some(Mask::char(char::from_u32(code)?))
    }

    fn repeated(&mut self, atom: Node) -> Option<Node> {
        let mut node = atom;
        loop {
            self.skip_spaces();
            let (min, max) = match self.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => match self.bounds() {
                    Some(bounds) => bounds,
                    None => return Some(node),
                },
                _ => return Some(node),
            };
            self.next();
            let possessive = self.eat("+");
            if !possessive {
                self.eat("?");
            }
            node = Node::Repeat { body: Box::new(node), min, max, possessive };
        }
    }

    /// `{2}`, `{2,}`, `{,3}`, `{2,3}`, up to but not including the closing brace. `None`: a brace that stands for itself.
    fn bounds(&mut self) -> Option<(u32, Option<u32>)> {
        let end = self.rest.find('}')?;
        let inside = &self.rest[1..end];
        let bounds = match inside.split_once(',') {
            None => (inside.parse().ok()?, Some(inside.parse().ok()?)),
            Some(("", "")) => return None,
            Some((min, "")) => (min.parse().ok()?, None),
            Some(("", max)) => (0, Some(max.parse().ok()?)),
            Some((min, max)) => (min.parse().ok()?, Some(max.parse().ok()?)),
        };
        self.rest = &self.rest[end..];
        Some(bounds)
    }
}

fn escaped(letter: char) -> char {
    match letter {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'f' => '\x0c',
        'v' => '\x0b',
        'a' => '\x07',
        'b' => '\x08',
        '0' => '\0',
        other => other,
    }
}
