//! Runs the specification: every Python block of `resources/mdtest/**/*.md`.
//!
//! A line that ends in `# finding: [cwe-089]`, or in several such brackets, must give findings of these CWEs there (each as the first CWE of one), and no
//! other line may give any. The info string may name a threat model: ```` ```python web ````. A known-wrong expectation is
//! written as it is and explained in prose that begins with `todo:`.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use real_analysis::{Options, ThreatModel, analyze};

#[test]
fn specification() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("resources/mdtest");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let (mut blocks, mut failures) = (0, String::new());
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        for block in python_blocks(&text) {
            blocks += 1;
            check(file.strip_prefix(&root).unwrap(), &block, &mut failures);
        }
    }
    assert!(blocks > 50, "only {blocks} blocks in {}", root.display());
    assert!(failures.is_empty(), "{failures}");
}

struct Block {
    line: usize,
    options: Options,
    code: String,
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the entry can be read").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            files.push(path);
        }
    }
}

fn python_blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in text.lines().enumerate() {
        match &mut open {
            Some(_) if line == "```" => blocks.extend(open.take()),
            Some(block) => writeln!(block.code, "{line}").expect("a string takes any text"),
            None => {
                if let Some(info) = line.strip_prefix("```python") {
                    open = Some(Block { line: index + 2, options: options(info), code: String::new() });
                }
            }
        }
    }
    assert!(open.is_none(), "a block is never closed");
    blocks
}

fn options(info: &str) -> Options {
    let threat_model = match info.trim() {
        "" => None,
        "web" => Some(ThreatModel::Web),
        "program" => Some(ThreatModel::Program),
        "library" => Some(ThreatModel::Library),
        other => panic!("unknown info string {other:?}"),
    };
    Options { threat_model, ..Options::default() }
}

fn check(file: &Path, block: &Block, failures: &mut String) {
    let expected: BTreeSet<(usize, String)> = block
        .code
        .lines()
        .enumerate()
        .filter_map(|(index, line)| Some((index + 1, line.split_once("# finding: [")?.1)))
        .flat_map(|(line, markers)| {
            let markers = markers.trim_end().trim_end_matches(']').split("] [");
            markers.map(move |marker| (line, marker.to_owned()))
        })
        .collect();
    let analysis = analyze(&block.code, &block.options);
    let found: BTreeSet<(usize, String)> = analysis
        .findings
        .iter()
        .map(|finding| (finding.span.line as usize, format!("cwe-{:03}", finding.cwe[0])))
        .collect();
    let mut report = |what: &str, (line, cwe): &(usize, String)| {
        let text = block.code.lines().nth(line - 1).unwrap_or_default();
        writeln!(
            failures,
            "{}:{}: {what} [{cwe}]\n    {}",
            file.display(),
            block.line + line - 1,
            text.trim()
        )
        .expect("a string takes any text");
    };
    expected.difference(&found).for_each(|missing| report("missing", missing));
    found.difference(&expected).for_each(|extra| report("unexpected", extra));
    assert!(
        analysis.parsed || block.code.contains("# syntax error"),
        "{}:{} does not parse",
        file.display(),
        block.line
    );
}
