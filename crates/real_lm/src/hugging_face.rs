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

/// The folder of a hub model, as `organisation/name`, in the local cache.
pub(crate) fn cached_snapshot(name: &str) -> Result<PathBuf, Error> {
    let cache = cache_folder();
    snapshot_in(&cache, name).ok_or_else(|| Error::NotFound { name: name.to_owned(), cache })
}

/// `models--organisation--name/snapshots/COMMIT`, for the commit that `refs/main` names.
fn snapshot_in(cache: &Path, name: &str) -> Option<PathBuf> {
    let model = cache.join(format!("models--{}", name.replace('/', "--")));
    let commit = std::fs::read_to_string(model.join("refs/main")).ok()?;
    let snapshot = model.join("snapshots").join(commit.trim());
    snapshot.join("config.json").is_file().then_some(snapshot)
}

/// Where the hub's own tools keep models.
fn cache_folder() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let home = || variable("XDG_CACHE_HOME").or_else(|| Some(std::env::home_dir()?.join(".cache")));
    variable("HF_HUB_CACHE")
        .or_else(|| Some(variable("HF_HOME").or_else(|| Some(home()?.join("huggingface")))?.join("hub")))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_in_the_cache() {
        let cache = tempfile::tempdir().unwrap();
        let model = cache.path().join("models--org--name");
        let snapshot = model.join("snapshots/0123abcd");
        assert_eq!(snapshot_in(cache.path(), "org/name"), None);
        std::fs::create_dir_all(model.join("refs")).unwrap();
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::write(model.join("refs/main"), "0123abcd\n").unwrap();
        assert_eq!(snapshot_in(cache.path(), "org/name"), None, "a download that did not finish");
        std::fs::write(snapshot.join("config.json"), "{}").unwrap();
        assert_eq!(snapshot_in(cache.path(), "org/name"), Some(snapshot));
    }
}
