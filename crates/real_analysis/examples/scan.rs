//! Scans a file or a folder of Python files and prints one JSON object a finding.
//!
//! `cargo run --release -p real_analysis --example scan -- PATH…`

use std::path::{Path, PathBuf};

fn main() -> std::io::Result<()> {
    let mut files = Vec::new();
    for path in std::env::args_os().skip(1) {
        collect(Path::new(&path), &mut files)?;
    }
    files.sort();
    for path in files {
        let source = String::from_utf8_lossy(&std::fs::read(&path)?).into_owned();
        let analysis = real_analysis::analyze(&source, &real_analysis::Options::default());
        for finding in analysis.findings {
            let mut row = serde_json::to_value(&finding)?;
            row["path"] = path.to_string_lossy().into();
            println!("{row}");
        }
    }
    Ok(())
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            collect(&entry?.path(), files)?;
        }
    } else if path.extension().is_some_and(|extension| extension == "py") {
        files.push(path.to_owned());
    }
    Ok(())
}
