//! Counts of a run as tables, each cell with a link to the programs that it counts: function against quality, rates by weakness, causes of
//! failure.

use std::collections::BTreeMap;

use super::{RATES, rate};
use crate::causes;
use crate::evaluation::Counts;
use crate::report::chart::{Dot, scatter};
use crate::report::data::{Evaluation, Run, Sample};
use crate::report::html::{Cell, escape, percent, programs, table};
use crate::report::programs::{Verdict, short};

/// Quality against function: the way that training went, and how the two go together in single programs.
pub(super) fn balance(run: &Run) -> String {
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
        tables.push_str(&contingency(run, when, evaluation));
    }
    if plot.is_empty() && tables.is_empty() {
        return String::new();
    }
    format!("<div class=\"charts\">{plot}<div>{tables}</div></div>")
}

/// The table of function against quality, with their correlation φ.
fn contingency(run: &Run, when: &str, evaluation: &Evaluation) -> String {
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
    let heading = if run.before().is_some() { format!("Programs {when}") } else { "Programs".to_owned() };
    format!(
        "<h3>{heading}</h3>{}<p class=\"note\">{correlation}</p>",
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
pub(super) fn weaknesses(run: &Run) -> String {
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

/// Why programs fail, before and after.
pub(super) fn failures(run: &Run) -> String {
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
