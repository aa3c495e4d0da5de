//! The report of one run: what was done, whether it worked, and everything that the answer rests on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::chart::{Chart, Dot, Point, Series, Style, Unit, scatter, stacked};
use super::data::{Evaluation, Row, Run, Sample, values};
use super::html::{
    Cell, Page, counted, duration, escape, grouped, interval, number, percent, programs, table,
};
use super::programs::{self as program_list, Verdict, program, short};
use super::{hacking, verdict};
use crate::causes;
use crate::evaluation::{Counts, Rate};

/// How often a page of a run that goes on loads itself again, seconds.
const REFRESH: u32 = 15;

/// Steps whose rollouts are shown.
const STEPS_SHOWN: usize = 24;

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
            ("summary", "Before and after", summary(run)),
            ("curves", "Learning", curves(run)),
            ("balance", "Quality and function", balance(run)),
            ("weaknesses", "By weakness", weaknesses(run)),
            ("life", "The life of a task", life(run)),
            ("failures", "What still fails", failures(run)),
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
    let Some(after) = run.after().map(Evaluation::counts) else { return verdict::what_was_done(run) };
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
        "{}<div class=\"cards\">{cards}</div><p class=\"note\">Whiskers and small figures: 95 % Wilson intervals.</p>",
        verdict::what_was_done(run)
    )
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
    if run.evaluations.is_empty() {
        return Vec::new();
    }
    vec![Some(of("function", "function")), Some(of("quality", "quality")), Some(of("both", "both"))]
}

/// Quality against function: the way that training went, and how the two go together in single programs.
fn balance(run: &Run) -> String {
    let function = run.metric("reward/function");
    let quality: BTreeMap<u64, f64> =
        run.metric("reward/quality").into_iter().map(|(x, y)| (x as u64, y)).collect();
    let last = function.last().map_or(0.0, |(x, _)| *x);
    let dots: Vec<Dot> = function
        .iter()
        .filter_map(|(step, f)| {
            let q = quality.get(&(*step as u64))?;
            let ends = *step <= 1.0 || (step - last).abs() < 0.5;
            Some(Dot {
                x: *f,
                y: *q,
                size: if ends { 5.5 } else { 3.2 },
                colour: "ink".to_owned(),
                tip: format!("step {step}\nfunction {}\nquality {}", percent(*f), percent(*q)),
                label: if ends { format!("step {step}") } else { String::new() },
            })
        })
        .collect();
    let plot = scatter("Rollouts, step by step", "function", "quality", &[], &dots);
    let mut tables = String::new();
    for (when, evaluation) in
        run.before().map(|e| ("before", e)).into_iter().chain(run.after().map(|e| ("after", e)))
    {
        tables.push_str(&contingency(when, evaluation));
    }
    if plot.is_empty() && tables.is_empty() {
        return String::new();
    }
    format!("<div class=\"charts\">{plot}<div>{tables}</div></div>")
}

/// The table of function against quality, with their correlation φ.
fn contingency(when: &str, evaluation: &Evaluation) -> String {
    let mut counts: BTreeMap<Verdict, usize> = BTreeMap::new();
    for sample in evaluation.test() {
        *counts.entry(Verdict::of(&sample.score)).or_default() += 1;
    }
    let of = |function: bool, quality: bool| counts.get(&Verdict { function, quality }).copied().unwrap_or(0);
    let total = counts.values().sum::<usize>().max(1) as f64;
    let cell = |function: bool, quality: bool| {
        let sign = |on: bool| if on { "" } else { "-" };
        let query = format!("{}{when}:function {}{when}:quality", sign(function), sign(quality));
        let count = of(function, quality);
        Cell::number(count as f64, programs(&query, &count.to_string())).heat(count as f64 / total)
    };
    let rows = vec![
        vec![Cell::text("tests pass"), cell(true, true), cell(true, false)],
        vec![Cell::text("tests fail"), cell(false, true), cell(false, false)],
    ];
    let phi = phi(of(true, true), of(true, false), of(false, true), of(false, false));
    let correlation = phi.map_or(
        "One of the two is the same for all programs, so that there is no correlation.".to_owned(),
        |phi| format!("Correlation of function and quality: φ = {phi:.2}."),
    );
    format!(
        "<h3>Programs {when}</h3>{}<p class=\"note\">{correlation}</p>",
        table(&["", "good", "not good"], &rows)
    )
}

/// The correlation of two yes-or-no properties; nothing where one of them does not vary.
fn phi(both: usize, first: usize, second: usize, neither: usize) -> Option<f64> {
    let [a, b, c, d] = [both, first, second, neither].map(|n| n as f64);
    let spread = ((a + b) * (c + d) * (a + c) * (b + d)).sqrt();
    (spread > 0.0).then(|| (a * d - b * c) / spread)
}

/// The heat map of rates by weakness.
fn weaknesses(run: &Run) -> String {
    let Some(after) = run.after() else { return String::new() };
    let groups = |evaluation: &Evaluation| {
        let mut groups: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
        for sample in evaluation.test() {
            for cwe in sample.cwe.iter() {
                groups.entry(cwe.clone()).or_default().push(sample.clone());
            }
        }
        groups
            .into_iter()
            .map(|(name, samples)| (name, Counts::of(samples.iter().map(|s| s.score.as_ref()))))
            .collect::<BTreeMap<String, Counts>>()
    };
    let now = groups(after);
    let then = run.before().map(groups);
    if now.is_empty() {
        return String::new();
    }
    let mut headings = vec!["weakness", "tasks"];
    let when: &[(&str, &str)] =
        if then.is_some() { &[("before", "before"), ("after", "after")] } else { &[("after", "")] };
    let names: Vec<String> = RATES
        .iter()
        .flat_map(|(_, heading, _)| when.iter().map(move |(_, w)| format!("{heading} {w}")))
        .collect();
    headings.extend(names.iter().map(String::as_str));
    let mut weaknesses: Vec<(&String, &Counts)> = now.iter().collect();
    weaknesses.sort_by(|a, b| cwe_number(a.0).total_cmp(&cwe_number(b.0)));
    let rows: Vec<Vec<Cell>> = weaknesses
        .into_iter()
        .map(|(cwe, counts)| {
            let mut row = vec![
                Cell::number(cwe_number(cwe), programs(cwe, &escape(cwe))),
                Cell::number(counts.total as f64, counts.total.to_string()),
            ];
            for (name, _, _) in RATES {
                for (when, _) in when {
                    let counts =
                        if *when == "before" { then.as_ref().and_then(|t| t.get(cwe)) } else { Some(counts) };
                    row.push(counts.map_or(Cell::text("–"), |counts| {
                        let (_, rate) = rate(counts, name);
                        let link = programs(&format!("{cwe} {when}:{name}"), &percent(rate.value));
                        Cell::number(rate.value, link).heat(rate.value)
                    }));
                }
            }
            row
        })
        .collect();
    format!("<div class=\"heatmap\">{}</div>", table(&headings, &rows))
}

fn cwe_number(cwe: &str) -> f64 {
    cwe.trim_start_matches("CWE-").parse().unwrap_or(0.0)
}

/// The programs of a few tasks, from the first evaluation over the watched ones to the last.
fn life(run: &Run) -> String {
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

fn failures(run: &Run) -> String {
    let Some(after) = run.after() else { return String::new() };
    let now = causes::group(after.test().map(|s| s.score.as_ref()));
    let then: Option<BTreeMap<String, usize>> = run.before().map(|before| {
        causes::group(before.test().map(|s| s.score.as_ref()))
            .into_iter()
            .map(|g| (g.cause, g.count))
            .collect()
    });
    if now.is_empty() {
        return "<p class=\"lead\">Nothing: every program is right and good.</p>".to_owned();
    }
    let link = |when: &str, cause: &str, count: usize| {
        Cell::number(
            count as f64,
            programs(&format!("{when}:cause-{}", cause.replace(' ', "-")), &count.to_string()),
        )
    };
    let rows: Vec<Vec<Cell>> = now
        .iter()
        .map(|group| {
            let mut row = vec![Cell::text(escape(&group.cause))];
            if let Some(then) = &then {
                row.push(link("before", &group.cause, then.get(&group.cause).copied().unwrap_or(0)));
            }
            row.push(link("after", &group.cause, group.count));
            let examples: Vec<String> = group
                .examples
                .iter()
                .map(|(id, _)| programs(&format!("id:{id}"), &escape(short(id))))
                .collect();
            row.push(Cell::text(examples.join(", ")));
            row
        })
        .collect();
    let headings: &[&str] = if then.is_some() {
        &["cause", "before", "after", "examples"]
    } else {
        &["cause", "programs", "examples"]
    };
    format!(
        "<p class=\"note\">Each program counts once, under the first thing that is wrong with it.</p>{}",
        table(headings, &rows)
    )
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

/// The rollouts that were kept, of steps spread over the run.
fn rollouts(run: &Run) -> String {
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

fn setup(run: &Run) -> String {
    if run.config_text.is_empty() {
        return String::new();
    }
    format!(
        "<details><summary>Configuration as resolved</summary><pre class=\"code raw\">{}</pre></details>",
        escape(&run.config_text)
    )
}

#[cfg(test)]
mod tests {
    use super::phi;

    #[test]
    fn phi_of_known_tables() {
        let check = |table: [usize; 4], expected: Option<f64>| {
            let [a, b, c, d] = table;
            let found = phi(a, b, c, d);
            assert!(
                found.zip(expected).map_or(found == expected, |(f, e)| (f - e).abs() < 1e-9),
                "{found:?}"
            );
        };
        check([10, 0, 0, 10], Some(1.0));
        check([0, 10, 10, 0], Some(-1.0));
        check([5, 5, 5, 5], Some(0.0));
        check([10, 0, 10, 0], None);
    }
}
