//! APPS+: algorithmic problems with a signature, called with arguments from JSON.

use std::path::Path;

use real_sandbox::Value;
use serde::Deserialize;

use super::{Split, parquet_rows};
use crate::{Case, Error, Expected, Message, Task, Tests};

/// What the benchmark's own runner puts in front of a program. References rely on it, above all on the names of `typing`.
const PRELUDE: &str = "from typing import *\nimport collections, math, heapq\n";

#[derive(Deserialize)]
struct Row {
    problem_id: i64,
    difficulty: String,
    url: String,
    prompt: Vec<Message>,
    reward_model: RewardModel,
    extra_info: ExtraInfo,
}

#[derive(Deserialize)]
struct RewardModel {
    ground_truth: String,
}

#[derive(Deserialize)]
struct ExtraInfo {
    /// `function` or `class`: the latter means a method of `class Solution`.
    program_type: String,
    /// JSON in a string.
    test_info: String,
}

#[derive(Deserialize)]
struct TestInfo {
    fn_name: String,
    /// The positional arguments of each call.
    inputs: Vec<Vec<Value>>,
    outputs: Vec<Value>,
}

pub(super) fn load(path: &Path, split: Split) -> Result<Vec<Task>, Error> {
    parquet_rows::read::<Row>(path)?.into_iter().map(|row| task(row, path, split)).collect()
}

fn task(row: Row, path: &Path, split: Split) -> Result<Task, Error> {
    let layout = |reason: String| Error::Layout {
        path: path.to_owned(),
        reason: format!("{}: {reason}", row.problem_id),
    };
    let info: TestInfo =
        serde_json::from_str(&row.extra_info.test_info).map_err(|e| layout(e.to_string()))?;
    if info.inputs.len() != info.outputs.len() {
        return Err(layout("as many outputs as inputs are expected".to_owned()));
    }
    let entry_point = match row.extra_info.program_type.as_str() {
        "function" => info.fn_name,
        "class" => format!("Solution.{}", info.fn_name),
        other => return Err(layout(format!("program type `{other}` is neither function nor class"))),
    };
    let case = |(args, output)| Case { args, kwargs: [].into(), expect: Expected::Returns(output) };
    Ok(Task {
        id: row.problem_id.to_string(),
        benchmark: "apps".to_owned(),
        messages: row.prompt,
        entry_point: Some(entry_point),
        prelude: PRELUDE.to_owned(),
        files: Vec::new(),
        tests: Tests::Call { cases: info.inputs.into_iter().zip(info.outputs).map(case).collect() },
        attacks: Tests::default(),
        contract: None,
        cwe: Vec::new(),
        reference: Some(row.reward_model.ground_truth),
        solutions: Vec::new(),
        labels: [
            ("split".to_owned(), split.to_string()),
            ("difficulty".to_owned(), row.difficulty),
            ("url".to_owned(), row.url),
        ]
        .into(),
    })
}
