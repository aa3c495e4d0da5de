//! Did it work? The answer in one sentence, with the arithmetic behind it.
//!
//! Before and after are measured on the same tasks, so they are compared task by task: what counts is how many tasks were won and how many
//! lost. If training had done nothing, a task that changed would be won or lost by the toss of a coin; `McNemar`'s exact test gives the
//! probability of a result as lopsided as this one. For example 9 tasks won and 1 lost: 2·(C(10,0) + C(10,1))/2¹⁰ = 0.021.

use std::collections::BTreeMap;

use serde_json::Value;

use super::data::{Evaluation, Run};
use super::html::{counted, escape, percent, programs};
use super::programs::Verdict;

/// Below this probability a difference is not held for chance.
const SIGNIFICANT: f64 = 0.05;

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Better,
    Worse,
    /// Won and lost about the same.
    Same,
    /// Nothing to compare.
    Unknown,
}

impl Outcome {
    /// The class that colours it.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Better => "good",
            Self::Worse => "poor",
            Self::Same | Self::Unknown => "open",
        }
    }
}

/// How the joint rate changed from one evaluation to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Change {
    pub won: usize,
    pub lost: usize,
    /// The probability of a result as lopsided by chance.
    pub p: f64,
}

impl Change {
    pub(super) fn between(before: &Evaluation, after: &Evaluation) -> Self {
        let earlier: BTreeMap<_, bool> =
            before.test().map(|s| (s.key(), Verdict::of(&s.score).both())).collect();
        let (mut won, mut lost) = (0, 0);
        for sample in after.test() {
            let now = Verdict::of(&sample.score).both();
            match earlier.get(&sample.key()) {
                Some(false) if now => won += 1,
                Some(true) if !now => lost += 1,
                _ => {}
            }
        }
        Self { won, lost, p: mcnemar(won, lost) }
    }

    pub(super) fn outcome(self) -> Outcome {
        match self {
            Self { p, .. } if p >= SIGNIFICANT => Outcome::Same,
            Self { won, lost, .. } if won > lost => Outcome::Better,
            _ => Outcome::Worse,
        }
    }
}

/// The two-sided exact test of `McNemar`: a fair coin, tossed `won + lost` times, falls as lopsidedly.
pub(super) fn mcnemar(won: usize, lost: usize) -> f64 {
    let n = won + lost;
    // In logarithms, as 2⁻ⁿ is too small for a number where thousands of tasks changed.
    let mut log_term = n as f64 * 0.5_f64.ln();
    let mut tail = 0.0;
    for k in 0..=won.min(lost) {
        tail += log_term.exp();
        log_term += ((n - k) as f64 / (k + 1) as f64).ln();
    }
    (2.0 * tail).min(1.0)
}

/// `p < 0.001` or `p = 0.021`
pub(super) fn probability(p: f64) -> String {
    if p < 0.001 { "p < 0.001".to_owned() } else { format!("p = {p:.3}") }
}

/// The verdict: its colour, the sentence, and what stands below it.
pub(super) fn of_run(run: &Run) -> (Outcome, String, String) {
    let Some(after) = run.after() else {
        let progress = format!("{} of {} steps done", run.steps(), run.planned());
        return (Outcome::Unknown, format!("No evaluation yet: {progress}."), String::new());
    };
    let counts = after.counts();
    let joint = counts.rates().joint.value;
    let Some(before) = run.before() else {
        let link = programs("after:both", &format!("{} of {}", counts.joint, counts.total));
        let sentence = format!("{} of the programs are right and good.", percent(joint));
        return (
            Outcome::Unknown,
            sentence,
            format!("<p>{link} programs pass every test and satisfy every judge of quality.</p>"),
        );
    };
    let change = Change::between(before, after);
    let earlier = percent(before.counts().rates().joint.value);
    let now = percent(joint);
    let outcome = change.outcome();
    let while_running =
        if run.is_unfinished() { format!("So far, after step {}: ", after.step) } else { String::new() };
    let sentence = match outcome {
        Outcome::Better => {
            format!("{while_running}It worked. Right and good programs rose from {earlier} to {now}.")
        }
        Outcome::Worse => format!(
            "{while_running}It made things worse. Right and good programs fell from {earlier} to {now}."
        ),
        Outcome::Same | Outcome::Unknown => {
            format!("{while_running}No clear change. Right and good programs: {earlier} before, {now} after.")
        }
    };
    let won = programs("after:both -before:both", &format!("{} won", change.won));
    let lost = programs("before:both -after:both", &format!("{} lost", change.lost));
    let mut below = format!(
        "<p>Of {} that training never saw, {won} and {lost} ({}, McNemar’s exact test).",
        counted(counts.total, "test task"),
        probability(change.p).replace('<', "&lt;")
    );
    if let Some(text) = held_out(before, after) {
        below.push_str(&text);
    }
    (outcome, sentence, below + "</p>")
}

/// A sentence on tasks of another make than those of training, where there are any.
fn held_out(before: &Evaluation, after: &Evaluation) -> Option<String> {
    let rate = |evaluation: &Evaluation| {
        let verdicts: Vec<bool> = evaluation
            .samples
            .iter()
            .filter(|s| s.split() == "held-out")
            .map(|s| Verdict::of(&s.score).both())
            .collect();
        (!verdicts.is_empty()).then(|| (verdicts.iter().filter(|v| **v).count(), verdicts.len()))
    };
    let ((then, _), (now, total)) = (rate(before)?, rate(after)?);
    let link = programs("split:held-out", &format!("{now} of {total}"));
    Some(format!(" On kinds of task that training never had: {link}, {then} before."))
}

/// What was evaluated, as a paragraph.
fn what_was_evaluated(figures: &Value) -> String {
    let text = |value: &Value| escape(value.as_str().unwrap_or("?"));
    let temperature = figures["sampling"]["temperature"].as_f64().unwrap_or(0.0);
    let sampling =
        if temperature > 0.0 { format!("sampled at temperature {temperature}") } else { "greedy".to_owned() };
    format!(
        "<p class=\"lead\"><code>{}</code> on <b>{}</b> ({}), {} answers to {} tasks, {sampling}. Definitions: {}.</p>",
        text(&figures["subject"]),
        text(&figures["benchmark"]),
        text(&figures["split"]),
        figures["completions"],
        figures["tasks"],
        text(&figures["profile"]),
    )
}

/// What was done, as a paragraph.
pub(super) fn what_was_done(run: &Run) -> String {
    if let Some(figures) = &run.figures {
        return what_was_evaluated(figures);
    }
    let Some(config) = &run.config else { return String::new() };
    let model = match (&config.model.path, &config.model.scratch) {
        (Some(path), _) => format!("The model <code>{}</code>", escape(path)),
        (None, Some(shape)) => format!(
            "A model made from scratch ({} layers of width {})",
            shape.num_hidden_layers, shape.hidden_size
        ),
        (None, None) => "A model".to_owned(),
    };
    let taught = config.sft.as_ref().map_or(String::new(), |sft| {
        format!(
            ", taught with supervised examples ({})",
            counted(sft.epochs, "pass").replace("passs", "passes")
        )
    });
    let judged = config.rollout.batch * run.steps();
    format!(
        "<p class=\"lead\">{model}{taught}, then {} of PPO with {} each on <b>{}</b>: {} written, and judged by the taint \
         analyzer, a strict type checker and unit tests. Weight of quality α = {}. Seed {}.</p>",
        counted(run.steps(), "step"),
        counted(config.rollout.batch, "rollout"),
        escape(&config.data.benchmark),
        counted(judged, "program"),
        config.reward.alpha,
        config.seed,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mcnemar_of_known_values() {
        let close =
            |won, lost, p: f64| assert!((mcnemar(won, lost) - p).abs() < 1e-4, "{}", mcnemar(won, lost));
        close(9, 1, 0.021_48);
        close(1, 9, 0.021_48);
        close(5, 0, 0.0625);
        close(0, 0, 1.0);
        close(10, 10, 1.0);
        close(1000, 1000, 1.0);
        assert!(mcnemar(88, 2) < 1e-20 && mcnemar(88, 2) > 0.0);
    }
}
