//! How a sandbox is set up, and what protects it.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread::available_parallelism;

use crate::launch::wants_more;

/// How to set up a [`Sandbox`](crate::Sandbox).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The interpreter, 3.10 or later: a path, or a name that is looked up on `PATH`. Shims and virtual environments are resolved.
    pub python: PathBuf,
    /// What is imported beforehand.
    pub profile: Profile,
    /// Folders that programs may read and import from, such as the `site-packages` of a virtual environment.
    pub site_packages: Vec<PathBuf>,
    /// Trusted modules that preludes may import, by name, with their source: executed once, in the warm interpreter.
    pub own_modules: Vec<(String, String)>,
    /// Seed of string hashes (the order of sets), `random` and `numpy.random` in every job.
    pub seed: u32,
    /// Jobs that run at once.
    pub workers: NonZeroUsize,
    /// What to do where a protection is not to be had.
    pub strictness: Strictness,
}

impl Default for Config {
    /// `python3`, the standard library, a worker per processor, strict.
    fn default() -> Self {
        Self {
            python: PathBuf::from("python3"),
            profile: Profile::Plain,
            site_packages: Vec::new(),
            own_modules: Vec::new(),
            seed: 0,
            workers: available_parallelism().unwrap_or(NonZeroUsize::MIN),
            strictness: Strictness::Strict,
        }
    }
}

/// What is imported before the first job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Profile {
    /// The parts of the standard library that most programs use.
    Light,
    /// The parts that many programs use.
    Plain,
    /// Those of most programs and `numpy`, which one of [`Config::site_packages`] must hold.
    Numpy,
}

impl Profile {
    /// The one that suits texts of a job: the lightest that has what they import, since a heavier one is dearer to fork. Programs run in
    /// each of them; what is missing is imported by the job, or else is not installed.
    pub fn lightest<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let profile = |text: &str| match text {
            text if text.contains("numpy") || text.contains("sympy") => Self::Numpy,
            text if wants_more(text) => Self::Plain,
            _ => Self::Light,
        };
        texts.into_iter().map(profile).max().unwrap_or(Self::Light)
    }
}

/// What to do where a protection is not to be had.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Strictness {
    /// Refuse to start.
    Strict,
    /// Do not try these, and refuse to start if any other is missing.
    Without(Vec<Layer>),
    /// Go on without whatever is missing, and say so in [`Protection`].
    Degrade,
}

/// A wall around a program, beside the limits, which are always set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layer {
    /// Runs as an unprivileged user even where the sandbox is started by root.
    User,
    /// A user namespace: processes are counted by themselves (without it [`Limits::processes`](crate::Limits::processes) is not
    /// enforced), and every job has a fresh file system in memory for a working folder (without it, an emptied folder, whose
    /// total size has no limit).
    UserNamespace,
    /// Namespaces for processes, mounts, network, IPC and host name: a root with only the interpreter's files, no network, no
    /// other process.
    Namespaces,
    /// Landlock: file access by an allow-list.
    Landlock,
    /// A system call filter, which denies by default.
    Seccomp,
}

impl Layer {
    /// Every layer.
    pub const ALL: [Self; 5] =
        [Self::User, Self::UserNamespace, Self::Namespaces, Self::Landlock, Self::Seccomp];

    /// The name that the runner knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::UserNamespace => "user_namespace",
            Self::Namespaces => "namespaces",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What bounds the memory of all processes of a job together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlGroups {
    /// Control groups of version 2.
    V2,
    /// Control groups of version 1.
    V1,
    /// None, and why: only [`Limits::memory`](crate::Limits::memory) of each process and their number hold.
    None(String),
}

/// What is really enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protection {
    /// The layers in force.
    pub enforced: Vec<Layer>,
    /// The layers that this machine did not give, and why.
    pub missing: Vec<(Layer, String)>,
    /// Version of the kernel's Landlock interface; 0 for none.
    pub landlock_version: u32,
    /// What bounds the memory of all processes of a job together. Beside the layers: no strictness asks for it.
    pub control_groups: ControlGroups,
    /// Version of the interpreter.
    pub python: String,
    /// Address space of the warm interpreter, bytes: what [`Limits::memory`](crate::Limits::memory) comes on top of.
    pub interpreter_memory: u64,
}

impl Protection {
    /// Whether a layer is in force.
    pub fn has(&self, layer: Layer) -> bool {
        self.enforced.contains(&layer)
    }

    /// Whether nothing is missing.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }
}
