//! From the text of a completion to a reward.

pub mod starter;
mod task;

pub use task::{
    Case, Contract, Expected, FileSpec, Message, Solution, SolutionKind, StdioCase, StdioExpected, Task,
    Tests,
};
