//! From the text of a completion to a reward.
//!
//! A [`Task`] says what a model is asked and how its answer is judged. A completion's program is found by [`extract()`], once, and three judges
//! see the same bytes: the taint analyzer, the type checker and the tests, each test in a process of its own. [`RewardConfig`] says how
//! their judgements become one number, and a [`Score`] holds all of it.
//!
//! [`Scorer`] judges a batch for one caller; [`Queue`] stands in front of it where many ask at once.
//!
//! A bad program is data and gets its reward. Our own failure is [`Score::infra_error`] and gives no reward.
//!
//! ```no_run
//! use real_reward::{RewardConfig, Scorer, Tools, starter};
//!
//! # fn main() -> Result<(), real_reward::Error> {
//! let tools = Tools::install(&mut |line| eprintln!("{line}"))?;
//! let scorer = Scorer::new(RewardConfig::default(), &tools)?;
//! let task = &starter::tasks(starter::Part::Train, 1, 1)[0];
//! let completion = "```python\ndef count() -> int:\n    return 0\n```";
//! let score = &scorer.score_batch(&[(task, completion)])[0];
//! println!("{:?}: {:?}", score.reward, score.tests);
//! # Ok(())
//! # }
//! ```

mod aggregate;
mod checks;
mod compare;
mod config;
mod dataset;
mod error;
mod extract;
mod jsonl;
mod judge;
mod queue;
mod runner;
mod score;
mod scorer;
pub mod starter;
mod task;
mod tools;
mod validate;

pub use checks::Check;
pub use config::{Aggregation, Checker, Function, Judges, Quality, RewardConfig, Scope};
pub use dataset::{Benchmark, Split, load};
pub use error::Error;
pub use extract::{Extraction, extract, extract_raw};
pub use jsonl::{read_jsonl, write_jsonl};
pub use queue::{Item, Load, Queue, QueueConfig, Refused, Ticket};
pub use score::{
    CaseKind, CaseReport, CaseVerdict, Count, FindingRecord, FlowRecord, Score, TestReport, Timing, TypeError,
};
pub use scorer::Scorer;
pub use task::{
    Case, Contract, Expected, FileSpec, Message, Solution, SolutionKind, StdioCase, StdioExpected, Task,
    Tests,
};
pub use tools::{ToolCheck, Tools};
pub use validate::{Validation, validate};
