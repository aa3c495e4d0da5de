//! What the tests of the command line share.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Map, Value};

/// Runs the program to its end, in a folder.
pub(crate) fn real(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_real"));
    command.args(arguments).current_dir(folder).output().expect("the program was built")
}

/// The lines of `metrics.jsonl`, without the times.
pub(crate) fn metrics(run: &Path) -> Vec<Map<String, Value>> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).expect("a run has metrics");
    text.lines()
        .map(|line| {
            let mut row: Map<String, Value> = serde_json::from_str(line).expect("a line is an object");
            row.retain(|name, _| !name.starts_with("time/"));
            row
        })
        .collect()
}

/// The configuration of a run of a few seconds: what matters is the files, not what is learned. It ends in the section `[eval]`.
pub(crate) const SMALLEST: &str = r#"
seed = 3
[run]
dir = "run"
[model.scratch]
vocab_size = 400
hidden_size = 32
intermediate_size = 64
num_hidden_layers = 1
num_attention_heads = 2
num_key_value_heads = 1
max_position_embeddings = 512
[data]
benchmark = "starter"
train_tasks = 32
test_tasks = 4
mix = [{ kind = "secure", weight = 1.0 }, { kind = "insecure", weight = 1.0 }]
[sft]
learning_rate = 3e-3
batch = 8
epochs = 2
[rollout]
batch = 8
max_new_tokens = 24
[ppo]
mini_batch = 4
[train]
steps = 3
save_every = 1
[eval]
max_new_tokens = 24
"#;
