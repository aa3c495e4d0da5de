//! How much work a pattern can make for a backtracking matcher.
//!
//! Such a matcher tries every way in which the pattern can have matched, until one leads to the end. If a text can be read
//! in several ways inside a loop, then n rounds of it can be read in 2ⁿ ways; if what one loop reads another can read as
//! well, in n ways or more. It takes a text that the rest of the pattern then refuses, and all of them are tried.
//!
//! ```text
//! (a+)+$     aa = one round of two, or two rounds of one        2ⁿ
//! <.*?>      n times <, the match begun at each of them          n²
//! ```
//!
//! The pattern becomes an automaton whose states are its characters (Glushkov 1961): after character p may follow q, in as many
//! ways as the pattern has. It is exponentially ambiguous when a state can be reached from itself over one text in two ways
//! (Weber and Seidl 1991): either an edge of a cycle exists twice, or in the product of the automaton with itself a pair of
//! different states lies on a cycle with a pair of equal ones. Limited repetitions count as two rounds: enough to be
//! ambiguous inside another loop, and harmless alone.

use super::syntax::{Node, parse};
use crate::text::Mask;

/// More characters than these are not looked at.
const MAX_STATES: usize = 60;

/// How the work grows with the length of the text, at worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Linear,
    Polynomial,
    Exponential,
}

/// How a pattern is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `match`: at the beginning of the text.
    Beginning,
    /// `fullmatch`
    Whole,
    /// `search`, `findall`, `sub`: anywhere.
    Anywhere,
}

/// The work of a pattern. `None`: the pattern is beyond us.
pub(crate) fn work(pattern: &str, mode: Mode) -> Option<Work> {
    let tree = parse(pattern, false)?;
    let mut automaton = Automaton { anchored: mode == Mode::Whole, ..Automaton::default() };
    if mode == Mode::Anywhere && !starts_at_start(&tree) {
        automaton.search();
    }
    let ends = automaton.add(&tree)?;
    automaton.connect_search(&ends);
    automaton.accepting = ends.last;
    Some(if automaton.is_exponential() {
        Work::Exponential
    } else if automaton.is_polynomial() {
        Work::Polynomial
    } else {
        Work::Linear
    })
}

fn starts_at_start(node: &Node) -> bool {
    match node {
        Node::Start => true,
        Node::Sequence(items) => items.first().is_some_and(starts_at_start),
        Node::Choice(branches) => branches.iter().all(starts_at_start),
        _ => false,
    }
}

/// The states in which a part begins and ends, and whether it can be empty.
struct Ends {
    first: Vec<usize>,
    last: Vec<usize>,
    empty: bool,
}

#[derive(Default)]
struct Automaton {
    /// The characters that lead into each state.
    states: Vec<Mask>,
    /// What may follow each state, once for every way.
    follow: Vec<Vec<usize>>,
    accepting: Vec<usize>,
    /// The match must reach the end of the text.
    anchored: bool,
    /// The first state is a loop over everything in front of the pattern.
    searches: bool,
}

impl Automaton {
    fn state(&mut self, mask: Mask) -> usize {
        self.states.push(mask);
        self.follow.push(Vec::new());
        self.states.len() - 1
    }

    /// The match may begin anywhere.
    fn search(&mut self) {
        self.searches = true;
        let skipped = self.state(Mask::ANY);
        self.follow[skipped].push(skipped);
    }

    fn connect_search(&mut self, ends: &Ends) {
        if self.searches {
            self.follow[0].extend(&ends.first);
        }
    }

    /// Adds the states of a part. `None`: there are too many.
    fn add(&mut self, node: &Node) -> Option<Ends> {
        if self.states.len() > MAX_STATES {
            return None;
        }
        Some(match node {
            Node::Class { mask, .. } => {
                let state = self.state(*mask);
                Ends { first: vec![state], last: vec![state], empty: false }
            }
            Node::End | Node::FinalLine => {
                self.anchored = true;
                Ends { first: Vec::new(), last: Vec::new(), empty: true }
            }
            Node::Start | Node::Position => Ends { first: Vec::new(), last: Vec::new(), empty: true },
            Node::Sequence(items) => self.sequence(items.iter())?,
            Node::Choice(branches) => {
                let mut all = Ends { first: Vec::new(), last: Vec::new(), empty: false };
                for branch in branches {
                    let ends = self.add(branch)?;
                    all.first.extend(ends.first);
                    all.last.extend(ends.last);
                    all.empty |= ends.empty;
                }
                all
            }
            // What gives nothing back is read in one way.
            Node::Repeat { possessive: true, .. } => {
                let state = self.state(Mask::NONE);
                Ends { first: vec![state], last: vec![state], empty: true }
            }
            Node::Repeat { body, min, max, .. } => self.repeat(body, *min, *max)?,
        })
    }

    fn sequence<'n>(&mut self, items: impl Iterator<Item = &'n Node>) -> Option<Ends> {
        let mut all = Ends { first: Vec::new(), last: Vec::new(), empty: true };
        for item in items {
            let ends = self.add(item)?;
            self.link(&all.last, &ends.first);
            if all.empty {
                all.first.extend(&ends.first);
            }
            if !ends.empty {
                all.last.clear();
            }
            all.last.extend(ends.last);
            all.empty &= ends.empty;
        }
        Some(all)
    }

    fn repeat(&mut self, body: &Node, min: u32, max: Option<u32>) -> Option<Ends> {
        let Some(max) = max else {
            let ends = self.add(body)?;
            self.link(&ends.last, &ends.first);
            return Some(Ends { empty: ends.empty || min == 0, ..ends });
        };
        let mut all = Ends { first: Vec::new(), last: Vec::new(), empty: true };
        for round in 0..max.min(2) {
            let ends = self.add(body)?;
            self.link(&all.last, &ends.first);
            if all.empty {
                all.first.extend(&ends.first);
            }
            let optional = ends.empty || round >= min;
            if !optional {
                all.last.clear();
            }
            all.last.extend(ends.last);
            all.empty &= optional;
        }
        Some(all)
    }

    fn link(&mut self, from: &[usize], to: &[usize]) {
        for state in from {
            self.follow[*state].extend(to);
        }
    }

    /// Whether reading can go wrong after a state: something must follow, or the text must end.
    fn can_fail_after(&self, state: usize) -> bool {
        self.anchored || !self.accepting.contains(&state)
    }

    fn is_exponential(&self) -> bool {
        let components = components(self.states.len(), |state| self.follow[state].clone());
        let twice = (0..self.states.len()).filter(|state| self.can_fail_after(*state)).any(|from| {
            let inner = self.follow[from].iter().filter(|to| components[**to] == components[from]);
            inner.clone().any(|to| inner.clone().filter(|other| *other == to).count() > 1)
        });
        twice || self.has_ambiguous_pairs(&components)
    }

    /// Whether a pair of different states lies on a cycle with a pair of equal ones.
    fn has_ambiguous_pairs(&self, components: &[usize]) -> bool {
        let count = self.states.len();
        let same = |from: usize, to: usize| components[from] == components[to];
        let steps = |pair: usize| {
            let (a, b) = (pair / count, pair % count);
            let mut next = Vec::new();
            for left in self.follow[a].iter().filter(|left| same(a, **left)) {
                for right in self.follow[b].iter().filter(|right| same(b, **right) && same(a, **right)) {
                    if self.states[*left].intersects(self.states[*right]) {
                        next.push(left * count + right);
                    }
                }
            }
            next
        };
        let pairs = self::components(count * count, steps);
        let equal: Vec<usize> = (0..count)
            .filter(|state| self.can_fail_after(*state))
            .map(|state| pairs[state * count + state])
            .collect();
        (0..count * count).any(|pair| pair / count != pair % count && equal.contains(&pairs[pair]))
    }

    /// Whether what one loop reads a later one can read as well.
    fn is_polynomial(&self) -> bool {
        let loops: Vec<usize> =
            (0..self.states.len()).filter(|state| self.follow[*state].contains(state)).collect();
        // A search may begin anywhere. That counts where the pattern goes on with almost any character.
        loops.iter().any(|first| {
            let later = loops.iter().filter(|later| {
                let counts = !self.is_search(*first) || self.is_broad(**later);
                *later != first && self.can_fail_after(**later) && counts
            });
            later.into_iter().any(|later| self.overlap(*first, *later))
        })
    }

    /// The loop over everything in front of the pattern.
    fn is_search(&self, state: usize) -> bool {
        state == 0 && self.searches
    }

    fn is_broad(&self, state: usize) -> bool {
        Mask::ALNUM.union(Mask::char(' ')).with_other().within(self.states[state])
    }

    /// Whether one text can be read by staying in `first`, by going from it to `later`, and by staying in `later`.
    fn overlap(&self, first: usize, later: usize) -> bool {
        let common = self.states[first].intersect(self.states[later]);
        let mut seen = vec![false; self.states.len()];
        let mut pending = vec![first];
        while let Some(state) = pending.pop() {
            for next in &self.follow[state] {
                if *next == later && common != Mask::NONE {
                    return true;
                }
                if self.states[*next].intersects(common) && !std::mem::replace(&mut seen[*next], true) {
                    pending.push(*next);
                }
            }
        }
        false
    }
}

/// The strongly connected component of each node of a graph (Tarjan 1972, without recursion).
fn components(count: usize, next: impl Fn(usize) -> Vec<usize>) -> Vec<usize> {
    const NEW: usize = usize::MAX;
    let (mut index, mut low, mut component) = (vec![NEW; count], vec![0; count], vec![NEW; count]);
    let (mut open, mut clock, mut found) = (Vec::new(), 0, 0);
    for root in 0..count {
        let mut stack: Vec<(usize, Vec<usize>)> = Vec::new();
        let mut enter = (index[root] == NEW).then_some(root);
        loop {
            if let Some(node) = enter.take() {
                (index[node], low[node]) = (clock, clock);
                clock += 1;
                open.push(node);
                stack.push((node, next(node)));
            }
            let Some((node, pending)) = stack.last_mut() else { break };
            let node = *node;
            if let Some(target) = pending.pop() {
                if index[target] == NEW {
                    enter = Some(target);
                } else if component[target] == NEW {
                    low[node] = low[node].min(index[target]);
                }
                continue;
            }
            stack.pop();
            if let Some((parent, _)) = stack.last() {
                low[*parent] = low[*parent].min(low[node]);
            }
            if low[node] == index[node] {
                while let Some(member) = open.pop() {
                    component[member] = found;
                    if member == node {
                        break;
                    }
                }
                found += 1;
            }
        }
    }
    component
}

#[cfg(test)]
mod tests {
    use super::{Mode, Work, work};

    #[test]
    fn work_of_patterns() {
        let check = |expected: Work, mode: Mode, patterns: &[&str]| {
            for pattern in patterns {
                assert_eq!(work(pattern, mode), Some(expected), "{pattern}");
            }
        };
        let exponential = [
            r"^(a+)+$",
            r"(a|a)*b",
            r"(a*)*b",
            r"^([\w-]+\.?)+@",
            r"(x+x+)+y",
            r"(a{0,5})*b",
            r"(?:a|ab|b)*c",
        ];
        check(Work::Exponential, Mode::Beginning, &exponential);
        let polynomial = [r"a*a*b", r"\[(.*?)\] (.*?): (.*)", r"^\s*(.*?)\s*$", r"\w+\d+!"];
        check(Work::Polynomial, Mode::Beginning, &polynomial);
        check(Work::Polynomial, Mode::Anywhere, &[r"<(.*?)>", r"[^,]+;", r"\d+\w*!"]);
        let linear = [
            r"^[^@]+@(.+)$",
            r"(a+)+",
            r"(ab)+c",
            r"a{1,100}b",
            r"(a|b)*c",
            r"^(\d+,)*\d+$",
            r"(?>a+)+b",
            r"a++a",
        ];
        check(Work::Linear, Mode::Beginning, &linear);
        check(Work::Linear, Mode::Anywhere, &[r"\s+", r"<([^>]{1,100})>", r"^\s+$", r"[a-z]+", r"0+1"]);
        assert_eq!(work("(", Mode::Whole), None);
    }
}
