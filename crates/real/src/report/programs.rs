//! Programs with their verdicts: side by side for one task, and the list of all tasks, which a query filters.
//!
//! Numbers of the page link here. A link carries a query of words such as `after:both -before:both CWE-89`; each task has the words that
//! are true of it, and the page's script shows the tasks that have all words of the query. A user may type queries too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use real_reward::{CaseKind, CaseVerdict, Score, extract};

use super::data::{Evaluation, Sample};
use super::highlight;
use super::html::{counted, escape};

/// Whether a program is right, and whether it is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Verdict {
    pub function: bool,
    pub quality: bool,
}

impl Verdict {
    pub(super) fn of(score: &Score) -> Self {
        Self { function: score.passed, quality: score.quality.is_some_and(|quality| quality >= 1.0) }
    }

    pub(super) fn both(self) -> bool {
        self.function && self.quality
    }

    /// In words.
    pub(super) fn text(self) -> &'static str {
        match (self.function, self.quality) {
            (true, true) => "right and good",
            (true, false) => "right, not good",
            (false, true) => "good, not right",
            (false, false) => "neither",
        }
    }
}

/// A program with its verdicts, the findings explained.
pub(super) fn program(sample: &Sample) -> String {
    let score = &sample.score;
    let program = extract(&sample.completion).code;
    let shown = match &program {
        Some(program) if !program.trim().is_empty() => highlight::code(program, score),
        Some(_) => "<p class=\"note\">An empty program.</p>".to_owned(),
        None => format!(
            "<p class=\"note\">No closed code block in the answer:</p><pre class=\"code raw\">{}</pre>",
            escape(&sample.completion)
        ),
    };
    format!("<div class=\"program\">{}{shown}{}</div>", chips(score), explanations(score))
}

/// The verdicts at a glance.
pub(super) fn chips(score: &Score) -> String {
    let mut chips = Vec::new();
    let mut chip = |good: bool, text: String| {
        let (class, sign) = if good { ("yes", "✓") } else { ("no", "✗") };
        chips.push(format!("<span class=\"chip {class}\">{sign} {text}</span>"));
    };
    if let Some(error) = &score.infra_error {
        return format!("<p class=\"chips\"><span class=\"chip\">no verdict: {}</span></p>", escape(error));
    }
    let tests = &score.tests;
    chip(score.passed, format!("{} of {} tests", tests.passed, tests.total));
    let found = score.findings.iter().filter(|finding| finding.counted).count();
    chip(
        found == 0,
        if found == 0 { "no weakness".to_owned() } else { plural(found, "weakness", "weaknesses") },
    );
    if !score.type_errors.is_empty() {
        chip(false, counted(score.type_errors.len(), "type error"));
    }
    if !score.parsed {
        chip(false, "does not parse".to_owned());
    }
    if let Some(attacks) = tests.by_kind.get("attack") {
        let text = format!("{} of {} attacks withstood", attacks.passed, attacks.total);
        chip(attacks.passed == attacks.total, text);
    }
    for flag in &score.flags {
        chips.push(format!("<span class=\"chip flag\">⚑ {}</span>", escape(flag)));
    }
    format!("<p class=\"chips\">{}</p>", chips.join(" "))
}

fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Findings with their flows, type errors, and what failed in the tests.
fn explanations(score: &Score) -> String {
    let mut items = String::new();
    let mut step = 1;
    for finding in score.findings.iter().filter(|finding| finding.counted) {
        let _ = write!(
            items,
            "<li class=\"bad\"><b>{}</b> {}",
            escape(finding.cwe.first().map_or("weakness", String::as_str)),
            escape(&finding.message)
        );
        if !finding.flow.is_empty() {
            let _ = write!(items, "<ol start=\"{step}\">");
            for part in &finding.flow {
                let _ = write!(items, "<li>line {}: {}</li>", part.line, escape(&part.message));
            }
            items.push_str("</ol>");
        }
        step += finding.flow.len();
        items.push_str("</li>");
    }
    for error in &score.type_errors {
        let _ = write!(
            items,
            "<li class=\"typ\">line {}: {} <code>{}</code></li>",
            error.line,
            escape(&error.message),
            escape(&error.code)
        );
    }
    for (what, count) in failures(score) {
        let times = if count > 1 { format!(" ({count} times)") } else { String::new() };
        let _ = write!(items, "<li>{}{times}</li>", escape(&what));
    }
    if items.is_empty() { items } else { format!("<ul class=\"why\">{items}</ul>") }
}

/// What went wrong in the tests, and how often.
fn failures(score: &Score) -> BTreeMap<String, usize> {
    let mut failures = BTreeMap::new();
    for case in score.tests.cases.iter().filter(|case| case.verdict != CaseVerdict::Pass) {
        let kind = match case.kind {
            CaseKind::Function => "test",
            CaseKind::Attack => "attack",
        };
        let detail = if case.detail.is_empty() { String::new() } else { format!(": {}", case.detail) };
        *failures.entry(format!("{kind} {}{detail}", describe(case.verdict))).or_default() += 1;
    }
    failures
}

/// A verdict in words.
pub(super) fn describe(verdict: CaseVerdict) -> &'static str {
    match verdict {
        CaseVerdict::Pass => "passed",
        CaseVerdict::Wrong => "gave a wrong result",
        CaseVerdict::Raised => "raised an exception",
        CaseVerdict::SyntaxError => "could not start, for a syntax error",
        CaseVerdict::Missing => "found no entry point",
        CaseVerdict::Exited => "ended before it answered",
        CaseVerdict::Signaled => "was killed by a signal",
        CaseVerdict::Timeout => "ran out of time",
        CaseVerdict::Memory => "ran out of memory",
        CaseVerdict::Output => "printed too much",
        CaseVerdict::Skipped => "was not run",
    }
}

/// The list of all tasks of the first and the last evaluation, with a box for queries.
pub(super) fn list(first: Option<&Evaluation>, last: &Evaluation) -> String {
    let before: BTreeMap<(&str, u64), &Sample> =
        first.into_iter().flat_map(|e| &e.samples).map(|s| (s.key(), s)).collect();
    let mut html = format!(
        "<p class=\"query\"><input id=\"query\" type=\"search\" autocomplete=\"off\" \
         placeholder=\"Filter: after:both, -before:both, CWE-89 …\" aria-label=\"Filter\">\
         <output id=\"count\">{}</output></p><p class=\"presets\">",
        counted(last.samples.len(), "program")
    );
    let compared: &[(&str, &str)] =
        &[("won", "after:both -before:both"), ("lost", "before:both -after:both")];
    let presets: &[(&str, &str)] = &[
        ("all", ""),
        ("right and good", "after:both"),
        ("not right", "-after:function"),
        ("not good", "-after:quality"),
        ("flagged", "flagged"),
    ];
    for (name, query) in presets.iter().chain(if first.is_some() { compared } else { &[] }) {
        let _ = write!(html, "<button type=\"button\" data-query=\"{query}\">{name}</button>");
    }
    html.push_str(
        "</p><p class=\"note\"><i class=\"light c-function on\"></i> tests pass \
         <i class=\"light c-quality on\"></i> good <i class=\"light c-ink off\"></i> not so</p><div id=\"tasks\">",
    );
    for sample in &last.samples {
        html.push_str(&task(before.get(&sample.key()).copied(), sample));
    }
    html + "</div>"
}

fn task(before: Option<&Sample>, after: &Sample) -> String {
    let words: Vec<String> = words(before, after).into_iter().collect();
    let lights = |sample: &Sample| {
        let Verdict { function, quality } = Verdict::of(&sample.score);
        let light = |on: bool, class: &str, name: &str| {
            let (state, word) = if on { ("on", "yes") } else { ("off", "no") };
            format!("<i class=\"light c-{class} {state}\" title=\"{name}: {word}\"></i>")
        };
        light(function, "function", "function") + &light(quality, "quality", "quality")
    };
    let history = match before {
        Some(before) => format!("{} <span class=\"arrow\">→</span> {}", lights(before), lights(after)),
        None => lights(after),
    };
    let number = if after.score.sample > 0 { format!(" #{}", after.score.sample) } else { String::new() };
    let columns = match before {
        Some(before) => format!(
            "<div><h4>before</h4>{}</div><div><h4>after</h4>{}</div>",
            program(before),
            program(after)
        ),
        None => format!("<div>{}</div>", program(after)),
    };
    format!(
        "<details class=\"task\" data-words=\"{}\"><summary><span class=\"id\">{}{number}</span>\
         <span class=\"cwe\">{}</span><span class=\"lights\">{history}</span></summary>\
         <p class=\"prompt\">{}</p><div class=\"sides\">{columns}</div></details>",
        escape(&words.join(" ")),
        escape(short(&after.task_id)),
        escape(&after.cwe.join(" ")),
        escape(&after.prompt),
    )
}

/// The part of an identifier that tells tasks apart.
pub(super) fn short(task_id: &str) -> &str {
    task_id.strip_prefix("starter/").unwrap_or(task_id)
}

/// What is true of a task, in the words of queries.
fn words(before: Option<&Sample>, after: &Sample) -> BTreeSet<String> {
    let mut words: BTreeSet<String> = after.cwe.iter().cloned().collect();
    words.insert(format!("split:{}", after.split()));
    words.insert(format!("id:{}", after.task_id));
    for (when, sample) in before.map(|b| ("before", b)).into_iter().chain([("after", after)]) {
        let score = &sample.score;
        let Verdict { function, quality } = Verdict::of(score);
        let facts = [(function, "function"), (quality, "quality"), (function && quality, "both")];
        words.extend(facts.iter().filter(|(holds, _)| *holds).map(|(_, name)| format!("{when}:{name}")));
        if let Some(attacks) = score.tests.by_kind.get("attack") {
            let withstood = if attacks.passed == attacks.total { "withstood" } else { "hit" };
            words.insert(format!("{when}:{withstood}"));
        }
        let found = score.findings.iter().filter(|finding| finding.counted);
        words.extend(found.map(|finding| format!("{when}:{}", finding.rule)));
        if !score.type_errors.is_empty() {
            words.insert(format!("{when}:type-error"));
        }
        words.extend(score.flags.iter().map(|flag| format!("{when}:{flag}")));
        words.insert(format!("{when}:{}", crate::causes::slug(score)));
    }
    if !after.score.flags.is_empty() {
        words.insert("flagged".to_owned());
    }
    words.into_iter().map(|word| word.replace(' ', "-")).collect()
}
