//! Programs over training: the life of single tasks, and the rollouts that were kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::report::data::{Evaluation, Run, Sample};
use crate::report::html::{counted, escape, number};
use crate::report::programs::{Verdict, program, short};

/// Steps whose rollouts are shown.
const STEPS_SHOWN: usize = 24;

/// The programs of a few tasks, from the first evaluation over the watched ones to the last.
pub(super) fn life(run: &Run) -> String {
    let mut lives: BTreeMap<(&str, u64), Vec<(usize, &Sample)>> = BTreeMap::new();
    let mut all: Vec<&Evaluation> = run.evaluations.iter().chain(&run.watched).collect();
    all.sort_by_key(|evaluation| evaluation.step);
    for evaluation in all {
        for sample in evaluation.test() {
            lives.entry(sample.key()).or_default().push((evaluation.step, sample));
        }
    }
    let mut lives: Vec<Vec<(usize, &Sample)>> = lives.into_values().filter(|life| life.len() > 1).collect();
    lives.sort_by_key(|life| std::cmp::Reverse(interest(life)));
    let mut shown = BTreeSet::new();
    let mut html = String::new();
    for life in &lives {
        // One task of each weakness, so that the stories differ.
        if shown.len() < 3 && shown.insert(life[0].1.cwe.first().cloned()) {
            html.push_str(&one_life(life, shown.len() == 1));
        }
    }
    html
}

/// How much a life has to tell: from bad to good, over many stages, with a flow to explain.
fn interest(life: &[(usize, &Sample)]) -> usize {
    let verdicts: Vec<Verdict> = life.iter().map(|(_, sample)| Verdict::of(&sample.score)).collect();
    let changes = verdicts.windows(2).filter(|pair| pair[0] != pair[1]).count();
    let explained = life.iter().any(|(_, s)| s.score.findings.iter().any(|f| f.counted && f.flow.len() > 1));
    let saved = verdicts.last().is_some_and(|v| v.both()) && !verdicts[0].both();
    100 * usize::from(saved && explained) + 40 * usize::from(saved) + 10 * changes.min(4) + life.len()
}

fn one_life(life: &[(usize, &Sample)], open: bool) -> String {
    let mut stages: Vec<(usize, usize, &Sample)> = Vec::new();
    for (step, sample) in life {
        match stages.last_mut() {
            Some((_, until, same)) if same.completion == sample.completion => *until = *step,
            _ => stages.push((*step, *step, sample)),
        }
    }
    let task = stages[0].2;
    let mut cards = String::new();
    for (from, until, sample) in &stages {
        let when = match (from, until) {
            (0, 0) => "before training".to_owned(),
            (a, b) if a == b => format!("after step {a}"),
            (0, b) => format!("before training to step {b}"),
            (a, b) => format!("after steps {a} to {b}"),
        };
        let _ = write!(
            cards,
            "<div class=\"stage\"><h4>{when} <small>{}</small></h4>{}</div>",
            Verdict::of(&sample.score).text(),
            program(sample)
        );
    }
    format!(
        "<details class=\"life\"{}><summary>{} <span class=\"cwe\">{}</span></summary><p class=\"prompt\">{}</p><div class=\"strip\" tabindex=\"0\">{cards}</div></details>",
        if open { " open" } else { "" },
        escape(short(&task.task_id)),
        escape(&task.cwe.join(" ")),
        escape(&task.prompt)
    )
}

/// The rollouts that were kept, of steps spread over the run.
pub(super) fn rollouts(run: &Run) -> String {
    let every = run.rollouts.len().div_ceil(STEPS_SHOWN).max(1);
    let mut html = String::new();
    for rollout in run.rollouts.iter().step_by(every) {
        let right = rollout.samples.iter().filter(|s| Verdict::of(&s.score).both()).count();
        let _ = write!(
            html,
            "<details class=\"task\" id=\"step-{}\"><summary><span class=\"id\">step {}</span><span class=\"cwe\">{right} of {} right and good</span></summary><div class=\"sides\">",
            rollout.step,
            rollout.step,
            counted(rollout.samples.len(), "sample")
        );
        for sample in &rollout.samples {
            let reward =
                sample.score.reward.map_or("no reward".to_owned(), |r| format!("reward {}", number(r)));
            let _ = write!(
                html,
                "<div><h4>{} <small>{reward}</small></h4>{}</div>",
                escape(short(&sample.task_id)),
                program(sample)
            );
        }
        html.push_str("</div></details>");
    }
    html
}
