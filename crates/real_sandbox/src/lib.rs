//! Runs hostile Python under limits.
//!
//! A [`Sandbox`] keeps a few warm interpreters. Each is alone in its namespaces with nothing but its own library to read, and
//! forks a process for every [`Job`]; the fork has no network, an empty environment, an empty working folder, no other program
//! to start and hard limits, and when it ends everything it has started is killed with it. What a job reports is data that the
//! caller judges: nothing here knows tests or rewards, and no expected value ever enters the interpreter.
//!
//! ```no_run
//! use std::time::Duration;
//! use real_sandbox::{Action, Config, Ending, Job, Limits, Sandbox, Value};
//!
//! # fn main() -> Result<(), real_sandbox::Error> {
//! let sandbox = Sandbox::start(Config::default())?;
//! let job = Job {
//!     program: "def add(a, b):\n    return a + b\n".to_owned(),
//!     action: Action::Call {
//!         entry_point: "add".to_owned(),
//!         args: vec![Value::Int("1".to_owned()), Value::Int("2".to_owned())],
//!         kwargs: vec![],
//!     },
//!     prelude: String::new(),
//!     files: vec![],
//!     collect: vec![],
//!     limits: Limits::default(),
//! };
//! assert_eq!(sandbox.run(&job)?.ending, Ending::Returned(Value::Int("3".to_owned())));
//! # Ok(())
//! # }
//! ```
//!
//! # How it is built
//!
//! ```text
//!  this process                        Python, started by exec
//!  Sandbox ── Worker ──control socket── launcher ─fork─► worker (PID 1 of its namespaces) ─fork─► job
//!               │                        builds the walls   warm, knows no program                 │
//!               └──────────── pipes and memory files: program in, output and result out ──────────┘
//! ```
//!
//! The control socket carries numbers and open files only. Source and arguments go straight to the job, output and result come
//! straight back: the interpreter that the next job is forked from has never seen them.
//!
//! The walls ([`Layer`]) are built in `runner/isolation.py`, the life of a worker is in `runner/worker.py`, and what happens inside
//! of a job is in `runner/program.py`. Python does this, and not a `pre_exec` hook, because a trainer with threads and many
//! gigabytes cannot be forked safely or cheaply; the standard library starts a plain `exec` without copying it.
//!
//! # What a job costs
//!
//! Most of it is the kernel's work for a fork: page tables to copy and to take down, and a few hundred pages that the interpreter writes to
//! (each a fault and a copy). So the worker holds little, and a job runs as few lines of ours as can be: the worker itself stands behind the walls
//! that its jobs inherit, descriptors arrive where they are needed, seeds and encoders are made once.
//! `cargo xtask bench reward` measures it.
//!
//! # What it does not do
//!
//! - Where it can make no control group, [`Limits::memory`] holds for each process of a job, and [`Limits::processes`] bounds their number:
//!   [`Protection::control_groups`] says which.
//! - It does not hide the machine's clock, its processor or the kernel's version.
//! - It does not make programs deterministic beyond a fixed hash seed, seeded `random` and `numpy.random`, and one thread of BLAS.
//! - A program that leaves the interpreter's memory safety (`ctypes`) is contained by the walls, not by Python.

mod claim;
mod config;
mod group;
mod job;
mod launch;
mod pipes;
mod sandbox;
mod seccomp;
mod value;
mod worker;

pub use config::{Config, ControlGroups, Layer, Profile, Protection, Strictness};
pub use job::{Action, Ending, Job, Limits, Outcome, Resource};
pub use sandbox::{Error, Sandbox};
pub use value::Value;
