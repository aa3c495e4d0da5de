//! Analyses many changed programs and says how long the slowest took: `cargo xtask bench mutations`.
//!
//! The programs are those of the specification. Every number is drawn from a seed, so that a failure can be repeated: a panic ends the
//! run and shows the program.

#[path = "../tests/support/mutate.rs"]
mod support;

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use real_analysis::{Options, analyze};
use support::{FRAGMENTS, Mutation, mutate, programs};

/// No program may take longer.
const LIMIT: Duration = Duration::from_secs(1);

/// A linear congruential generator (Knuth's MMIX): good enough to choose places.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize
    }
}

fn main() -> ExitCode {
    let count: usize =
        std::env::args().nth(1).map_or(100_000, |text| text.parse().expect("a number of programs"));
    let programs = programs();
    let mut numbers = Numbers(1);
    let (mut slowest, mut hits, mut parsed) = (Duration::ZERO, 0, 0);
    for _ in 0..count {
        let program = changed(&programs, &mut numbers);
        let start = Instant::now();
        let Ok(analysis) = catch_unwind(|| analyze(&program, &Options::default())) else {
            eprintln!("this program panics:\n{program}");
            return ExitCode::FAILURE;
        };
        let mut took = start.elapsed();
        if took > LIMIT / 4 {
            // Perhaps the machine was busy with something else.
            let start = Instant::now();
            analyze(&program, &Options::default());
            took = took.min(start.elapsed());
        }
        slowest = slowest.max(took);
        hits += usize::from(analysis.budget_hit);
        parsed += usize::from(analysis.parsed);
    }
    println!(
        "{count} programs ({parsed} valid), no panic, slowest {:.1} ms, {hits} budget hits",
        1000.0 * slowest.as_secs_f64()
    );
    if slowest > LIMIT { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn changed(programs: &[String], numbers: &mut Numbers) -> String {
    let mut program = programs[numbers.next() % programs.len()].clone();
    for _ in 0..=numbers.next() % 5 {
        let mutation = match numbers.next() % 7 {
            0 => Mutation::DropLine,
            1 => Mutation::RepeatLine,
            2 => Mutation::SwapLines,
            3 => Mutation::Truncate,
            4 => Mutation::Outdent,
            _ => Mutation::Insert(FRAGMENTS[numbers.next() % FRAGMENTS.len()]),
        };
        program = mutate(&program, &mutation, numbers.next());
    }
    // Some programs are one after the other, which makes names meet that never met before.
    if numbers.next().is_multiple_of(4) {
        program + "\n" + &programs[numbers.next() % programs.len()]
    } else {
        program
    }
}
