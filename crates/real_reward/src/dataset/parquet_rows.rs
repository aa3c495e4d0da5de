//! Rows of a Parquet file as structs: each row becomes a JSON object by column name, and serde does the rest.

use std::fs::File;
use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde::de::DeserializeOwned;

use crate::Error;

/// All rows of a file. Columns that `T` doesn't name are ignored.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, Error> {
    let file = File::open(path).map_err(Error::io(path))?;
    let layout = |reason: String| Error::Layout { path: path.to_owned(), reason };
    let broken = |error: ParquetError| layout(error.to_string());
    let reader = SerializedFileReader::new(file).map_err(broken)?;
    let mut rows = Vec::new();
    for row in reader.get_row_iter(None).map_err(broken)? {
        let json = row.map_err(broken)?.to_json_value();
        let row = serde_json::from_value(json)
            .map_err(|error| layout(format!("row {}: {error}", rows.len() + 1)))?;
        rows.push(row);
    }
    Ok(rows)
}
