//! From the verdict on a program to what PPO learns from: the reward, its parts, and the tokens that findings blame.

use std::ops::Range;

use real_lm::ppo::maths::overlong_penalty;
use real_lm::{Blame, Reward, RewardPart, Special, Tokenizer};
use real_reward::{RewardConfig, Score, extract};

use crate::config::Rollout;
use crate::policy::Response;

/// The reward of a response; none where the judges failed or its cut-off end is not to count.
pub(super) fn reward(
    rollout: &Rollout,
    judged_by: &RewardConfig,
    tokenizer: &Tokenizer,
    response: &Response,
    score: &Score,
) -> Option<Reward> {
    let judged = score.reward?;
    if rollout.mask_truncated && response.truncated {
        return None;
    }
    let (longest, buffer) = (rollout.max_new_tokens, rollout.overlong_buffer);
    let length = overlong_penalty(response.ids.len(), longest, buffer, rollout.overlong_penalty);
    let blame = if rollout.token_credit { blame(judged_by, tokenizer, response, score) } else { Vec::new() };
    Some(Reward { total: judged as f32 + length, parts: parts(judged_by, score, length), blame })
}

/// Quality, function, and what lies below both: that nothing ran, or that the response is too long.
fn parts(judged_by: &RewardConfig, score: &Score, length: f32) -> Vec<RewardPart> {
    let part = |value: Option<f64>, weight: f64| RewardPart {
        value: value.unwrap_or(0.0) as f32,
        weight: weight as f32,
    };
    let failed = score.reward.filter(|&reward| reward < 0.0).unwrap_or(0.0) as f32;
    vec![
        part(score.quality, judged_by.alpha),
        part(score.function, 1.0 - judged_by.alpha),
        RewardPart { value: failed + length, weight: 1.0 },
    ]
}

/// What quality lost is the fault of the tokens where findings and type errors lie, in equal shares. A share whose place is not known
/// stays where rewards are by themselves, at the end.
fn blame(judged_by: &RewardConfig, tokenizer: &Tokenizer, response: &Response, score: &Score) -> Vec<Blame> {
    let (Some(quality), Some(function)) = (score.quality, score.function) else { return Vec::new() };
    let runs = score.reward.is_some_and(|reward| reward >= 0.0);
    let cost = judged_by.total(1.0, function) - judged_by.total(quality, function);
    let findings = score.findings.iter().filter(|finding| finding.counted);
    let findings = findings.map(|finding| characters(&response.text, finding.span));
    let errors = score.type_errors.iter().map(|error| rest_of_line(&response.text, error.line, error.column));
    let places: Vec<Option<Range<usize>>> = findings.chain(errors).collect();
    if !runs || cost <= 0.0 || places.is_empty() {
        return Vec::new();
    }
    let share = cost as f32 / places.len() as f32;
    let tokens = places.into_iter().flatten().filter_map(|bytes| tokens_of(tokenizer, response, bytes));
    tokens.map(|tokens| Blame { tokens, cost: share }).collect()
}

/// The bytes of some characters of a text, which are counted from 0.
fn characters(text: &str, [start, end]: [usize; 2]) -> Option<Range<usize>> {
    let mut offsets = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    let first = offsets.nth(start)?;
    let last = offsets.nth(end.checked_sub(start + 1)?)?;
    Some(first..last)
}

/// The bytes of a line of the program in an answer, from a column on. Both count from 1, columns in characters.
fn rest_of_line(text: &str, line: u32, column: u32) -> Option<Range<usize>> {
    let program = extract(text).code?;
    let start = text.rfind(&program)?;
    let before: usize =
        program.split_inclusive('\n').take((line as usize).checked_sub(1)?).map(str::len).sum();
    let line = program[before..].split('\n').next()?;
    let inside = line.char_indices().map(|(at, _)| at).nth((column as usize).checked_sub(1)?)?;
    Some(start + before + inside..start + before + line.len())
}

/// The response tokens that hold some bytes of its text.
fn tokens_of(tokenizer: &Tokenizer, response: &Response, bytes: Range<usize>) -> Option<Range<usize>> {
    let mut ends = Vec::with_capacity(response.ids.len());
    let mut end = 0;
    for &id in &response.ids {
        end += tokenizer.token_bytes(id, Special::Skip).len();
        ends.push(end);
    }
    // Where bytes were no text, those behind them have moved.
    if end != response.text.len() {
        return None;
    }
    let first = ends.partition_point(|&end| end <= bytes.start);
    let last = ends.partition_point(|&end| end < bytes.end);
    Some(first..last + 1)
}

#[cfg(test)]
mod tests {
    use real_lm::{AddedTokens, SpecialTokens};
    use serde_json::json;

    use super::*;

    const ANSWER: &str = "Höre:\n```python\nimport os\n\nos.system('ls ' + input())\nprint('ä')\n```";

    fn tokenizer() -> Tokenizer {
        Tokenizer::train([ANSWER; 3], 300, &SpecialTokens::chatml()).unwrap()
    }

    fn response(tokenizer: &Tokenizer, text: &str) -> Response {
        let ids = tokenizer.encode(text, AddedTokens::AsText).unwrap();
        Response { prompt_ids: vec![0], ids, text: text.to_owned(), truncated: false }
    }

    /// A program that runs, passes its tests, and has one finding in line 3.
    fn score() -> Score {
        let finding = json!({
            "rule": "command-injection", "cwe": ["CWE-78"], "message": "", "confidence": 0.9, "counted": true,
            "line": 3, "column": 1, "end_line": 3, "end_column": 27, "span": [27, 53], "flow": [],
        });
        serde_json::from_value(json!({
            "task_id": "t", "sample": 0, "reward": 0.5, "quality": 0.0, "function": 1.0, "passed": true, "parsed": true,
            "findings": [finding], "type_errors": [], "tests": {"passed": 1, "total": 1, "by_kind": {}, "cases": []},
            "flags": [], "infra_error": null, "ms": {"analysis": 0.0, "types": 0.0, "tests": 0.0},
        }))
        .unwrap()
    }

    fn rewarded(rollout: &Rollout, text: &str, score: &Score) -> Option<Reward> {
        let tokenizer = tokenizer();
        reward(rollout, &RewardConfig::default(), &tokenizer, &response(&tokenizer, text), score)
    }

    #[test]
    fn a_finding_blames_its_tokens() {
        let rollout = Rollout { token_credit: true, ..Rollout::default() };
        let found = rewarded(&rollout, ANSWER, &score()).unwrap();
        assert_eq!(found.blame.len(), 1);
        let Blame { tokens, cost } = &found.blame[0];
        let tokenizer = tokenizer();
        let blamed = tokenizer.decode(&response(&tokenizer, ANSWER).ids[tokens.clone()], Special::Skip);
        assert!(blamed.contains("os.system('ls ' + input())") && !blamed.contains("import"), "{blamed:?}");
        assert!((cost - 0.5).abs() < 1e-6 && (found.total - 0.5).abs() < 1e-6);
        let values: Vec<(f32, f32)> = found.parts.iter().map(|part| (part.value, part.weight)).collect();
        assert_eq!(values, [(0.0, 0.5), (1.0, 0.5), (0.0, 1.0)]);
    }

    #[test]
    fn a_type_error_blames_its_line() {
        let rollout = Rollout { token_credit: true, ..Rollout::default() };
        let error = json!({"line": 4, "column": 1, "code": "x", "message": ""});
        let score = Score { type_errors: vec![serde_json::from_value(error).unwrap()], ..score() };
        let blame = rewarded(&rollout, ANSWER, &score).unwrap().blame;
        let tokenizer = tokenizer();
        let blamed =
            tokenizer.decode(&response(&tokenizer, ANSWER).ids[blame[1].tokens.clone()], Special::Skip);
        assert!(blamed.contains("print('ä')") && !blamed.contains("system"), "{blamed:?}");
        assert!(blame.iter().all(|blame| (blame.cost - 0.25).abs() < 1e-6));
    }

    #[test]
    fn what_has_no_place_blames_nobody() {
        let rollout = Rollout { token_credit: true, ..Rollout::default() };
        let mut far = score();
        far.findings[0].span = [27, 999];
        assert!(rewarded(&rollout, ANSWER, &far).unwrap().blame.is_empty());
        assert!(rewarded(&rollout, "no program", &score()).unwrap().blame.is_empty());
        let failed = Score { reward: Some(-1.0), function: Some(0.0), ..score() };
        let found = rewarded(&rollout, ANSWER, &failed).unwrap();
        assert!(found.blame.is_empty() && (found.parts[2].value + 1.0).abs() < 1e-6);
        assert!(rewarded(&Rollout::default(), ANSWER, &score()).unwrap().blame.is_empty());
    }

    #[test]
    fn length_and_outages() {
        let tokens = response(&tokenizer(), ANSWER).ids.len();
        let rollout = Rollout {
            max_new_tokens: tokens,
            overlong_buffer: 10,
            overlong_penalty: 0.25,
            ..Rollout::default()
        };
        assert!((rewarded(&rollout, ANSWER, &score()).unwrap().total - 0.25).abs() < 1e-6);
        assert!(rewarded(&rollout, ANSWER, &Score::outage("t", 0, "no Python")).is_none());
    }
}
