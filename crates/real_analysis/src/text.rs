//! Shaped strings: what the text of a value may look like.
//!
//! A boolean "tainted" cannot tell `x` from `re.sub(r'\W', '', x)`, nor a hole between quotes from a bare one. So a text is a
//! small set of alternatives; each is a sequence of constant segments and holes; and each hole knows where its content
//! comes from and which characters it can hold. After
//!
//! ```python
//! name = re.sub(r"[';]", "", input())
//! query = f"SELECT * FROM users WHERE name = '{name}'"
//! if admin:
//!     query += " AND admin"
//! ```
//!
//! `query` is `SELECT … '⟨input, all but ' and ;⟩'` or the same with ` AND admin`. A sink reads the constant segments with the
//! grammar of SQL, learns that the hole stands between single quotes, and sees that no character in it can end them.
//!
//! A loop that appends to a text makes it a prefix and a [`Segment::Repeat`]: the appended parts, any number of times.

pub(crate) mod mask;
pub(crate) mod regex;

use std::cell::OnceCell;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use rustc_hash::FxHasher;

pub(crate) use mask::Mask;

/// More alternatives than these become one hole.
const MAX_ALTERNATIVES: usize = 32;
/// More segments than these become one hole.
const MAX_SEGMENTS: usize = 64;

/// Where the content of a hole comes from: one bit a source of the program; the last bit stands for all beyond.
pub(crate) type Taint = u64;

/// Properties of a hole that no set of characters expresses. They hold for every content that the hole can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Checks(pub(crate) u32);

impl Checks {
    pub(crate) const NONE: Self = Self(0);
    /// Every `'` is doubled.
    pub(crate) const QUOTES_DOUBLED: Self = Self(1);
    /// One word for a POSIX shell, where it stands bare.
    pub(crate) const SHELL_QUOTED: Self = Self(2);
    /// A path that was resolved and lies under a trusted folder.
    pub(crate) const CONFINED: Self = Self(4);
    /// A URL whose host was compared with trusted ones.
    pub(crate) const HOST_CHECKED: Self = Self(8);
    /// Source code whose syntax tree was searched for calls.
    pub(crate) const TREE_CHECKED: Self = Self(16);
    /// A path without `..` and without links.
    pub(crate) const RESOLVED: Self = Self(32);
    /// A path without `..`.
    pub(crate) const NO_PARENT: Self = Self(64);
    /// A path that does not begin at the root.
    pub(crate) const RELATIVE: Self = Self(256);
    /// Authentic: compared with a secret's signature.
    pub(crate) const AUTHENTIC: Self = Self(128);
    /// A text of limited length.
    pub(crate) const SHORT: Self = Self(512);
    /// So short that not even exponential work on it is much.
    pub(crate) const TINY: Self = Self(1 << 20);
    /// Every character stands for itself in a regular expression.
    pub(crate) const REGEX_ESCAPED: Self = Self(1024);

    /// It begins with a quote.
    pub(crate) const QUOTE_FIRST: Self = Self(2048);
    /// Where it holds a line break, that is its last character.
    pub(crate) const ONE_LINE: Self = Self(8192);
    /// It begins with `/`.
    pub(crate) const ROOTED: Self = Self(16384);
    /// It does not begin with `//`.
    pub(crate) const NO_DOUBLE_SLASH: Self = Self(32768);
    /// Between its first and last character there is no quote.
    pub(crate) const NO_QUOTE_INSIDE: Self = Self(4096);
    /// JSON: a literal of JavaScript and of YAML.
    pub(crate) const JSON: Self = Self(1 << 16);
    /// Every backslash is doubled.
    pub(crate) const BACKSLASHES_DOUBLED: Self = Self(1 << 18);
    /// A text, where it could also be a mapping.
    pub(crate) const IS_TEXT: Self = Self(1 << 19);
    /// It begins with `http://` or `https://`.
    pub(crate) const WEB_URL: Self = Self(1 << 17);

    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub(crate) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Content that is not constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Hole {
    pub(crate) taint: Taint,
    pub(crate) mask: Mask,
    pub(crate) checks: Checks,
}

impl Hole {
    pub(crate) fn clean(mask: Mask) -> Self {
        Self { taint: 0, mask, checks: Checks::NONE }
    }

    pub(crate) fn tainted(taint: Taint) -> Self {
        Self { taint, mask: Mask::ANY, checks: Checks::NONE }
    }

    pub(crate) fn join(self, other: Self) -> Self {
        let checks = match (self.taint, other.taint) {
            (0, _) => other.checks,
            (_, 0) => self.checks,
            _ => Checks(self.checks.0 & other.checks.0),
        };
        Self { taint: self.taint | other.taint, mask: self.mask.union(other.mask), checks }
    }
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Segment {
    Text(Rc<str>),
    Hole(Hole),
    /// Any of the alternatives, any number of times.
    Repeat(Text),
}

/// One form of a text.
pub(crate) type Alternative = Vec<Segment>;

/// What a text may look like.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Text(Rc<Shape>);

#[derive(Debug, Clone)]
struct Shape {
    alternatives: Vec<Alternative>,
    /// That of all holes.
    taint: Taint,
    /// Computed when it is first asked for.
    summary: OnceCell<Hole>,
    /// The same: a text is asked for its hash in every call that it is given to.
    hash: OnceCell<u64>,
}

// The rest of a shape follows from its alternatives.
impl PartialEq for Shape {
    fn eq(&self, other: &Self) -> bool {
        self.taint == other.taint && self.alternatives == other.alternatives
    }
}

impl Eq for Shape {}

impl Hash for Shape {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let hash = self.hash.get_or_init(|| {
            let mut hasher = FxHasher::default();
            self.alternatives.hash(&mut hasher);
            hasher.finish()
        });
        state.write_u64(*hash);
    }
}

thread_local! {
    // The commonest texts are made once.
    static UNKNOWN: Text = Text::hole(Hole::clean(Mask::ANY));
    static NUMBER: Text = Text::hole(Hole::clean(Mask::NUMBER));
    static EMPTY: Text = Text::of(vec![Vec::new()]);
}

impl Text {
    pub(crate) fn constant(text: impl Into<Rc<str>>) -> Self {
        let text = text.into();
        if text.is_empty() { EMPTY.with(Self::clone) } else { Self::of(vec![vec![Segment::Text(text)]]) }
    }

    pub(crate) fn hole(hole: Hole) -> Self {
        Self::of(vec![vec![Segment::Hole(hole)]])
    }

    pub(crate) fn unknown() -> Self {
        UNKNOWN.with(Self::clone)
    }

    pub(crate) fn tainted(taint: Taint) -> Self {
        Self::hole(Hole::tainted(taint))
    }

    /// The text of a number.
    pub(crate) fn number() -> Self {
        NUMBER.with(Self::clone)
    }

    pub(crate) fn of_constants<'a>(constants: impl IntoIterator<Item = &'a str>) -> Self {
        let mut alternatives: Vec<Alternative> = Vec::new();
        for constant in constants {
            let alternative = vec![Segment::Text(constant.into())];
            if !alternatives.contains(&alternative) {
                alternatives.push(alternative);
            }
        }
        Self::from_alternatives(alternatives)
    }

    pub(crate) fn from_alternatives(alternatives: Vec<Alternative>) -> Self {
        let text = Self::of(alternatives);
        if text.alternatives().len() > MAX_ALTERNATIVES
            || text.alternatives().iter().any(|segments| segments.len() > MAX_SEGMENTS)
        {
            return Self::hole(text.summary());
        }
        text
    }

    pub(crate) fn alternatives(&self) -> &[Alternative] {
        &self.0.alternatives
    }

    fn of(alternatives: Vec<Alternative>) -> Self {
        let taint = alternatives.iter().flatten().fold(0, |taint, segment| {
            taint
                | match segment {
                    Segment::Text(_) => 0,
                    Segment::Hole(hole) => hole.taint,
                    Segment::Repeat(text) => text.taint(),
                }
        });
        Self(Rc::new(Shape { alternatives, taint, summary: OnceCell::new(), hash: OnceCell::new() }))
    }

    /// The constant that this text is.
    pub(crate) fn as_constant(&self) -> Option<&str> {
        match self.alternatives() {
            [alternative] => constant_of(alternative),
            _ => None,
        }
    }

    /// All forms, when every one is constant.
    pub(crate) fn as_constants(&self) -> Option<Vec<&str>> {
        self.alternatives().iter().map(|alternative| constant_of(alternative)).collect()
    }

    pub(crate) fn taint(&self) -> Taint {
        self.0.taint
    }

    /// Everything in one hole.
    pub(crate) fn summary(&self) -> Hole {
        *self.0.summary.get_or_init(|| self.summarized())
    }

    fn summarized(&self) -> Hole {
        let mut summary = Hole::clean(Mask::NONE);
        for segment in self.alternatives().iter().flatten() {
            let hole = match segment {
                Segment::Text(text) => Hole::clean(Mask::of(text)),
                Segment::Hole(hole) => *hole,
                Segment::Repeat(text) => text.summary(),
            };
            summary = summary.join(hole);
        }
        let whole = self.alternatives().iter().all(|alternative| alternative.len() <= 1);
        if !whole {
            summary.checks = Checks::NONE;
        }
        summary
    }

    /// Whether every hole with hostile content has passed a check.
    pub(crate) fn is_checked(&self, check: Checks) -> bool {
        self.alternatives().iter().flatten().all(|segment| match segment {
            Segment::Text(_) => true,
            Segment::Hole(hole) => hole.taint == 0 || hole.checks.has(check),
            Segment::Repeat(body) => body.is_checked(check),
        })
    }

    /// Calls `change` on every hole and `constant` on every constant segment.
    pub(crate) fn map(&self, change: &impl Fn(Hole) -> Hole, constant: &impl Fn(&str) -> String) -> Self {
        let segment = |segment: &Segment| match segment {
            Segment::Text(text) => Segment::Text(constant(text).into()),
            Segment::Hole(hole) => Segment::Hole(change(*hole)),
            Segment::Repeat(text) => Segment::Repeat(text.map(change, constant)),
        };
        Self::of(
            self.alternatives().iter().map(|alternative| alternative.iter().map(segment).collect()).collect(),
        )
    }

    pub(crate) fn map_holes(&self, change: impl Fn(Hole) -> Hole) -> Self {
        self.map(&change, &str::to_owned)
    }

    /// One after the other.
    pub(crate) fn concat(&self, other: &Self) -> Self {
        if self.alternatives().len() * other.alternatives().len() > MAX_ALTERNATIVES {
            let (wide, narrow) = if self.alternatives().len() > other.alternatives().len() {
                (self, other)
            } else {
                (other, self)
            };
            let collapsed = Self::hole(wide.summary());
            let narrow = if narrow.alternatives().len() > MAX_ALTERNATIVES {
                Self::hole(narrow.summary())
            } else {
                narrow.clone()
            };
            let wide_first = std::ptr::eq(wide, self);
            return if wide_first { collapsed.concat(&narrow) } else { narrow.concat(&collapsed) };
        }
        let mut alternatives = Vec::with_capacity(self.alternatives().len() * other.alternatives().len());
        for left in self.alternatives() {
            for right in other.alternatives() {
                alternatives.push(concat_segments(left, right));
            }
        }
        Self::from_alternatives(alternatives)
    }

    /// Either of the two.
    pub(crate) fn join(&self, other: &Self) -> Self {
        if self == other {
            return self.clone();
        }
        let mut alternatives = self.alternatives().to_vec();
        for alternative in other.alternatives() {
            if !alternatives.contains(alternative) {
                alternatives.push(alternative.clone());
            }
        }
        let holes = |alternative: &Alternative| matches!(alternative[..], [Segment::Hole(_)]);
        if alternatives.iter().filter(|alternative| holes(alternative)).count() > 1 {
            alternatives = merge_holes(alternatives);
        }
        Self::from_alternatives(alternatives)
    }

    /// What a loop makes of a text: `next` is the text after one more round. Where it extends the text, the extension repeats.
    pub(crate) fn widen(&self, next: &Self) -> Self {
        let mut alternatives = self.alternatives().to_vec();
        for candidate in
            next.alternatives().iter().filter(|candidate| !self.alternatives().contains(candidate))
        {
            let base = alternatives.iter().position(|known| extends(candidate, known));
            match base {
                Some(base) => {
                    let known = alternatives[base].clone();
                    alternatives[base] = repeat(&known, candidate[stem(&known)..].to_vec());
                }
                None => alternatives.push(candidate.clone()),
            }
        }
        if alternatives.len() > 4 {
            return Self::hole(Self::of(alternatives).summary());
        }
        Self::from_alternatives(alternatives)
    }
}

fn constant_of(alternative: &[Segment]) -> Option<&str> {
    match alternative {
        [] => Some(""),
        [Segment::Text(text)] => Some(text),
        _ => None,
    }
}

fn concat_segments(left: &[Segment], right: &[Segment]) -> Alternative {
    let mut all = left.to_vec();
    match (all.last_mut(), right.first()) {
        (Some(Segment::Text(end)), Some(Segment::Text(start))) => {
            *end = format!("{end}{start}").into();
            all.extend_from_slice(&right[1..]);
        }
        _ => all.extend_from_slice(right),
    }
    all
}

fn merge_holes(alternatives: Vec<Alternative>) -> Vec<Alternative> {
    let mut merged: Option<Hole> = None;
    let mut rest = Vec::new();
    for alternative in alternatives {
        match alternative[..] {
            [Segment::Hole(hole)] => merged = Some(merged.map_or(hole, |known| known.join(hole))),
            _ => rest.push(alternative),
        }
    }
    rest.extend(merged.map(|hole| vec![Segment::Hole(hole)]));
    rest
}

/// Length of an alternative without its final repetition.
fn stem(alternative: &[Segment]) -> usize {
    match alternative.last() {
        Some(Segment::Repeat(_)) => alternative.len() - 1,
        _ => alternative.len(),
    }
}

fn extends(candidate: &[Segment], known: &[Segment]) -> bool {
    let length = stem(known);
    if length == 0 || candidate.len() < length {
        return length == 0;
    }
    let whole = candidate[..length - 1] == known[..length - 1];
    whole
        && match (&candidate[length - 1], &known[length - 1]) {
            // Constant segments merge when texts are concatenated: the last one may only have grown.
            (Segment::Text(grown), Segment::Text(before)) => grown.starts_with(&**before),
            (grown, before) => grown == before,
        }
}

/// `known` followed by any number of what `tail` adds to it.
fn repeat(known: &[Segment], tail: Alternative) -> Alternative {
    let length = stem(known);
    let mut body: Vec<Alternative> = match known.last() {
        Some(Segment::Repeat(body)) => body.alternatives().to_vec(),
        _ => Vec::new(),
    };
    let tail: Alternative =
        tail.into_iter().filter(|segment| !matches!(segment, Segment::Repeat(_))).collect();
    if !tail.is_empty() && !body.contains(&tail) {
        body.push(tail);
    }
    let mut alternative = known[..length].to_vec();
    alternative.push(Segment::Repeat(Text::from_alternatives(body)));
    alternative
}
