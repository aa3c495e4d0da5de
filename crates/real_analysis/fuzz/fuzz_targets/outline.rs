//! The front end alone, and that it agrees with the analysis on what is valid: `cargo +nightly fuzz run outline`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use real_analysis::{Options, analyze, outline};

fuzz_target!(|source: &str| {
    assert_eq!(outline(source).parsed, analyze(source, &Options::default()).parsed);
});
