//! Why a program failed: one cause each, so that a list of causes adds up.
//!
//! The first of these that holds is the cause: no program in the answer; a program that cannot run; a test that failed; a weakness; a type
//! error. A program that leaks a password *and* gives wrong results is thus counted under its wrong results: it has to run first.

use std::collections::BTreeMap;

use real_reward::{CaseKind, CaseVerdict, Score};
use serde::Serialize;

/// A cause with the programs that have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Group {
    /// In words.
    pub cause: String,
    /// Programs.
    pub count: usize,
    /// A few of them: task and sample.
    pub examples: Vec<(String, u64)>,
}

/// Examples of a cause.
const EXAMPLES: usize = 3;

/// Causes by how many programs they cost, the most frequent first.
pub(crate) fn group<'a>(scores: impl IntoIterator<Item = &'a Score>) -> Vec<Group> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for score in scores {
        let Some(cause) = cause(score) else { continue };
        let group = groups.entry(cause.clone()).or_insert(Group { cause, count: 0, examples: Vec::new() });
        group.count += 1;
        if group.examples.len() < EXAMPLES {
            group.examples.push((score.task_id.clone(), score.sample));
        }
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.count));
    groups
}

/// Why a program is not right and good; nothing where it is.
pub(crate) fn cause(score: &Score) -> Option<String> {
    let has = |flag: &str| score.flags.iter().any(|f| f == flag);
    if score.infra_error.is_some() {
        return Some("no verdict (our failure)".to_owned());
    }
    if has("no-code-block") {
        let cause = if has("truncated") { "cut off inside the code" } else { "no code block" };
        return Some(cause.to_owned());
    }
    if has("empty-program") {
        return Some("empty program".to_owned());
    }
    if !score.passed {
        return Some(failed_test(score));
    }
    let counted = score.findings.iter().find(|finding| finding.counted);
    let weakness = counted.map(|finding| format!("weakness {}", finding.rule));
    let type_error = || score.type_errors.first().map(|error| format!("type error {}", error.code));
    let good = score.quality.is_some_and(|quality| quality >= 1.0);
    weakness.or_else(type_error).or_else(|| (!good).then(|| "quality below 1".to_owned()))
}

/// The same as one word, for queries.
pub(crate) fn slug(score: &Score) -> String {
    cause(score).map_or("fine".to_owned(), |cause| format!("cause-{}", cause.replace(' ', "-")))
}

fn failed_test(score: &Score) -> String {
    let mut failed = score.tests.cases.iter().filter(|case| {
        case.kind == CaseKind::Function && !matches!(case.verdict, CaseVerdict::Pass | CaseVerdict::Skipped)
    });
    let Some(case) = failed.next() else { return "tests not run".to_owned() };
    match case.verdict {
        CaseVerdict::SyntaxError => "syntax error".to_owned(),
        CaseVerdict::Missing => "no entry point".to_owned(),
        CaseVerdict::Raised => {
            let end = case.detail.find(':').unwrap_or(case.detail.len());
            format!("raises {}", &case.detail[..end]).trim_end().to_owned()
        }
        CaseVerdict::Exited => "ends before it answers".to_owned(),
        CaseVerdict::Signaled => "killed by a signal".to_owned(),
        CaseVerdict::Timeout => "out of time".to_owned(),
        CaseVerdict::Memory => "out of memory".to_owned(),
        CaseVerdict::Output => "prints too much".to_owned(),
        CaseVerdict::Wrong | CaseVerdict::Pass | CaseVerdict::Skipped => "wrong result".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use real_reward::CaseReport;

    fn score(passed: bool, verdict: CaseVerdict, detail: &str, flags: &[&str]) -> Score {
        let case = CaseReport { kind: CaseKind::Function, verdict, detail: detail.to_owned() };
        let mut score = Score::outage("t", 0, "");
        score.infra_error = None;
        score.passed = passed;
        score.quality = Some(1.0);
        score.tests.cases = vec![case];
        score.flags = flags.iter().map(|&f| f.to_owned()).collect();
        score
    }

    #[test]
    fn each_program_has_one_cause() {
        let check = |score: &Score, expected: Option<&str>| assert_eq!(cause(score).as_deref(), expected);
        check(&score(true, CaseVerdict::Pass, "", &[]), None);
        check(&score(false, CaseVerdict::Wrong, "list", &[]), Some("wrong result"));
        check(&score(false, CaseVerdict::Raised, "KeyError: 'x'", &[]), Some("raises KeyError"));
        check(
            &score(false, CaseVerdict::Raised, "NameError at import: x", &[]),
            Some("raises NameError at import"),
        );
        check(
            &score(false, CaseVerdict::Skipped, "", &["no-code-block", "truncated"]),
            Some("cut off inside the code"),
        );
        check(&score(false, CaseVerdict::Skipped, "", &["no-code-block"]), Some("no code block"));
        let scores = [score(true, CaseVerdict::Pass, "", &[]), score(false, CaseVerdict::Wrong, "", &[])];
        let groups = group(&scores);
        assert_eq!((groups.len(), groups[0].count), (1, 1));
    }
}
