//! Reads templates: Markdown files with a list of properties, then sections.
//!
//! ````text
//! # sql_lookup
//! - cwe: CWE-89                    one or more, separated by commas
//! - split: train                   or held-out
//! - signature: find_{{table}}({{key}}: str) -> list[str]      what `{{signature}}` stands for below
//! - slots: table, key=text_column  words of the prompt: they make the instance
//! - hidden: person                 words of the tests alone
//! - returns: html                  optional: what the returned value is
//! - prelude: shell                 optional: a shared prelude, `starter/shell.py`
//! - detection: optional            where an analyzer need not know the weakness: becomes a label
//!
//! ## Prompt
//! ## Prelude                        further sections are fenced blocks; this one is optional
//! ## File data.db                   optional: a script that writes the file
//! ## Tests                          a JSON object a line: `real_reward::Case`
//! ## Attacks                        likewise
//! ## Secure: placeholders           a solution: its kind, its style
//! ````

use std::collections::BTreeMap;

use crate::starter::lexicon::{Bindings, Slot};
use crate::{Case, FileSpec, Solution, SolutionKind};

/// A task with slots.
pub(super) struct Template {
    pub(super) name: String,
    pub(super) cwe: Vec<String>,
    pub(super) held_out: bool,
    /// Name of the function to write.
    pub(super) entry_point: String,
    pub(super) returns: Option<String>,
    /// Labels of the tasks, but for the split.
    pub(super) labels: BTreeMap<String, String>,
    /// Slots of the prompt: they make the instance.
    pub(super) slots: Vec<Slot>,
    /// Slots of the tests alone.
    pub(super) hidden: Vec<Slot>,
    pub(super) prompt: String,
    pub(super) prelude: String,
    pub(super) tests: String,
    pub(super) attacks: String,
    files: Vec<(String, String)>,
    solutions: Vec<Solution>,
}

macro_rules! templates {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("templates/", $name, ".md")))),*]
    };
}

const SOURCES: &[(&str, &str)] = templates! {
    "change_fields"
    "eval_entry"
    "eval_list"
    "eval_number"
    "eval_operator"
    "fetch_host"
    "fetch_page"
    "hash_check"
    "hash_digest"
    "header_line"
    "html_element"
    "html_input"
    "html_link"
    "html_row"
    "load_entry"
    "load_numbers"
    "path_lines"
    "path_read"
    "path_save"
    "redirect_host"
    "redirect_page"
    "shell_pair"
    "shell_run"
    "shell_status"
    "sql_count"
    "sql_delete"
    "sql_exists"
    "sql_insert"
    "sql_lookup"
    "sql_order"
    "sql_search"
    "sql_update"
};

/// Every template, in the order of the list above.
pub(super) fn all() -> Vec<Template> {
    SOURCES.iter().map(|(name, source)| Template::parse(name, source)).collect()
}

/// The cases of a section: a JSON object a line.
pub(super) fn cases(section: &str, bindings: &Bindings) -> Vec<Case> {
    bindings
        .fill(section)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in the case {line}")))
        .collect()
}

impl Template {
    fn parse(name: &str, source: &str) -> Self {
        let (head, body) = source.split_once("\n## ").unwrap_or_else(|| panic!("{name}: no sections"));
        let signature = property(head, "signature").unwrap_or_else(|| panic!("{name}: no signature"));
        let body = body.replace("{{signature}}", signature);
        let mut template = Self::with_properties(name, head, signature);
        for section in body.split("\n## ") {
            let (heading, text) =
                section.split_once('\n').unwrap_or_else(|| panic!("{name}: an empty section"));
            template.add_section(heading, text);
        }
        template
    }

    fn with_properties(name: &str, head: &str, signature: &str) -> Self {
        let title = head.lines().next().and_then(|line| line.strip_prefix("# "));
        assert_eq!(title, Some(name), "the title is the file's name");
        let list = |key: &str| property(head, key).unwrap_or_default();
        let slots = |key: &str| list(key).split_terminator(',').map(Slot::parse).collect();
        Self {
            name: name.to_owned(),
            cwe: list("cwe").split(", ").map(str::to_owned).collect(),
            held_out: match list("split") {
                "train" => false,
                "held-out" => true,
                other => panic!("{name}: no split {other:?}"),
            },
            entry_point: signature.split_once('(').expect("a signature has parameters").0.to_owned(),
            returns: property(head, "returns").map(str::to_owned),
            labels: [("template", Some(name)), ("detection", property(head, "detection"))]
                .into_iter()
                .filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))
                .collect(),
            slots: slots("slots"),
            hidden: slots("hidden"),
            prompt: String::new(),
            prelude: shared_prelude(list("prelude")).to_owned(),
            tests: String::new(),
            attacks: String::new(),
            files: Vec::new(),
            solutions: Vec::new(),
        }
    }

    fn add_section(&mut self, heading: &str, text: &str) {
        if heading == "Prompt" {
            self.prompt = text.split_whitespace().collect::<Vec<_>>().join(" ");
            return;
        }
        let text = fenced(text).unwrap_or_else(|| panic!("{}: no fenced block in {heading}", self.name));
        match heading {
            "Prelude" => self.prelude.push_str(text),
            "Tests" => text.clone_into(&mut self.tests),
            "Attacks" => text.clone_into(&mut self.attacks),
            _ => {
                if let Some(file) = heading.strip_prefix("File ") {
                    self.files.push((file.to_owned(), text.to_owned()));
                } else {
                    self.solutions.push(solution(heading, text));
                }
            }
        }
    }

    /// How many ways there are to fill the slots, the ways that use a word twice included.
    pub(super) fn combinations(&self) -> u64 {
        self.slots.iter().map(|slot| slot.len() as u64).product()
    }

    /// The combination of this number, unless it uses a word twice.
    pub(super) fn bindings(&self, mut number: u64) -> Option<Bindings> {
        let mut bindings = Bindings::default();
        for slot in &self.slots {
            let size = slot.len() as u64;
            if !bindings.bind(slot, (number % size) as usize) {
                return None;
            }
            number /= size;
        }
        Some(bindings)
    }

    pub(super) fn files(&self, bindings: &Bindings) -> Vec<FileSpec> {
        let built = |(name, script): &(String, String)| FileSpec::Built {
            name: bindings.fill(name),
            script: bindings.fill(script),
        };
        self.files.iter().map(built).collect()
    }

    pub(super) fn solutions(&self, bindings: &Bindings) -> Vec<Solution> {
        let fill = |solution: &Solution| Solution { code: bindings.fill(&solution.code), ..solution.clone() };
        self.solutions.iter().map(fill).collect()
    }
}

/// The value of a line such as `- key: value`.
fn property<'a>(head: &'a str, key: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix("- ")?.strip_prefix(key)?.strip_prefix(": "))
}

fn shared_prelude(name: &str) -> &'static str {
    match name {
        "" => "",
        "shell" => include_str!("shell.py"),
        "web" => include_str!("web.py"),
        other => panic!("no shared prelude {other:?}"),
    }
}

fn solution(heading: &str, code: &str) -> Solution {
    let (kind, style) = heading.split_once(": ").unwrap_or_else(|| panic!("no section {heading:?}"));
    let kind = match kind {
        "Secure" => SolutionKind::Secure,
        "Insecure" => SolutionKind::Insecure,
        "Wrong" => SolutionKind::Wrong,
        "Untyped" => SolutionKind::Untyped,
        other => panic!("no kind of solution {other:?}"),
    };
    Solution { code: code.to_owned(), kind, style: style.to_owned() }
}

/// The text between the first line that opens a fence and the line that closes it.
fn fenced(text: &str) -> Option<&str> {
    let (_, opened) = text.split_once("```")?;
    let (_, content) = opened.split_once('\n')?;
    let end = content.find("\n```")? + 1;
    Some(&content[..end])
}
