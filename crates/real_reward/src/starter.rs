//! The `starter` benchmark: small Python tasks that provoke a weakness, made from templates and a lexicon.
//!
//! A template (`starter/templates/*.md`) is one task with slots. A line of its prompt such as
//!
//! ```text
//! … every row of the table `{{table}}` whose `{{key}}` equals the argument.
//! ```
//!
//! becomes, with `table = orders` and `key = city` from `starter/lexicon.txt`, a prompt, its tests, its attacks and a set of
//! solutions that are right, exploitable, wrong or badly typed in that instance. The tests also use *hidden* slots: values that
//! the prompt doesn't tell, so that no program can answer from the prompt alone.
//!
//! An instance is named by the hash of its template and of the words in its prompt. The hash decides three things: the task's
//! identifier, its hidden values, and (modulo 5) whether the instance belongs to [`Part::Train`] or to [`Part::Test`]. The
//! two therefore share no instance, whatever the seeds and counts. The templates of [`Part::HeldOut`] are in neither.
//!
//! ```
//! use real_reward::starter::{Part, tasks};
//!
//! let train = tasks(Part::Train, 7, 100);
//! assert_eq!(train.len(), 100);
//! assert_eq!(train, tasks(Part::Train, 7, 100));
//! assert!(train[0].messages[0].content.contains("Write a Python function"));
//! ```

mod lexicon;
mod template;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Contract, Message, Split, Task, Tests};
use lexicon::Bindings;
use template::Template;

/// Which tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// Four fifths of the instances of the training templates.
    Train,
    /// The other instances of the training templates.
    Test,
    /// Templates that training never sees.
    HeldOut,
}

/// The tasks of a split: with the test tasks come those of the held-out templates, a quarter as many.
pub fn benchmark(split: Split, seed: u64, count: usize) -> Vec<Task> {
    match split {
        Split::Train => tasks(Part::Train, seed, count),
        Split::Test => [tasks(Part::Test, seed, count), tasks(Part::HeldOut, seed, count / 4)].concat(),
    }
}

/// Up to `count` different tasks, dealt from the part's templates in turn, so that every prefix is balanced.
///
/// The same arguments always give the same tasks, and two calls give the same task under the same identifier. There are fewer
/// than `count` only where the part has no more.
pub fn tasks(part: Part, seed: u64, count: usize) -> Vec<Task> {
    let mut decks: Vec<_> = TEMPLATES
        .iter()
        .filter(|template| template.held_out == (part == Part::HeldOut))
        .map(|template| instances(template, part, seed))
        .collect();
    let mut dealt = Vec::with_capacity(count);
    while dealt.len() < count && !decks.is_empty() {
        decks.retain_mut(|deck| match deck.next() {
            Some(task) => {
                dealt.push(task);
                true
            }
            None => false,
        });
    }
    dealt.truncate(count);
    dealt
}

static TEMPLATES: LazyLock<Vec<Template>> = LazyLock::new(template::all);

/// The tasks of one template in the order of `seed`.
fn instances(template: &'static Template, part: Part, seed: u64) -> impl Iterator<Item = Task> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(fnv1a(&template.name));
    shuffled(template.combinations(), rng).filter_map(move |number| {
        let bindings = template.bindings(number)?;
        let identity = fnv1a(&format!("{} {bindings}", template.name));
        let is_test = identity.is_multiple_of(5);
        (part == Part::HeldOut || is_test == (part == Part::Test))
            .then(|| instantiate(template, bindings, identity, part))
    })
}

/// The numbers below `n` in random order: a Fisher–Yates shuffle that runs on demand and stores only the places it has touched.
fn shuffled(n: u64, mut rng: ChaCha8Rng) -> impl Iterator<Item = u64> {
    let mut moved = BTreeMap::new();
    (0..n).map(move |place| {
        let chosen = rng.random_range(place..n);
        let displaced = moved.get(&place).copied().unwrap_or(place);
        moved.insert(chosen, displaced).unwrap_or(chosen)
    })
}

fn instantiate(template: &Template, mut bindings: Bindings, identity: u64, part: Part) -> Task {
    bindings.draw(&template.hidden, &mut ChaCha8Rng::seed_from_u64(identity));
    let prompt = bindings.fill(&template.prompt);
    let solutions = template.solutions(&bindings);
    let mut labels = template.labels.clone();
    labels.insert("split".to_owned(), part.name().to_owned());
    Task {
        id: format!("starter/{}/{identity:016x}", template.name),
        benchmark: "starter".to_owned(),
        messages: vec![Message {
            role: "user".to_owned(),
            content: format!("{prompt} Answer with one ```python block."),
        }],
        entry_point: Some(bindings.fill(&template.entry_point)),
        prelude: bindings.fill(&template.prelude),
        files: template.files(&bindings),
        tests: Tests::Call { cases: template::cases(&template.tests, &bindings) },
        attacks: Tests::Call { cases: template::cases(&template.attacks, &bindings) },
        contract: template
            .returns
            .clone()
            .map(|returns| Contract { returns: Some(returns), ..Contract::default() }),
        cwe: template.cwe.clone(),
        reference: solutions.first().map(|solution| solution.code.clone()),
        solutions,
        labels,
    }
}

impl Part {
    /// `train`, `test` or `held-out`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
            Self::HeldOut => "held-out",
        }
    }
}

/// The 64-bit hash of Fowler, Noll and Vo: the same on every machine and in every release.
fn fnv1a(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
