//! `docs/reference.md` is made from the code. Where it no longer is what the code says, this test fails, and
//! `UPDATE_DOCS=1 cargo test -p real --test reference` writes it anew.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// The structs of a configuration: section, crate, name.
const SECTIONS: [(&str, &str, &str); 14] = [
    ("(top level)", "real", "Config"),
    ("[run]", "real", "Run"),
    ("[model]", "real", "ModelSource"),
    ("[model.scratch]", "real", "Scratch"),
    ("[data]", "real", "Data"),
    ("[[data.mix]]", "real", "MixPart"),
    ("[sft]", "real_lm", "SftConfig"),
    ("[rollout]", "real", "Rollout"),
    ("[reward] and [eval.reward]", "real_reward", "RewardConfig"),
    ("[ppo]", "real_lm", "PpoConfig"),
    ("[lora]", "real_lm", "LoraConfig"),
    ("[train]", "real", "Train"),
    ("[eval]", "real", "Eval"),
    ("experiment files", "real", "Experiment"),
];

/// The records of files: what they are, crate, name of the struct.
const RECORDS: [(&str, &str, &str); 10] = [
    ("A task (`real tasks`)", "real_reward", "Task"),
    ("A completion (`completions.jsonl`)", "real", "Completion"),
    ("A score (`real score`, `scores.jsonl`)", "real_reward", "Score"),
    ("A finding of a score", "real_reward", "FindingRecord"),
    ("A step of a flow", "real_reward", "FlowRecord"),
    ("A type error", "real_reward", "TypeError"),
    ("Test results", "real_reward", "TestReport"),
    ("One test", "real_reward", "CaseReport"),
    ("A sample (`samples/` of a run, `samples.jsonl` of an evaluation)", "real", "Sample"),
    ("A setting of an experiment", "real", "Setting"),
];

const COMMANDS: [&str; 12] = [
    "scan",
    "tasks",
    "score",
    "generate",
    "eval",
    "sft",
    "train",
    "experiment",
    "report",
    "serve",
    "doctor",
    "validate",
];

#[test]
fn the_reference_says_what_the_code_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference.md");
    let expected = reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    let differs = found.lines().zip(expected.lines()).find(|(a, b)| a != b);
    assert!(
        found == expected,
        "docs/reference.md is not what the code says, first here: {differs:?}; \
         UPDATE_DOCS=1 cargo test -p real --test reference writes it anew"
    );
}

fn reference() -> String {
    let mut text = "# Reference\n\nMade from the code by `cargo test -p real --test reference`; what stands here is what runs.\n\n\
                    ## Configuration\n\nA TOML file, changed by `--set section.key=value`. Unknown keys are errors. The resolved file is saved with the run.\n"
        .to_owned();
    for (section, home, name) in SECTIONS {
        let _ = write!(text, "\n### {section}\n\n{}", fields(home, name));
    }
    text.push_str("\n## Records\n\nOne JSON object a line.\n");
    for (title, home, name) in RECORDS {
        let _ = write!(text, "\n### {title}\n\n{}", fields(home, name));
    }
    text.push_str("\n## Commands\n");
    for command in COMMANDS {
        let _ = write!(text, "\n### real {command}\n\n```text\n{}\n```\n", help(command));
    }
    text
}

fn help(command: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_real")).args([command, "--help"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

/// The fields of a struct as a table: name, type, default where the file has one, and its documentation.
fn fields(home: &str, name: &str) -> String {
    let heads = ["pub struct", "pub(crate) struct"]
        .iter()
        .flat_map(|start| ["", "<'a>"].map(|lifetime| format!("{start} {name}{lifetime} {{")))
        .collect::<Vec<String>>();
    let of_crate =
        |home: &str| sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(home).join("src"));
    let own = of_crate(home);
    let source = own
        .iter()
        .find(|source| heads.iter().any(|head| source.contains(head)))
        .unwrap_or_else(|| panic!("no struct {name} in {home}"));
    let body = heads.iter().find_map(|head| block(source, head)).unwrap();
    let defaults = block(source, &format!("impl Default for {name} {{")).unwrap_or_default();
    let mut table = "| key | type | default | |\n|---|---|---|---|\n".to_owned();
    let mut documentation: Vec<&str> = Vec::new();
    for line in body.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            documentation.push(text.trim());
        } else if let Some((key, kind)) = line.strip_prefix("pub ").and_then(|field| field.split_once(": ")) {
            let default = default(defaults, key).map_or(String::new(), |value| format!("`{value}`"));
            let kind = kind.trim_end_matches(',');
            let _ = writeln!(
                table,
                "| `{key}` | {} | {default} | {} |",
                choices(&own, kind)
                    .or_else(|| choices(&of_crate("real_lm"), kind))
                    .unwrap_or_else(|| kind_in_words(kind)),
                documentation.join(" ").replace('|', "\\|")
            );
            documentation.clear();
        }
    }
    table
}

/// The names that an enumeration has in a file, if this type is one.
fn choices(sources: &[String], kind: &str) -> Option<String> {
    let heads = [format!("pub enum {kind} {{"), format!("pub(crate) enum {kind} {{")];
    let (source, head) =
        sources.iter().find_map(|s| heads.iter().find(|h| s.contains(h.as_str())).map(|h| (s, h)))?;
    let attributes = &source[..source.find(head.as_str())?];
    let is_lowercase = attributes[attributes.rfind("#[serde")?..].contains("\"lowercase\"");
    let names = block(source, head)?
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with(char::is_uppercase))
        .map(|line| line.trim_end_matches([',', ' ', '{']))
        .map(|name| if is_lowercase { format!("\"{}\"", name.to_lowercase()) } else { snake(name) });
    Some(names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" "))
}

/// `AllOrNothing` as files have it: `"all_or_nothing"`.
fn snake(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.extend(c.to_lowercase());
    }
    format!("\"{text}\"")
}

/// The source files of a folder, in order.
fn sources(folder: &Path) -> Vec<String> {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .iter()
        .flat_map(|path| match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => vec![std::fs::read_to_string(path).unwrap()],
            _ if path.is_dir() => sources(path),
            _ => Vec::new(),
        })
        .collect()
}

/// The text between a head and the brace that closes it, which stands at the start of a line.
fn block<'a>(source: &'a str, head: &str) -> Option<&'a str> {
    let start = source.find(head)? + head.len();
    Some(&source[start..start + source[start..].find("\n}")?])
}

/// The value of a field in `impl Default`, as TOML would have it.
fn default<'a>(defaults: &'a str, key: &str) -> Option<String> {
    let start = format!("{key}: ");
    let at = |text: &'a str| text.strip_prefix(start.as_str());
    let value = defaults
        .lines()
        .flat_map(|line| line.trim().trim_start_matches("Self {").split(", "))
        .find_map(|part| at(part.trim()))?;
    let value = value.trim_end_matches([',', '}', ' ']);
    Some(match value.split_once("::") {
        Some((_, "default()")) => return None,
        Some((_, name)) => snake(name),
        None => value.replace('_', ""),
    })
}

fn kind_in_words(kind: &str) -> String {
    match kind {
        "bool" => "true or false".to_owned(),
        "usize" | "u32" | "u64" => "whole number".to_owned(),
        "f32" | "f64" => "number".to_owned(),
        "String" | "PathBuf" | "Cow<'a, str>" => "text".to_owned(),
        other => format!("`{}`", other.replace("Cow<'a, ", "").replace('|', "\\|")),
    }
}
