//! The report of an experiment: settings side by side, over seeds.
//!
//! A figure of a setting is the mean over its seeds, with the 95 % interval of Student's t, which says where the mean of many more seeds would lie.
//! With one seed it is that run's rate and its Wilson interval, which says the same of many more tasks, and nothing of seeds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;

use super::chart::{Chart, Dot, Mean, Point, Series, Style, Unit, dot_plot, scatter};
use super::data::{Evaluation, Run};
use super::hacking;
use super::html::{Cell, Page, counted, duration, escape, interval, percent, table};
use crate::causes;
use crate::evaluation::{Counts, Rate};
use crate::experiment::{DESCRIPTION, Experiment, run_folder};

/// A setting with the runs that there are of it.
struct Group {
    name: String,
    /// By seed, with the folder of the run relative to the experiment's.
    runs: Vec<(u64, String, Run)>,
}

/// The page of an experiment.
pub(super) fn page(folder: &Path) -> Result<Page> {
    let experiment = Experiment::read(&folder.join(DESCRIPTION))?;
    let groups = read(&experiment, folder)?;
    let name = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let name = name.file_name().map_or("experiment".to_owned(), |name| name.to_string_lossy().into_owned());
    let done: usize = groups.iter().map(|group| group.runs.len()).sum();
    let planned = experiment.setting.len() * experiment.seeds.len();
    let missing = if done < planned {
        format!("<p class=\"state\">{done} of {planned} runs are done; the figures are of those.</p>")
    } else {
        String::new()
    };
    let head = format!(
        "<p class=\"kicker\">{} · {}</p><h1 class=\"verdict open\">{}</h1>{}{missing}",
        escape(&name),
        escape(&experiment.question),
        verdict(&groups),
        against_the_first(&groups),
    );
    Ok(Page {
        title: format!("{name} · real"),
        head,
        refresh: None,
        sections: vec![
            ("summary", "Settings side by side", settings(&groups)),
            ("curves", "Learning", curves(&groups)),
            ("balance", "Quality and function", balance(&groups)),
            ("weaknesses", "By weakness", weaknesses(&groups)),
            ("failures", "What fails", failures(&groups)),
            ("hacking", "Reward hacking?", suspicions(&groups)),
            ("cost", "Cost", cost(&groups)),
            ("setup", "Set-up", setup(&experiment)),
        ],
    })
}

fn read(experiment: &Experiment, folder: &Path) -> Result<Vec<Group>> {
    let mut groups = Vec::new();
    for setting in &experiment.setting {
        let mut runs = Vec::new();
        for seed in &experiment.seeds {
            let path = run_folder(folder, setting, *seed);
            if path.join("config.toml").exists() || path.join("samples.jsonl").exists() {
                let run = Run::read(&path)?;
                let relative = path.strip_prefix(folder).unwrap_or(&path).display().to_string();
                if run.after().is_some() && !run.is_unfinished() {
                    runs.push((*seed, relative, run));
                }
            }
        }
        groups.push(Group { name: setting.name.clone(), runs });
    }
    Ok(groups)
}

/// The rates that are compared.
const RATES: [(&str, &str); 4] =
    [("function", "Function"), ("quality", "Quality"), ("both", "Both"), ("withstood", "Under attack")];

fn rate(counts: &Counts, name: &str) -> Rate {
    let rates = counts.rates();
    match name {
        "function" => rates.function,
        "quality" => rates.quality,
        "withstood" => rates.withstood,
        _ => rates.joint,
    }
}

impl Group {
    fn after(&self) -> impl Iterator<Item = &Evaluation> {
        self.runs.iter().filter_map(|(_, _, run)| run.after())
    }

    /// A rate after training: the mean over seeds with its interval, and the rates of the runs.
    fn rate(&self, name: &str) -> Option<(Rate, Vec<f64>)> {
        let rates: Vec<Rate> = self
            .after()
            .map(Evaluation::counts)
            .filter(|counts| name != "withstood" || counts.attacked > 0)
            .map(|counts| rate(&counts, name))
            .collect();
        let values: Vec<f64> = rates.iter().map(|rate| rate.value).collect();
        match rates.as_slice() {
            [] => None,
            [only] => Some((*only, values)),
            _ => {
                let (value, half) = mean(&values);
                Some((Rate { value, low: (value - half).max(0.0), high: (value + half).min(1.0) }, values))
            }
        }
    }

    /// The same metric of all runs, step by step.
    fn curve(&self, metric: &str) -> Vec<Point> {
        let mut steps: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for (_, _, run) in &self.runs {
            for (step, value) in run.metric(metric) {
                steps.entry(step as u64).or_default().push(value);
            }
        }
        steps
            .into_iter()
            .map(|(step, values)| {
                let low = values.iter().copied().fold(f64::INFINITY, f64::min);
                let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                Point {
                    x: step as f64,
                    y: values.iter().sum::<f64>() / values.len() as f64,
                    band: (values.len() > 1).then_some((low, high)),
                }
            })
            .collect()
    }
}

/// The 97.5 % quantiles of Student's t for 1, 2, … degrees of freedom.
const STUDENT: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];

/// The mean of two or more values, and half the width of its 95 % interval.
fn mean(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let quantile = STUDENT.get(values.len() - 2).copied().unwrap_or(2.1);
    (mean, quantile * (variance / n).sqrt())
}

fn verdict(groups: &[Group]) -> String {
    let mut rates: Vec<(&str, f64)> =
        groups.iter().filter_map(|group| Some((group.name.as_str(), group.rate("both")?.0.value))).collect();
    rates.sort_by(|a, b| b.1.total_cmp(&a.1));
    match rates.as_slice() {
        [] => "No run is finished yet.".to_owned(),
        [(name, value)] => {
            format!("{}: {} of the programs are right and good.", escape(name), percent(*value))
        }
        [(best, high), .., (worst, low)] => format!(
            "“{}” has the most right and good programs, {}; “{}” has the fewest, {}.",
            escape(best),
            percent(*high),
            escape(worst),
            percent(*low)
        ),
    }
}

/// Each setting's joint rate less that of the first, seed by seed.
fn against_the_first(groups: &[Group]) -> String {
    let Some((first, others)) = groups.split_first() else { return String::new() };
    let joint = |group: &Group| -> BTreeMap<u64, f64> {
        group
            .runs
            .iter()
            .filter_map(|(seed, _, run)| Some((*seed, run.after()?.counts().rates().joint.value)))
            .collect()
    };
    let base = joint(first);
    let sentences: Vec<String> = others
        .iter()
        .filter_map(|group| {
            let differences: Vec<f64> =
                joint(group).iter().filter_map(|(seed, rate)| Some(rate - base.get(seed)?)).collect();
            let points = |x: f64| format!("{:+.0}", 100.0 * x).replace('-', "−");
            match differences.as_slice() {
                [] => None,
                [only] => Some(format!("{} {} points (one seed)", escape(&group.name), points(*only))),
                _ => {
                    let (mean, half) = mean(&differences);
                    let clear = if mean.abs() > half { "" } else { ", not clear" };
                    let range = format!("{} to {}", points(mean - half), points(mean + half));
                    Some(format!("{} {} points ({range}{clear})", escape(&group.name), points(mean)))
                }
            }
        })
        .collect();
    if sentences.is_empty() {
        return String::new();
    }
    format!(
        "<p>Right and good, against “{}” seed by seed: {}.</p>",
        escape(&first.name),
        sentences.join("; ")
    )
}

fn settings(groups: &[Group]) -> String {
    let rows: Vec<(String, Vec<Mean>)> = groups
        .iter()
        .map(|group| {
            let means = RATES
                .iter()
                .filter_map(|(name, heading)| {
                    let (rate, runs) = group.rate(name)?;
                    let of_runs: Vec<String> = runs.iter().map(|r| percent(*r)).collect();
                    let tip = format!(
                        "{}\n{heading} {} ({}–{})\nruns: {}",
                        group.name,
                        percent(rate.value),
                        percent(rate.low),
                        percent(rate.high),
                        of_runs.join(", ")
                    );
                    let Rate { value, low, high } = rate;
                    Some(Mean { colour: (*name).to_owned(), value, low, high, runs, tip })
                })
                .collect();
            (group.name.clone(), means)
        })
        .filter(|(_, means): &(String, Vec<Mean>)| !means.is_empty())
        .collect();
    let plot = dot_plot("On unseen tasks", &RATES, &rows);
    let before = groups.iter().flat_map(|group| &group.runs).find_map(|(_, _, run)| run.before());
    let note = before.map_or(String::new(), |before| {
        let rates = before.counts().rates();
        format!(
            "<p class=\"note\">Before training (first run): function {}, quality {}, both {}.</p>",
            percent(rates.function.value),
            percent(rates.quality.value),
            percent(rates.joint.value)
        )
    });
    format!(
        "<div class=\"charts\">{plot}<div>{}{note}<p class=\"note\">Means over seeds with the 95 % interval of Student’s t; with a single \
         seed, Wilson’s interval of its tasks. Small dots are single runs; each seed links to its own report.</p></div></div>",
        overview(groups)
    )
}

fn overview(groups: &[Group]) -> String {
    let rows: Vec<Vec<Cell>> = groups
        .iter()
        .map(|group| {
            let mut row = vec![Cell::text(escape(&group.name))];
            for (name, _) in RATES {
                row.push(group.rate(name).map_or(Cell::text("–"), |(rate, _)| {
                    let range = format!("<br><small>{}</small>", interval(&rate));
                    Cell::number(rate.value, percent(rate.value) + &range).heat(rate.value)
                }));
            }
            let seeds: Vec<String> = group
                .runs
                .iter()
                .map(|(seed, folder, _)| format!("<a href=\"{}/report.html\">{seed}</a>", escape(folder)))
                .collect();
            row.push(Cell::text(seeds.join(" ")));
            row
        })
        .collect();
    table(&["setting", "Function", "Quality", "Both", "Under attack", "seeds"], &rows)
}

fn curves(groups: &[Group]) -> String {
    let chart = |title: &str, metric: &str, unit: Unit| {
        let series = groups
            .iter()
            .enumerate()
            .map(|(index, group)| Series {
                name: group.name.clone(),
                colour: (index % 8).to_string(),
                points: group.curve(metric),
                style: Style::Line,
            })
            .filter(|series| !series.points.is_empty())
            .collect();
        Chart { title, x_label: "step", x_unit: Unit::Number, y_unit: unit, series }.render()
    };
    let charts = [
        chart("Rollouts: right and good", "reward/joint", Unit::Fraction),
        chart("Rollouts: function", "reward/function", Unit::Fraction),
        chart("Rollouts: quality", "reward/quality", Unit::Fraction),
        chart("KL divergence from the start", "objective/kl", Unit::Number),
        chart("Length of a response, tokens", "response/length", Unit::Number),
        chart("Rollouts that cannot run", "reward/not_runnable", Unit::Fraction),
    ]
    .concat();
    if charts.is_empty() {
        return charts;
    }
    format!(
        "<p class=\"note\">Lines are means over seeds, bands reach from the lowest to the highest. The reward’s own judges measure these; the \
         evaluations above are judged alike for all settings.</p><div class=\"charts\">{charts}</div>"
    )
}

fn balance(groups: &[Group]) -> String {
    let mut dots = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        for (seed, _, run) in &group.runs {
            let Some(rates) = run.after().map(|after| after.counts().rates()) else { continue };
            let (x, y) = (rates.function.value, rates.quality.value);
            dots.push(Dot {
                x,
                y,
                size: 5.0,
                colour: (index % 8).to_string(),
                tip: format!("{}, seed {seed}\nfunction {}\nquality {}", group.name, percent(x), percent(y)),
                label: String::new(),
            });
        }
    }
    let correlation = pearson(&dots.iter().map(|dot| (dot.x, dot.y)).collect::<Vec<_>>())
        .map_or(String::new(), |r| format!("<p class=\"note\">Correlation over runs: r = {r:.2}.</p>"));
    let colours: Vec<String> = (0..groups.len()).map(|index| (index % 8).to_string()).collect();
    let legend: Vec<(&str, &str)> = groups
        .iter()
        .zip(&colours)
        .filter(|(group, _)| !group.runs.is_empty())
        .map(|(group, colour)| (colour.as_str(), group.name.as_str()))
        .collect();
    let plot = scatter("Runs", "function", "quality", &legend, &dots);
    if plot.is_empty() { plot } else { format!("<div class=\"charts\">{plot}</div>{correlation}") }
}

/// The correlation of two quantities; nothing with fewer than three points or without spread.
fn pearson(points: &[(f64, f64)]) -> Option<f64> {
    let n = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
    let (mx, my) = (mean(|p| p.0), mean(|p| p.1));
    let sum = |of: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>();
    let spread = (sum(&|p| (p.0 - mx).powi(2)) * sum(&|p| (p.1 - my).powi(2))).sqrt();
    (points.len() > 2 && spread > 1e-12).then(|| sum(&|p| (p.0 - mx) * (p.1 - my)) / spread)
}

fn weaknesses(groups: &[Group]) -> String {
    let by_cwe = |group: &Group| {
        let mut scores: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for sample in group.after().flat_map(Evaluation::test) {
            for cwe in sample.cwe.iter() {
                scores.entry(cwe.clone()).or_default().push(sample.score.as_ref());
            }
        }
        scores.into_iter().map(|(cwe, scores)| (cwe, Counts::of(scores))).collect::<BTreeMap<_, _>>()
    };
    let columns: Vec<(&str, BTreeMap<String, Counts>)> =
        groups.iter().filter(|g| !g.runs.is_empty()).map(|g| (g.name.as_str(), by_cwe(g))).collect();
    let names: BTreeSet<&String> = columns.iter().flat_map(|(_, counts)| counts.keys()).collect();
    if names.is_empty() {
        return String::new();
    }
    let headings: Vec<String> =
        ["weakness".to_owned()].into_iter().chain(columns.iter().map(|(name, _)| escape(name))).collect();
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let rows: Vec<Vec<Cell>> = names
        .iter()
        .map(|cwe| {
            let order = cwe.trim_start_matches("CWE-").parse().unwrap_or(0.0);
            let cells = columns.iter().map(|(_, counts)| {
                counts.get(*cwe).map_or(Cell::text("–"), |counts| {
                    let value = counts.rates().joint.value;
                    Cell::number(value, format!("{} <small>of {}</small>", percent(value), counts.total))
                        .heat(value)
                })
            });
            [Cell::number(order, escape(cwe))].into_iter().chain(cells).collect()
        })
        .collect();
    format!("<p class=\"note\">Right and good programs, all seeds together.</p>{}", table(&headings, &rows))
}

fn failures(groups: &[Group]) -> String {
    let columns: Vec<(&str, usize, BTreeMap<String, usize>)> = groups
        .iter()
        .filter(|group| !group.runs.is_empty())
        .map(|group| {
            let scores: Vec<_> = group.after().flat_map(Evaluation::test).map(|s| s.score.as_ref()).collect();
            let total = scores.len();
            let causes = causes::group(scores).into_iter().map(|g| (g.cause, g.count)).collect();
            (group.name.as_str(), total, causes)
        })
        .collect();
    let names: BTreeSet<&String> = columns.iter().flat_map(|(_, _, counts)| counts.keys()).collect();
    if names.is_empty() {
        return String::new();
    }
    let headings: Vec<String> =
        ["cause".to_owned()].into_iter().chain(columns.iter().map(|(name, _, _)| escape(name))).collect();
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let rows: Vec<Vec<Cell>> = names
        .iter()
        .map(|cause| {
            let cells = columns.iter().map(|(_, total, counts)| {
                let share = counts.get(*cause).copied().unwrap_or(0) as f64 / (*total).max(1) as f64;
                Cell::number(share, if share > 0.0 { percent(share) } else { "·".to_owned() }).heat(share)
            });
            [Cell::text(escape(cause))].into_iter().chain(cells).collect()
        })
        .collect();
    format!(
        "<p class=\"note\">Share of programs, all seeds together. Each program counts once, under the first thing that is wrong with it.</p>{}",
        table(&headings, &rows)
    )
}

fn suspicions(groups: &[Group]) -> String {
    let mut rows = Vec::new();
    for group in groups {
        for (seed, folder, run) in &group.runs {
            for sign in hacking::signs(run).iter().filter(|sign| sign.look) {
                // Links inside of the text lead to programs of the run's own page.
                let found =
                    sign.found.replace("href=\"#", &format!("href=\"{}/report.html#", escape(folder)));
                rows.push(vec![
                    Cell::text(escape(&group.name)),
                    Cell::number(*seed as f64, seed.to_string()),
                    Cell::text(sign.what),
                    Cell::text(found),
                ]);
            }
        }
    }
    match (rows.is_empty(), groups.iter().all(|group| group.runs.is_empty())) {
        (_, true) => String::new(),
        (true, false) => "<p class=\"lead\">Nothing suspicious was found in any run.</p>".to_owned(),
        (false, false) => table(&["setting", "seed", "sign", "found"], &rows),
    }
}

fn cost(groups: &[Group]) -> String {
    let seconds = |run: &Run| {
        let total = |metric: &str| run.metric(metric).iter().map(|(_, y)| y).sum::<f64>();
        total("time/rollout") + total("time/reward") + total("time/update")
    };
    let all: f64 = groups.iter().flat_map(|group| &group.runs).map(|(_, _, run)| seconds(run)).sum();
    let runs: usize = groups.iter().map(|group| group.runs.len()).sum();
    if all <= 0.0 {
        return String::new();
    }
    let rows: Vec<Vec<Cell>> = groups
        .iter()
        .filter(|group| !group.runs.is_empty())
        .map(|group| {
            let mean =
                group.runs.iter().map(|(_, _, run)| seconds(run)).sum::<f64>() / group.runs.len() as f64;
            vec![Cell::text(escape(&group.name)), Cell::number(mean, duration(mean))]
        })
        .collect();
    format!(
        "<p class=\"lead\">{} took {} of PPO together.</p>{}",
        counted(runs, "run"),
        duration(all),
        table(&["setting", "time of PPO, mean over seeds"], &rows)
    )
}

fn setup(experiment: &Experiment) -> String {
    let text = toml::to_string(experiment).unwrap_or_default();
    format!(
        "<details><summary>The experiment as resolved</summary><pre class=\"code raw\">{}</pre></details>",
        escape(&text)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn students_interval_of_known_values() {
        let (value, half) = mean(&[0.5, 0.6, 0.7]);
        assert!((value - 0.6).abs() < 1e-12);
        assert!((half - 0.2484).abs() < 1e-3, "{half}");
    }

    #[test]
    fn correlation_of_known_points() {
        assert!(pearson(&[(0.0, 0.0), (1.0, 2.0), (2.0, 4.0)]).is_some_and(|r| (r - 1.0).abs() < 1e-12));
        assert!(pearson(&[(0.0, 1.0), (1.0, 0.0)]).is_none());
        assert!(pearson(&[(0.0, 1.0), (0.0, 0.0), (0.0, 2.0)]).is_none());
    }
}
