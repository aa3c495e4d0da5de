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

/// What programs import. Modules that few of them want (`argparse`, `asyncio`, `unittest.mock`) are left to those: every megabyte
/// of the worker makes each fork slower, and so does every library.
#[rustfmt::skip]
const MODULES: &[&str] = &[
    "abc", "array", "ast", "atexit", "base64", "bisect", "cmath", "codecs", "collections", "contextlib", "copy", "csv", "dataclasses",
    "datetime", "decimal", "enum", "fnmatch", "fractions", "functools", "glob", "hashlib", "heapq", "hmac", "html.parser",
    "importlib.util", "inspect", "io", "itertools", "json", "linecache", "logging", "math", "numbers", "operator", "os.path",
    "pathlib", "pickle", "queue", "random", "re", "secrets", "shlex", "shutil", "signal", "socket", "sqlite3", "string", "subprocess",
    "tempfile", "textwrap", "threading", "time", "traceback", "typing", "unicodedata", "urllib.parse", "uuid", "warnings", "weakref",
    "xml.etree.ElementTree", "zlib",
];

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
            Profile::Plain => &[],
            Profile::Numpy => &["numpy", "numpy.random"],
        };
        let modules = [MODULES, required].concat();
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
