//! The report of one run: what was done, whether it worked, and everything that the answer rests on.

use std::fmt::Write as _;

use super::chart::{Chart, Point, Series, Style, Unit, stacked};
use super::data::{Evaluation, Row, Run, values};
use super::html::{Cell, Page, duration, escape, grouped, interval, number, percent, programs, table};
use super::programs as program_list;
use super::{hacking, verdict};
use crate::evaluation::{Counts, Rate};

mod life;
mod tables;

use life::{life, rollouts};
use tables::{balance, failures, weaknesses};

/// How often a page of a run that goes on loads itself again, seconds.
const REFRESH: u32 = 15;

/// The page of a run.
pub(super) fn page(run: &Run) -> Page {
    let (outcome, sentence, below) = verdict::of_run(run);
    let state = if run.is_unfinished() {
        format!(
            "<p class=\"state\">Step {} of {} is done; this page follows.</p>",
            run.steps(),
            run.planned()
        )
    } else {
        String::new()
    };
    let head = format!(
        "<p class=\"kicker\">{}</p><h1 class=\"verdict {}\">{sentence}</h1>{below}{state}",
        escape(&run.name),
        outcome.class(),
    );
    Page {
        title: format!("{} · real", run.name),
        head,
        refresh: run.is_unfinished().then_some(REFRESH),
        sections: vec![
            ("summary", if run.before().is_some() { "Before and after" } else { "Rates" }, summary(run)),
            ("curves", "Learning", curves(run)),
            ("balance", "Quality and function", balance(run)),
            ("weaknesses", "By weakness", weaknesses(run)),
            ("life", "The life of a task", life(run)),
            ("failures", "What fails", failures(run)),
            ("hacking", "Reward hacking?", hacking::section(run)),
            ("cost", "Cost", cost(run)),
            ("programs", "Programs", list(run)),
            ("rollouts", "Rollouts of training", rollouts(run)),
            ("setup", "Set-up", setup(run)),
        ],
    }
}

/// The rates that the page is about.
const RATES: [(&str, &str, &str); 3] = [
    ("function", "Function", "every test passes"),
    ("quality", "Quality", "no weakness, no type error"),
    ("both", "Both", "right and good"),
];

fn rate(counts: &Counts, name: &str) -> (usize, Rate) {
    let rates = counts.rates();
    match name {
        "function" => (counts.function, rates.function),
        "quality" => (counts.quality, rates.quality),
        "withstood" => (counts.withstood, rates.withstood),
        _ => (counts.joint, rates.joint),
    }
}

fn summary(run: &Run) -> String {
    let done = verdict::what_was_done(run);
    let Some(after) = run.after().map(Evaluation::counts) else { return done };
    let before = run.before().map(Evaluation::counts);
    let mut cards = String::new();
    let attacked = (after.attacked > 0).then_some((
        "withstood",
        "Under attack",
        "attacks really carried out are withstood",
    ));
    for (name, heading, meaning) in RATES.into_iter().chain(attacked) {
        cards.push_str(&card(name, heading, meaning, before.as_ref(), &after));
    }
    format!(
        "{done}<div class=\"cards\">{cards}</div><p class=\"note\">Whiskers and small figures: 95 % Wilson intervals.</p>{}",
        of_k_answers(run)
    )
}

/// pass@k of an evaluation with several answers to a task.
fn of_k_answers(run: &Run) -> String {
    let estimates = run.figures.as_ref().and_then(|figures| figures["pass_at_k"].as_array());
    let rows: Vec<Vec<Cell>> = estimates
        .into_iter()
        .flatten()
        .map(|estimate| {
            let rate = |name: &str| {
                let value = estimate[name].as_f64().unwrap_or(f64::NAN);
                Cell::number(value, percent(value)).heat(value)
            };
            let k = estimate["k"].as_f64().unwrap_or(0.0);
            vec![Cell::number(k, number(k)), rate("function"), rate("joint")]
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    format!("<h3>One of k answers</h3>{}", table(&["k", "right", "right and good"], &rows))
}

fn card(name: &str, heading: &str, meaning: &str, before: Option<&Counts>, after: &Counts) -> String {
    let (count, now) = rate(after, name);
    let total = if name == "withstood" { after.attacked } else { after.total };
    let link = programs(&format!("after:{name}"), &format!("{count} of {total}"));
    let then = before.map(|before| rate(before, name).1);
    let big = match then {
        Some(then) => {
            format!(
                "<span class=\"was\">{}</span> <span class=\"arrow\">→</span> {}",
                percent(then.value),
                percent(now.value)
            )
        }
        None => percent(now.value),
    };
    let bars: String = then
        .iter()
        .map(|then| (then, "was"))
        .chain([(&now, "is")])
        .map(|(rate, class)| bar(rate, class))
        .collect();
    format!(
        "<div class=\"card c-{name}\"><h3>{heading}</h3><p class=\"meaning\">{meaning}</p><p class=\"big\">{big}</p>{bars}\
         <p class=\"small\">{link} · {}</p></div>",
        interval(&now)
    )
}

/// A rate as a bar with its interval.
fn bar(rate: &Rate, class: &str) -> String {
    let at = |value: f64| 100.0 * value;
    format!(
        "<div class=\"bar {class}\" title=\"{} ({})\"><i style=\"width:{:.1}%\"></i><b style=\"left:{:.1}%;width:{:.1}%\"></b></div>",
        percent(rate.value),
        interval(rate),
        at(rate.value),
        at(rate.low),
        at(rate.high - rate.low)
    )
}

fn points(values: Vec<(f64, f64)>) -> Vec<Point> {
    values.into_iter().map(|(x, y)| Point { x, y, band: None }).collect()
}

fn series(rows: &[Row], metric: &str, name: &str, colour: &str) -> Option<Series> {
    let points = points(values(rows, metric));
    (!points.is_empty()).then(|| Series {
        name: name.to_owned(),
        colour: colour.to_owned(),
        points,
        style: Style::Line,
    })
}

fn curves(run: &Run) -> String {
    let line = |metric: &str, name: &str, colour: &str| series(&run.metrics, metric, name, colour);
    let chart = |title: &str, unit: Unit, series: Vec<Option<Series>>| {
        Chart {
            title,
            x_label: "step",
            x_unit: Unit::Number,
            y_unit: unit,
            series: series.into_iter().flatten().collect(),
        }
        .render()
    };
    let rollouts = vec![
        line("reward/function", "function", "function"),
        line("reward/quality", "quality", "quality"),
        line("reward/joint", "both", "both"),
    ];
    let mut charts = vec![
        chart("Rollouts: the parts of the reward", Unit::Fraction, rollouts),
        chart("Unseen tasks, greedy", Unit::Fraction, evaluation_series(run)),
        chart("Reward", Unit::Number, vec![line("reward/mean", "mean reward", "ink")]),
        chart("KL divergence, nats a response", Unit::Number, vec![line("objective/kl", "KL", "ink")]),
        chart(
            "Entropy of the policy, nats a token",
            Unit::Number,
            vec![line("policy/entropy", "entropy", "ink")],
        ),
        chart("Length of a response, tokens", Unit::Number, vec![line("response/length", "length", "ink")]),
        chart("Clipped tokens", Unit::Fraction, vec![line("policy/clipfrac", "clipped", "ink")]),
        chart("Norm of the gradient", Unit::Number, vec![line("policy/grad_norm", "norm", "ink")]),
        chart(
            "Rollouts that cannot run",
            Unit::Fraction,
            vec![line("reward/not_runnable", "cannot run", "ink")],
        ),
    ];
    charts.push(chart(
        "Supervised fine-tuning: loss, nats a token",
        Unit::Number,
        vec![series(&run.sft_metrics, "sft/loss", "loss", "ink")],
    ));
    let charts: String = charts.concat();
    if charts.is_empty() { charts } else { format!("<div class=\"charts\">{charts}</div>") }
}

/// The rates of evaluations with their intervals, joined by lines where there are more than two.
fn evaluation_series(run: &Run) -> Vec<Option<Series>> {
    let of = |name: &str, colour: &str| {
        let points = run.evaluations.iter().map(|evaluation| {
            let (_, rate) = rate(&evaluation.counts(), colour);
            Point { x: evaluation.step as f64, y: rate.value, band: Some((rate.low, rate.high)) }
        });
        Series {
            name: name.to_owned(),
            colour: colour.to_owned(),
            points: points.collect(),
            style: Style::Marks,
        }
    };
    if run.evaluations.len() < 2 {
        return Vec::new();
    }
    vec![Some(of("function", "function")), Some(of("quality", "quality")), Some(of("both", "both"))]
}

const PHASES: [(&str, &str, &str); 3] = [
    ("function", "writing programs", "time/rollout"),
    ("quality", "judging them", "time/reward"),
    ("both", "learning from it", "time/update"),
];

fn cost(run: &Run) -> String {
    let times: Vec<Vec<(f64, f64)>> = PHASES.iter().map(|(_, _, metric)| run.metric(metric)).collect();
    let bars: Vec<(f64, Vec<f64>)> = times[0]
        .iter()
        .enumerate()
        .filter_map(|(i, (step, first))| Some((*step, vec![*first, times[1].get(i)?.1, times[2].get(i)?.1])))
        .collect();
    if bars.is_empty() {
        return String::new();
    }
    let totals: Vec<f64> = (0..3).map(|part| bars.iter().map(|(_, values)| values[part]).sum()).collect();
    let all: f64 = totals.iter().sum();
    let parts: Vec<(&str, &str)> = PHASES.iter().map(|(colour, name, _)| (*colour, *name)).collect();
    let batch = run.config.as_ref().map_or(0, |config| config.rollout.batch);
    let tokens: f64 = run.metric("response/length").iter().map(|(_, length)| length * batch as f64).sum();
    let mut facts = format!(
        "<dl class=\"facts\"><div><dt>Time of PPO</dt><dd>{}</dd></div><div><dt>Programs judged</dt><dd>{}</dd></div><div><dt>Tokens written</dt><dd>{}</dd></div>",
        duration(all),
        grouped((batch * bars.len()) as i64),
        grouped(tokens as i64)
    );
    for ((_, name), total) in parts.iter().zip(&totals) {
        let _ = write!(
            facts,
            "<div><dt>{name}</dt><dd>{} <small>{}</small></dd></div>",
            percent(total / all),
            duration(*total)
        );
    }
    if totals[1] > 0.0 {
        let _ = write!(
            facts,
            "<div><dt>Programs judged a second</dt><dd>{}</dd></div>",
            number((batch * bars.len()) as f64 / totals[1])
        );
    }
    let supervised: f64 = values(&run.sft_metrics, "sft/tokens").iter().map(|(_, y)| y).sum();
    if supervised > 0.0 {
        let _ = write!(
            facts,
            "<div><dt>Tokens of supervised training</dt><dd>{}</dd></div>",
            grouped(supervised as i64)
        );
    }
    let chart = stacked("Seconds a step", "step", &parts, &bars);
    format!("{facts}</dl><div class=\"charts\">{chart}</div>")
}

fn list(run: &Run) -> String {
    run.after().map_or(String::new(), |after| program_list::list(run.before(), after))
}

fn setup(run: &Run) -> String {
    if run.config_text.is_empty() {
        return String::new();
    }
    format!(
        "<details><summary>Configuration as resolved</summary><pre class=\"code raw\">{}</pre></details>",
        escape(&run.config_text)
    )
}
