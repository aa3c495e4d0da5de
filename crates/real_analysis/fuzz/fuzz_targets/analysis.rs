//! The whole analysis: `cargo +nightly fuzz run analysis`. Lowering, SSA and its verifier run inside, for debug assertions are on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use real_analysis::{Mode, Options, analyze};

fuzz_target!(|source: &str| {
    analyze(source, &Options::default());
    analyze(source, &Options { mode: Mode::Sound, ..Options::default() });
});
