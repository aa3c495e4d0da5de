//! The Python that the judges need: an interpreter, numpy for the tests, zuban and mypy for the types.
//!
//! They live in a virtual environment of our own in the user's cache folder, with pinned versions, so that a reward is the same on two
//! machines and nothing of the user's is touched. The first use builds it; later uses read one small file.
//!
//! A virtual environment holds absolute paths and cannot be moved into place when it is ready. It is built where it
//! stays, under a lock, and a file written last says that it is whole; what has no such file is built anew.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::Error;

/// What is installed. numpy is there for the programs under study; sympy, pyyaml and requests for four tasks of SecCodePLT+.
const REQUIREMENTS: [&str; 7] = [
    "numpy==2.2.6; python_version < '3.11'",
    "numpy==2.4.6; python_version >= '3.11'",
    "zuban==0.10.2",
    "mypy==2.4.1",
    "sympy==1.14.0",
    "pyyaml==6.0.3",
    "requests==2.34.2",
];

/// Names that must be importable, or found by `importlib.metadata`.
const PACKAGES: [&str; 6] = ["numpy", "zuban", "mypy", "sympy", "pyyaml", "requests"];

/// The oldest Python that will do.
const OLDEST: (u32, u32) = (3, 10);

/// An environment that is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    folder: PathBuf,
    manifest: Manifest,
}

/// What one line of `real doctor` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCheck {
    /// What was looked for.
    pub name: String,
    /// Its version and place, or what is wrong.
    pub found: Result<String, String>,
}

/// The file that says that an environment is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    python_version: String,
    /// The interpreter that the environment stands on, with its size and time: another Python at the same path makes it unusable.
    base: PathBuf,
    base_size: u64,
    base_modified: u64,
    packages: BTreeMap<String, String>,
}

impl Tools {
    /// The environment if it is there already. Takes well under a millisecond.
    pub fn find() -> Option<Self> {
        Self::at(&folder().ok()?)
    }

    /// The environment, built if need be: about a minute and 80 MB of downloads, told line by line to `progress`.
    ///
    /// Where there is no network, `PIP_INDEX_URL` or `PIP_FIND_LINKS` can point pip to a mirror or to a folder of wheels.
    pub fn install(progress: &mut dyn FnMut(&str)) -> Result<Self, Error> {
        let folder = folder()?;
        if let Some(tools) = Self::at(&folder) {
            return Ok(tools);
        }
        let parent = folder.parent().expect("the environment is inside the cache folder");
        std::fs::create_dir_all(parent).map_err(Error::io(parent))?;
        let lock_path = folder.with_extension("lock");
        let lock = File::create(&lock_path).map_err(Error::io(&lock_path))?;
        lock.lock().map_err(Error::io(&lock_path))?;
        // Another process may have built it while this one waited for the lock.
        if let Some(tools) = Self::at(&folder) {
            return Ok(tools);
        }
        build(&folder, progress)?;
        Self::at(&folder).ok_or_else(|| Error::Tools(format!("{}: built, but not usable", folder.display())))
    }

    /// What is there and what is missing, without changing anything.
    pub fn check() -> Vec<ToolCheck> {
        let python = find_python()
            .map(|(path, version)| format!("{version} ({})", path.display()))
            .map_err(|error| error.to_string());
        let mut checks = vec![ToolCheck { name: "python".to_owned(), found: python }];
        let tools = Self::find();
        let missing =
            "not set up yet: the first command that needs it does that, and so does `real doctor --fix`";
        for name in PACKAGES {
            let found = match &tools {
                Some(tools) => tools.version(name).map(str::to_owned).ok_or_else(|| "missing".to_owned()),
                None => Err(missing.to_owned()),
            };
            checks.push(ToolCheck { name: name.to_owned(), found });
        }
        checks
    }

    /// The interpreter of the environment.
    pub fn python(&self) -> PathBuf {
        self.folder.join("bin/python")
    }

    /// zuban, which has mypy's command line as a command `mypy`.
    pub fn zuban(&self) -> PathBuf {
        self.folder.join("bin/zuban")
    }

    /// mypy.
    pub fn mypy(&self) -> PathBuf {
        self.folder.join("bin/mypy")
    }

    /// Where its packages are.
    pub fn site_packages(&self) -> PathBuf {
        let minor = self.manifest.python_version.rsplit_once('.').map_or("3", |(minor, _)| minor);
        self.folder.join(format!("lib/python{minor}/site-packages"))
    }

    /// The interpreter's version, such as `3.11.7`.
    pub fn python_version(&self) -> &str {
        &self.manifest.python_version
    }

    /// A package's version.
    pub fn version(&self, package: &str) -> Option<&str> {
        self.manifest.packages.get(package).map(String::as_str)
    }

    /// The environment in this folder, if it is whole.
    pub fn at(folder: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(folder.join(MANIFEST)).ok()?;
        let manifest: Manifest = serde_json::from_str(&text).ok()?;
        let (base_size, base_modified) = stamp(&manifest.base).ok()?;
        let tools = Self { folder: folder.to_owned(), manifest };
        let unchanged =
            base_size == tools.manifest.base_size && base_modified == tools.manifest.base_modified;
        (unchanged && tools.python().exists()).then_some(tools)
    }
}

const MANIFEST: &str = "real-tools.json";

/// Where the environment belongs: a folder for each Python asked for and each set of requirements.
fn folder() -> Result<PathBuf, Error> {
    let cache = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(cache), _) if Path::new(&cache).is_absolute() => PathBuf::from(cache),
        (_, Some(home)) => Path::new(&home).join(".cache"),
        _ => return Err(Error::Tools("neither HOME nor XDG_CACHE_HOME is set".to_owned())),
    };
    let mut hasher = DefaultHasher::new();
    (REQUIREMENTS, std::env::var_os("REAL_PYTHON")).hash(&mut hasher);
    Ok(cache.join("real").join(format!("tools-{:016x}", hasher.finish())))
}

fn build(folder: &Path, progress: &mut dyn FnMut(&str)) -> Result<(), Error> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(Error::io(folder))?;
    }
    let (python, version) = find_python()?;
    progress(&format!("Python {version} at {}", python.display()));
    progress(&format!("virtual environment in {}", folder.display()));
    let venv: [&OsStr; 3] = ["-m".as_ref(), "venv".as_ref(), folder.as_ref()];
    run(&python, &venv, progress).map_err(|output| {
        Error::Tools(format!(
            "{} -m venv failed; on Debian and Ubuntu the package python3-venv is needed\n{output}",
            python.display()
        ))
    })?;
    let interpreter = folder.join("bin/python");
    let pip = ["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"];
    let arguments: Vec<&OsStr> = pip.iter().chain(&REQUIREMENTS).map(OsStr::new).collect();
    run(&interpreter, &arguments, progress).map_err(|output| {
        Error::Tools(format!(
            "pip could not install {}; without a network, set PIP_INDEX_URL to a mirror or PIP_FIND_LINKS (with \
             PIP_NO_INDEX=1) to a folder of wheels\n{output}",
            PACKAGES.join(", ")
        ))
    })?;
    write_manifest(folder, &interpreter)
}

fn write_manifest(folder: &Path, interpreter: &Path) -> Result<(), Error> {
    let base = interpreter.canonicalize().map_err(Error::io(interpreter))?;
    let (base_size, base_modified) = stamp(&base).map_err(Error::io(&base))?;
    let script = "import importlib.metadata as m, json, sys\n\
                  print(json.dumps({name: m.version(name) for name in sys.argv[1:]}))";
    let options = ["-I", "-c", script];
    let arguments: Vec<&OsStr> = options.iter().chain(&PACKAGES).map(OsStr::new).collect();
    let printed = run(interpreter, &arguments, &mut |_| {}).map_err(Error::Tools)?;
    let packages = serde_json::from_str(&printed).map_err(|error| Error::Tools(error.to_string()))?;
    let python_version = version_of(interpreter).map_err(Error::Tools)?;
    let manifest = Manifest { python_version, base, base_size, base_modified, packages };
    let text = serde_json::to_string_pretty(&manifest).expect("a manifest is plain data");
    let path = folder.join(MANIFEST);
    std::fs::write(&path, text).map_err(Error::io(&path))
}

/// Size and time of modification, seconds.
fn stamp(path: &Path) -> std::io::Result<(u64, u64)> {
    let metadata = path.metadata()?;
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Ok((metadata.len(), modified))
}

/// The first Python on `PATH` that is new enough, or the one that `REAL_PYTHON` names.
fn find_python() -> Result<(PathBuf, String), Error> {
    if let Some(path) = std::env::var_os("REAL_PYTHON").map(PathBuf::from) {
        let version = version_of(&path)
            .map_err(|reason| Error::Tools(format!("REAL_PYTHON={}: {reason}", path.display())))?;
        return Ok((path, version));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["python3", "python3.13", "python3.12", "python3.11", "python3.10", "python"];
    let mut rejected = Vec::new();
    for name in names {
        for folder in std::env::split_paths(&path) {
            let candidate = folder.join(name);
            if !candidate.is_file() {
                continue;
            }
            match version_of(&candidate) {
                Ok(version) => return Ok((candidate, version)),
                Err(reason) => rejected.push(format!("{}: {reason}", candidate.display())),
            }
        }
    }
    Err(Error::Tools(format!(
        "no Python {}.{} or newer on PATH; install one, or name it in REAL_PYTHON\n{}",
        OLDEST.0,
        OLDEST.1,
        rejected.join("\n")
    )))
}

/// Version of an interpreter, or why it will not do.
fn version_of(python: &Path) -> Result<String, String> {
    let script = "import sys; print('%d.%d.%d' % sys.version_info[:3])";
    let arguments: [&OsStr; 3] = ["-I".as_ref(), "-c".as_ref(), script.as_ref()];
    let version = run(python, &arguments, &mut |_| {})?.trim().to_owned();
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < OLDEST {
        return Err(format!("Python {version} is too old: {}.{} is needed", OLDEST.0, OLDEST.1));
    }
    Ok(version)
}

/// Runs a program; its output, or what it printed when it failed.
fn run(program: &Path, arguments: &[&OsStr], progress: &mut dyn FnMut(&str)) -> Result<String, String> {
    let mut start = || -> std::io::Result<(String, String, bool)> {
        let errors = tempfile::tempfile()?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors.try_clone()?)
            .spawn()?;
        let mut printed = String::new();
        let stdout = child.stdout.take().expect("standard output is a pipe");
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            progress(&line);
            printed.push_str(&line);
            printed.push('\n');
        }
        let success = child.wait()?.success();
        Ok((printed, read_from_start(errors)?, success))
    };
    match start() {
        Ok((printed, _, true)) => Ok(printed),
        Ok((printed, errors, false)) => Err(format!("{printed}{errors}")),
        Err(error) => Err(format!("{}: {error}", program.display())),
    }
}

fn read_from_start(mut file: File) -> std::io::Result<String> {
    use std::io::Seek;
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_without_its_manifest_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Tools::at(folder.path()), None);
        std::fs::write(folder.path().join(MANIFEST), "{").unwrap();
        assert_eq!(Tools::at(folder.path()), None);
    }

    #[test]
    fn another_python_at_the_same_place_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("python3");
        std::fs::write(&base, "one").unwrap();
        std::fs::create_dir(folder.path().join("bin")).unwrap();
        std::fs::write(folder.path().join("bin/python"), "").unwrap();
        let (base_size, base_modified) = stamp(&base).unwrap();
        let manifest = Manifest {
            python_version: "3.11.7".to_owned(),
            base: base.clone(),
            base_size,
            base_modified,
            packages: BTreeMap::new(),
        };
        std::fs::write(folder.path().join(MANIFEST), serde_json::to_string(&manifest).unwrap()).unwrap();
        assert!(Tools::at(folder.path()).is_some());
        std::fs::write(&base, "another").unwrap();
        assert_eq!(Tools::at(folder.path()), None);
    }

    #[test]
    fn what_fails_says_why() {
        let python = Path::new("/no/such/python");
        assert!(version_of(python).unwrap_err().contains("/no/such/python"));
        let arguments: [&OsStr; 2] = ["-c".as_ref(), "echo out; echo why >&2; exit 3".as_ref()];
        let mut seen = Vec::new();
        let failed =
            run(Path::new("/bin/sh"), &arguments, &mut |line| seen.push(line.to_owned())).unwrap_err();
        assert!(failed.contains("out") && failed.contains("why"), "{failed}");
        assert_eq!(seen, ["out"]);
    }
}
