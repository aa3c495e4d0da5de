//! Files with one JSON object a line.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// Reads one record a line; blank lines are skipped. An error names the line.
pub fn read_jsonl<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, Error> {
    let reader = BufReader::new(File::open(path).map_err(Error::io(path))?);
    let mut records = Vec::new();
    for (index, line) in reader.lines().enumerate() {
        let line = line.map_err(Error::io(path))?;
        if line.trim().is_empty() {
            continue;
        }
        let record = serde_json::from_str(&line).map_err(|source| Error::Line {
            path: path.to_owned(),
            line: index + 1,
            source,
        })?;
        records.push(record);
    }
    Ok(records)
}

/// Writes one record a line, the whole file or nothing: it is made beside and renamed. Missing folders are made.
pub fn write_jsonl<T: Serialize>(path: &Path, records: impl IntoIterator<Item = T>) -> Result<(), Error> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    }
    let partial = path.with_extension("partial");
    let mut writer = BufWriter::new(File::create(&partial).map_err(Error::io(path))?);
    for record in records {
        serde_json::to_writer(&mut writer, &record).map_err(std::io::Error::from).map_err(Error::io(path))?;
        writer.write_all(b"\n").map_err(Error::io(path))?;
    }
    writer.flush().map_err(Error::io(path))?;
    std::fs::rename(&partial, path).map_err(Error::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Task;

    const TASK: &str = r#"{"id":"t","benchmark":"own","messages":[],"tests":{"kind":"call","cases":[{"args":[1],"expect":{"returns":{"$tuple":[1]}}}]}}"#;

    fn read(text: &str) -> Result<Vec<Task>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read_jsonl(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn tasks_survive_a_round_trip() {
        let tasks = read(&format!("{TASK}\n\n{TASK}\n")).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        write_jsonl(file.path(), &tasks).unwrap();
        assert_eq!(read_jsonl::<Task>(file.path()).unwrap(), tasks);
        assert_eq!(tasks.len(), 2);
    }

    #[test]
    fn an_error_names_the_line_and_the_field() {
        let unknown = TASK.replace("\"messages\"", "\"massages\"");
        let message = read(&format!("{TASK}\n{unknown}\n")).unwrap_err();
        assert!(message.contains("line 2") && message.contains("massages"), "{message}");
        let cut = read(&TASK[..60]).unwrap_err();
        assert!(cut.contains("line 1"), "{cut}");
    }
}
