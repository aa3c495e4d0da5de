//! Tokenizers, chat templates and files of weights, against what the Python libraries make of them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod files;
mod golden;
mod real_models;
mod text;
