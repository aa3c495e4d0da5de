//! Tokenizers, chat templates and files of weights, against what the Python libraries make of them.

mod files;
mod golden;
mod real_models;
mod text;
