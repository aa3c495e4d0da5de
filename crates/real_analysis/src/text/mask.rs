//! Sets of characters: one bit for each ASCII character, and one for all others.

/// The characters that a text may contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Mask {
    ascii: u128,
    other: bool,
}

const fn range(first: u8, last: u8) -> u128 {
    let mut bits = 0;
    let mut at = first;
    while at <= last {
        bits |= 1 << at;
        at += 1;
    }
    bits
}

const fn of_bytes(bytes: &[u8]) -> u128 {
    let mut bits = 0;
    let mut at = 0;
    while at < bytes.len() {
        bits |= 1 << bytes[at];
        at += 1;
    }
    bits
}

impl Mask {
    pub(crate) const NONE: Self = Self { ascii: 0, other: false };
    pub(crate) const ANY: Self = Self { ascii: u128::MAX, other: true };
    pub(crate) const DIGITS: Self = Self { ascii: range(b'0', b'9'), other: false };
    pub(crate) const LETTERS: Self = Self { ascii: range(b'a', b'z') | range(b'A', b'Z'), other: false };
    pub(crate) const ALNUM: Self = Self { ascii: Self::LETTERS.ascii | Self::DIGITS.ascii, other: false };
    pub(crate) const WORD: Self = Self { ascii: Self::ALNUM.ascii | 1 << b'_', other: false };
    pub(crate) const SPACE: Self = Self { ascii: of_bytes(b" \t\n\r\x0b\x0c"), other: false };
    /// What the text of a number consists of, `inf`, `nan`, `True`, `False` and `None` aside.
    pub(crate) const NUMBER: Self = Self { ascii: Self::DIGITS.ascii | of_bytes(b"+-.eE"), other: false };
    pub(crate) const HEX: Self =
        Self { ascii: Self::DIGITS.ascii | range(b'a', b'f') | range(b'A', b'F'), other: false };

    pub(crate) const fn ascii(bytes: &[u8]) -> Self {
        Self { ascii: of_bytes(bytes), other: false }
    }

    pub(crate) fn of(text: &str) -> Self {
        text.chars().fold(Self::NONE, |mask, character| mask.union(Self::char(character)))
    }

    pub(crate) fn char(character: char) -> Self {
        if character.is_ascii() {
            Self { ascii: 1 << character as u32, other: false }
        } else {
            Self { ascii: 0, other: true }
        }
    }

    pub(crate) fn between(first: char, last: char) -> Self {
        let other = !last.is_ascii();
        if !first.is_ascii() {
            return Self { ascii: 0, other };
        }
        let end = if other { 127 } else { last as u8 };
        if first as u8 > end { Self::NONE } else { Self { ascii: range_checked(first as u8, end), other } }
    }

    pub(crate) const fn union(self, rhs: Self) -> Self {
        Self { ascii: self.ascii | rhs.ascii, other: self.other | rhs.other }
    }

    pub(crate) const fn intersect(self, rhs: Self) -> Self {
        Self { ascii: self.ascii & rhs.ascii, other: self.other & rhs.other }
    }

    pub(crate) const fn complement(self) -> Self {
        Self { ascii: !self.ascii, other: !self.other }
    }

    /// Without the characters of `rhs`. "All others" is one bit, so only ASCII characters can be taken away.
    pub(crate) const fn minus(self, rhs: Self) -> Self {
        Self { ascii: self.ascii & !rhs.ascii, other: self.other }
    }

    /// Without the characters of `rhs`, "all others" included.
    pub(crate) const fn minus_all(self, rhs: Self) -> Self {
        self.intersect(rhs.complement())
    }

    pub(crate) const fn with_other(self) -> Self {
        Self { ascii: self.ascii, other: true }
    }

    pub(crate) const fn intersects(self, rhs: Self) -> bool {
        self.ascii & rhs.ascii != 0 || (self.other && rhs.other)
    }

    pub(crate) const fn within(self, rhs: Self) -> bool {
        self.ascii & !rhs.ascii == 0 && (!self.other || rhs.other)
    }

    pub(crate) fn has(self, character: char) -> bool {
        self.intersects(Self::char(character))
    }

    /// With the other case of every letter.
    pub(crate) fn both_cases(self) -> Self {
        let lower = self.ascii & range(b'a', b'z');
        let upper = self.ascii & range(b'A', b'Z');
        Self { ascii: self.ascii | lower >> 32 | upper << 32, other: self.other }
    }
}

fn range_checked(first: u8, last: u8) -> u128 {
    (first..=last).fold(0, |bits, at| bits | 1 << at)
}
