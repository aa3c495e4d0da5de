//! Tests of the training engine against PyTorch, against itself in other arrangements, and by finite differences.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod differences;
mod generation;
mod golden;
mod invariance;
mod learning;
mod parity;
mod support;
