//! Tests of the training engine against PyTorch, against itself in other arrangements, and by finite differences.

mod golden;
mod parity;
mod support;
