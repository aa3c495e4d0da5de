//! Checkpoints in the layout of Hugging Face: a folder of JSON files and `model.safetensors`, or a model of that layout in
//! the cache of the hub.

pub(crate) mod config;
pub(crate) mod weights;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::Error;

/// A JSON file.
pub(crate) fn read_json(path: &Path) -> Result<Value, Error> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    serde_json::from_str(&text).map_err(|error| Error::malformed(path, error.to_string()))
}

/// A JSON file that may be absent.
pub(crate) fn read_optional_json(path: &Path) -> Result<Option<Value>, Error> {
    match read_json(path) {
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// The folder of a hub model, as `organisation/name`, in the cache.
pub(crate) fn cached_snapshot(name: &str) -> Result<PathBuf, Error> {
    let cache = cache_folder();
    let model = cache.join(format!("models--{}", name.replace('/', "--")));
    let main = std::fs::read_to_string(model.join("refs/main")).ok();
    let snapshot = main.map(|commit| model.join("snapshots").join(commit.trim()));
    snapshot
        .filter(|folder| folder.join("config.json").is_file())
        .ok_or_else(|| Error::NotFound { name: name.to_owned(), cache })
}

/// Where the hub's own tools keep models.
fn cache_folder() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let home = || variable("XDG_CACHE_HOME").or_else(|| Some(std::env::home_dir()?.join(".cache")));
    variable("HF_HUB_CACHE")
        .or_else(|| Some(variable("HF_HOME").or_else(|| Some(home()?.join("huggingface")))?.join("hub")))
        .unwrap_or_default()
}
