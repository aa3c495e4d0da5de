//! What an interpreter is started with.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::group::Hierarchy;
use crate::seccomp::{self, Processes};
use crate::{Layer, Profile};

/// The three parts of the runner, one program.
const RUNNER: &str = concat!(
    include_str!("runner/isolation.py"),
    "\n",
    include_str!("runner/worker.py"),
    "\n",
    include_str!("runner/program.py")
);

/// What most programs import, or imports itself at little cost. Every library and every megabyte of the worker makes each fork dearer, so what
/// a program in twenty wants is not here.
#[rustfmt::skip]
const LIGHT: &[&str] = &[
    "abc", "ast", "atexit", "base64", "bisect", "codecs", "collections", "contextlib", "copy", "datetime", "enum", "functools", "heapq", "html",
    "io", "itertools", "json", "linecache", "math", "operator", "os.path", "random", "re", "shlex", "socket", "sqlite3", "string", "subprocess",
    "textwrap", "threading", "time", "traceback", "typing", "urllib.parse", "warnings", "weakref",
];

/// What many programs import beside. Modules that few of them want (`argparse`, `asyncio`, `unittest.mock`) are left to those.
#[rustfmt::skip]
const MORE: &[&str] = &[
    "array", "cmath", "csv", "dataclasses", "decimal", "fnmatch", "fractions", "glob", "hashlib", "hmac", "importlib.util", "inspect", "logging",
    "numbers", "pathlib", "pickle", "queue", "secrets", "shutil", "tempfile", "unicodedata", "uuid", "xml.etree.ElementTree", "zlib",
];

/// Whether a program speaks of one of the modules that [`Profile::Light`] leaves out.
pub(crate) fn wants_more(program: &str) -> bool {
    let imports = program.lines().map(str::trim_start);
    let imports = imports.filter(|line| line.starts_with("import ") || line.starts_with("from "));
    let mut words = imports.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'));
    words.any(|word| MORE.iter().any(|module| module.split('.').next() == Some(word)))
}

/// What a worker is started from.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) python: PathBuf,
    pub(crate) profile: Profile,
    pub(crate) site_packages: Vec<PathBuf>,
    pub(crate) own_modules: Vec<(String, String)>,
    pub(crate) seed: u32,
    pub(crate) layers: Vec<Layer>,
    /// Where each worker has a control group, if it has one.
    pub(crate) hierarchy: Option<Hierarchy>,
}

impl Launch {
    /// Starts the runner, with the control socket for its standard input.
    pub(crate) fn spawn(&self, control: OwnedFd) -> io::Result<Child> {
        Command::new(&self.python)
            // No user site, no site, no bytecode files. `-I` would forget the hash seed.
            .args(["-s", "-S", "-B", "-X", "utf8", "-c", RUNNER])
            .env_clear()
            .env("PYTHONHASHSEED", self.seed.to_string())
            .envs(["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"].map(|name| (name, "1")))
            .current_dir("/")
            .stdin(Stdio::from(control))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C in a terminal is for us; we end the workers ourselves.
            .process_group(0)
            .spawn()
    }

    /// The first message to the runner.
    pub(crate) fn configuration(&self, folder: Option<&Path>) -> serde_json::Value {
        let private = self.layers.contains(&Layer::Namespaces);
        let filters = if private {
            vec![seccomp::worker_filter(Processes::Private)]
        } else {
            vec![seccomp::worker_filter(Processes::Shared), seccomp::job_filter()]
        };
        let required: &[&str] = match self.profile {
            Profile::Light | Profile::Plain => &[],
            Profile::Numpy => &["numpy", "numpy.random"],
        };
        let more = if self.profile == Profile::Plain { MORE } else { &[] };
        let modules = [LIGHT, more, required].concat();
        json!({
            "layers": self.layers.iter().map(|layer| layer.name()).collect::<Vec<_>>(),
            "site_packages": self.site_packages,
            "modules": modules,
            "required": required,
            "own_modules": self.own_modules,
            "seed": self.seed,
            "box": folder,
            "filters": filters.iter().map(|filter| hexadecimal(filter)).collect::<Vec<_>>(),
            "syscalls": {
                "pivot_root": libc::SYS_pivot_root,
                "mount_setattr": libc::SYS_mount_setattr,
                "capset": libc::SYS_capset,
                "landlock_create_ruleset": libc::SYS_landlock_create_ruleset,
                "landlock_add_rule": libc::SYS_landlock_add_rule,
                "landlock_restrict_self": libc::SYS_landlock_restrict_self,
            },
        })
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).expect("a nibble is a digit");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use crate::Profile;

    #[test]
    fn the_profile_is_the_lightest_that_has_what_is_imported() {
        let check =
            |program: &str, profile| assert_eq!(Profile::lightest(["", program]), profile, "{program}");
        check("import re, math\nqueue = [1]  # import queue\n", Profile::Light);
        check("from xml.etree import ElementTree", Profile::Plain);
        check("def f():\n    import os, uuid as s", Profile::Plain);
        check("import hashlib_like\nfrom collections import deque as pathlib_", Profile::Light);
        check("import hashlib\nimport numpy as np", Profile::Numpy);
    }
}
