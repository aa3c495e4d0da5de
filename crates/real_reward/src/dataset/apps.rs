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
    let test_info = tag_large_integers(&row.extra_info.test_info);
    let info: TestInfo = serde_json::from_str(&test_info).map_err(|e| layout(e.to_string()))?;
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

/// Writes integers of more than 18 digits in the notation of [`Value`], as a JSON parser would make floats of them.
fn tag_large_integers(json: &str) -> String {
    let mut tagged = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => string_length(rest),
            '-' | '0'..='9' => rest
                .find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'))
                .unwrap_or(rest.len()),
            other => other.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        let digits = token.strip_prefix('-').unwrap_or(token);
        if digits.len() > 18 && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            tagged.push_str(r#"{"$int": ""#);
            tagged.push_str(token);
            tagged.push_str(r#""}"#);
        } else {
            tagged.push_str(token);
        }
        rest = after;
    }
    tagged
}

/// Bytes of the JSON string that a text starts with, both quotes included.
fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            b'"' if !is_escaped => return at + 1,
            b'\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_any_size_are_integers() {
        let check = |json: &str, expected: &str| assert_eq!(tag_large_integers(json), expected);
        check("[1, -2.5e300, 0.1234567890123456789]", "[1, -2.5e300, 0.1234567890123456789]");
        check("[12345678901234567890]", r#"[{"$int": "12345678901234567890"}]"#);
        check("[-12345678901234567890]", r#"[{"$int": "-12345678901234567890"}]"#);
        check(r#"["12345678901234567890 \\" é", 1]"#, r#"["12345678901234567890 \\" é", 1]"#);
    }
}
