//! Words for the slots of templates, and the filling of slots.
//!
//! `lexicon.txt` has one pool of words a line: `city: paris rome oslo`. A pool named `city.code` gives for each word of `city`, in
//! the same order, a word that belongs to it. In a text, with `place` bound to the second word of the pool `city` and
//! `limit` to `5`:
//!
//! | written | reads |
//! |---|---|
//! | `{{place}}` | `rome` |
//! | `{{place.code}}` | the second word of `city.code` |
//! | `{{limit+1}}`, `{{limit*3-1}}`, `{{9-limit*2}}` (from left to right) | `6`, `14`, `8` |
//! | `{{{place}}}` (a brace and a slot) | `{rome}` |
//! | `{{place[:2]}}`, `{{place[:limit]}}` | `ro`, `rome` |
//!
//! Templates and lexicon are part of the program, so a mistake in them is a bug and panics.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use rand::Rng;

static POOLS: LazyLock<BTreeMap<&str, Vec<&str>>> = LazyLock::new(|| {
    include_str!("lexicon.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once(": ").unwrap_or_else(|| panic!("lexicon: no pool in {line:?}")))
        .map(|(pool, words)| (pool, words.split_whitespace().collect()))
        .collect()
});

/// A slot and the pool that its words come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) pool: String,
}

impl Slot {
    /// `key=column` is a slot `key` with the words of the pool `column`; `column` alone is a slot of its pool's name.
    pub(super) fn parse(text: &str) -> Self {
        let (name, pool) = text.split_once('=').unwrap_or((text, text));
        Self { name: name.trim().to_owned(), pool: pool.trim().to_owned() }
    }

    /// How many words the slot can have.
    pub(super) fn len(&self) -> usize {
        pool(&self.pool).len()
    }
}

pub(super) fn pool(name: &str) -> &'static [&'static str] {
    POOLS.get(name).unwrap_or_else(|| panic!("lexicon: no pool {name:?}"))
}

/// Which word each slot has. No two slots have the same word of one pool.
#[derive(Debug, Clone, Default)]
pub(super) struct Bindings(BTreeMap<String, (String, usize)>);

impl Bindings {
    /// Binds the slot to a word by its place in the pool. Returns false, and binds nothing, where another slot has that word.
    pub(super) fn bind(&mut self, slot: &Slot, place: usize) -> bool {
        let bound = (slot.pool.clone(), place);
        let free = !self.0.values().any(|other| *other == bound);
        if free {
            self.0.insert(slot.name.clone(), bound);
        }
        free
    }

    /// Binds the slots to random words.
    pub(super) fn draw(&mut self, slots: &[Slot], rng: &mut impl Rng) {
        for slot in slots {
            while !self.bind(slot, rng.random_range(0..slot.len())) {}
        }
    }

    /// The text with its slots filled.
    pub(super) fn fill(&self, text: &str) -> String {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("{{") {
            let brace = usize::from(rest[start + 2..].starts_with('{'));
            let (before, slot) = rest.split_at(start + brace);
            let (expression, after) =
                slot[2..].split_once("}}").unwrap_or_else(|| panic!("an open slot in {text:?}"));
            filled.push_str(before);
            filled.push_str(&self.evaluate(expression));
            rest = after;
        }
        filled + rest
    }

    fn evaluate(&self, expression: &str) -> String {
        if let Some((name, end)) = expression.split_once("[:") {
            let end = self.number(end.trim_end_matches(']'));
            return self.word(name).chars().take(end.max(0) as usize).collect();
        }
        match expression.rfind(['+', '-', '*']) {
            None => self.word(expression).to_owned(),
            Some(_) => self.number(expression).to_string(),
        }
    }

    fn number(&self, expression: &str) -> i64 {
        let Some(operator) = expression.rfind(['+', '-', '*']) else {
            let is_literal = expression.starts_with(|c: char| c.is_ascii_digit());
            let digits = if is_literal { expression } else { self.word(expression) };
            return digits.parse().unwrap_or_else(|_| panic!("{expression:?} is no number"));
        };
        let left = self.number(&expression[..operator]);
        let right = self.number(&expression[operator + 1..]);
        match &expression[operator..=operator] {
            "+" => left + right,
            "-" => left - right,
            _ => left * right,
        }
    }

    fn word(&self, name: &str) -> &'static str {
        let (slot, aligned) = name.split_once('.').map_or((name, None), |(slot, of)| (slot, Some(of)));
        let (pool_name, place) = self.0.get(slot).unwrap_or_else(|| panic!("no slot {slot:?}"));
        match aligned {
            Some(of) => pool(&format!("{pool_name}.{of}"))[*place],
            None => pool(pool_name)[*place],
        }
    }
}

/// `key=city table=orders`, in alphabetic order.
impl fmt::Display for Bindings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for slot in self.0.keys() {
            write!(f, "{slot}={} ", self.word(slot))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_pools_have_the_length_of_their_pool_and_words_are_unique() {
        for (name, words) in &*POOLS {
            if let Some((of, _)) = name.split_once('.') {
                assert_eq!(words.len(), pool(of).len(), "{name}");
            } else {
                let mut unique = words.clone();
                unique.sort_unstable();
                unique.dedup();
                assert_eq!(unique.len(), words.len(), "{name} has a word twice");
            }
        }
    }

    #[test]
    fn slots_are_filled() {
        let mut bindings = Bindings::default();
        let slot = Slot::parse("limit=factor");
        assert!(bindings.bind(&slot, 0));
        assert!(!bindings.bind(&Slot::parse("other=factor"), 0), "one word, two slots");
        let two: i64 = pool("factor")[0].parse().unwrap();
        assert_eq!(
            bindings.fill("a {{limit}} {{limit+1}} {{limit*3-1}} {{9-limit*2}} {{{limit}}}"),
            format!("a {two} {} {} {} {{{two}}}", two + 1, two * 3 - 1, (9 - two) * 2)
        );
    }
}
