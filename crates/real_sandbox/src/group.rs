//! Control groups: a bound on what a worker and its job take together.
//!
//! A process's own limits do not add up: sixteen processes may take sixteen times the memory of one. Where this machine lets us make
//! control groups, each worker has one, and the kernel kills in it what goes beyond
//!
//! ```text
//!  the interpreter's address space + Limits::memory + room in the working folder + SLACK
//! ```
//!
//! which a job of one process never reaches, as its own limit stops it before. Version 2 is taken where the group that we
//! are in hands the memory controller on (or the one above it does); else version 1; else there is none, and
//! [`Protection`](crate::Protection) says why. Groups that a killed process of ours has left behind are removed by the next one.

use std::cell::Cell;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use crate::ControlGroups;

/// Kernel memory that a job may hold beside its own: pipes, sockets, page tables.
const SLACK: u64 = 256 << 20;

const PREFIX: &str = "real-sandbox-";

/// Where groups can be made: a folder for memory and, if there is a controller for it, one for processes. In version 2 these are one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub(crate) version: ControlGroups,
    memory: PathBuf,
    processes: Option<PathBuf>,
}

/// The group of one worker.
#[derive(Debug)]
pub(crate) struct Group {
    version: ControlGroups,
    memory: PathBuf,
    processes: Option<PathBuf>,
    limits: Cell<(u64, u32)>,
}

impl Hierarchy {
    /// Finds one in which a group can really be made; or says why there is none.
    pub(crate) fn find() -> Result<Self, String> {
        let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
        let found = Self::among(&read("/proc/self/cgroup")?, &read("/proc/mounts")?)?;
        found.sweep();
        found.group()?;
        Ok(found)
    }

    /// The hierarchy that these two files of /proc speak of.
    fn among(groups: &str, mounts: &str) -> Result<Self, String> {
        version_2(groups, mounts).or_else(|reason| match version_1(groups, mounts, "memory") {
            Some(memory) => {
                let processes = version_1(groups, mounts, "pids");
                Ok(Self { version: ControlGroups::V1, memory, processes })
            }
            None => Err(reason),
        })
    }

    /// A new group.
    pub(crate) fn group(&self) -> Result<Group, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let group = Group {
            version: self.version.clone(),
            memory: self.memory.join(&name),
            processes: self.processes.as_ref().map(|folder| folder.join(&name)),
            limits: Cell::default(),
        };
        for folder in group.folders() {
            match fs::create_dir(folder) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(format!("{}: {error}", folder.display()));
                }
                _ => {}
            }
        }
        group.limit(SLACK, 64)?;
        Ok(group)
    }

    /// Removes the groups of processes that are gone. The kernel removes no group that is in use.
    fn sweep(&self) {
        for folder in std::iter::once(&self.memory).chain(&self.processes) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
                if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
                    let _ = fs::remove_dir(entry.path());
                }
            }
        }
    }
}

impl Group {
    /// Puts a process into the group, and so everything that it will start.
    pub(crate) fn enclose(&self, process: u32) -> Result<(), String> {
        self.folders().try_for_each(|folder| write(folder, "cgroup.procs", &process.to_string()))
    }

    /// Bounds the next job. `memory` is what the processes themselves may have.
    pub(crate) fn limit(&self, memory: u64, processes: u32) -> Result<(), String> {
        if self.limits.replace((memory, processes)) == (memory, processes) {
            return Ok(());
        }
        let name = match self.version {
            ControlGroups::V1 => "memory.limit_in_bytes",
            _ => "memory.max",
        };
        write(&self.memory, name, &(memory + SLACK).to_string())?;
        match &self.processes {
            Some(folder) => write(folder, "pids.max", &processes.to_string()),
            None => Ok(()),
        }
    }

    /// Processes that the kernel has killed for want of memory, up to now.
    pub(crate) fn kills(&self) -> u64 {
        let name = match self.version {
            ControlGroups::V1 => "memory.oom_control",
            _ => "memory.events",
        };
        let text = fs::read_to_string(self.memory.join(name)).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
        count.unwrap_or(0)
    }

    fn folders(&self) -> impl Iterator<Item = &PathBuf> {
        let other = self.processes.iter().filter(|folder| **folder != self.memory);
        std::iter::once(&self.memory).chain(other)
    }
}

impl Drop for Group {
    /// A process that was killed is in its group for a moment more.
    fn drop(&mut self) {
        for folder in self.folders() {
            let mut patience = 200;
            while let Err(error) = fs::remove_dir(folder) {
                if patience == 0 || error.kind() != ErrorKind::ResourceBusy {
                    tracing::warn!(folder = %folder.display(), %error, "a control group is left behind");
                    break;
                }
                patience -= 1;
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

fn write(folder: &Path, name: &str, text: &str) -> Result<(), String> {
    let path = folder.join(name);
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Our own group or the one above it, whichever hands the memory controller on to the groups below.
fn version_2(groups: &str, mounts: &str) -> Result<Hierarchy, String> {
    let none = "no control groups are mounted";
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/")).ok_or(none)?;
    let root = mount_points(mounts, "cgroup2", None).next().ok_or(none)?;
    let own = Path::new(root).join(own);
    let candidates = [Some(own.as_path()), own.parent().filter(|parent| parent.starts_with(root))];
    for folder in candidates.into_iter().flatten() {
        let handed_on = fs::read_to_string(folder.join("cgroup.subtree_control")).unwrap_or_default();
        let has = |name: &str| handed_on.split_whitespace().any(|controller| controller == name);
        if has("memory") {
            let memory = folder.to_owned();
            let processes = has("pids").then(|| memory.clone());
            return Ok(Hierarchy { version: ControlGroups::V2, memory, processes });
        }
    }
    Err(format!("{} does not hand the memory controller on", own.display()))
}

/// Our own group under a controller of version 1.
fn version_1(groups: &str, mounts: &str, controller: &str) -> Option<PathBuf> {
    let own = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next()?;
        controllers.split(',').any(|name| name == controller).then(|| parts.next())?
    })?;
    let root = Path::new(mount_points(mounts, "cgroup", Some(controller)).next()?);
    // Within a container the path is that of the host, and our group is the one that is mounted.
    let folder = root.join(own.trim_start_matches('/'));
    Some(if folder.is_dir() { folder } else { root.to_owned() })
}

/// Where file systems of a kind are mounted, with this option.
fn mount_points<'a>(
    mounts: &'a str,
    kind: &'a str,
    option: Option<&'a str>,
) -> impl Iterator<Item = &'a str> {
    mounts.lines().filter_map(move |line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, point, this, options, ..] = fields[..] else { return None };
        let fits = option.is_none_or(|wanted| options.split(',').any(|one| one == wanted));
        (this == kind && fits).then_some(point)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(groups: &str, mounts: &str) -> Result<(ControlGroups, String, Option<String>), String> {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let Hierarchy { version, memory, processes } = Hierarchy::among(groups, mounts)?;
        Ok((version, text(memory), processes.map(text)))
    }

    #[test]
    fn version_2_is_taken_where_memory_is_handed_on() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        let mounts = format!("cgroup2 {root} cgroup2 rw 0 0\n");
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        let control = |name: &str, text: &str| {
            fs::write(folder.path().join(name).join("cgroup.subtree_control"), text).unwrap();
        };
        control("a", "cpu\n");
        assert!(found("0::/a/b\n", &mounts).unwrap_err().contains("a/b does not hand"));
        control("a", "cpu memory\n");
        let above = (ControlGroups::V2, format!("{root}/a"), None);
        assert_eq!(found("0::/a/b\n", &mounts), Ok(above));
        control("a/b", "memory pids\n");
        let own = (ControlGroups::V2, format!("{root}/a/b"), Some(format!("{root}/a/b")));
        assert_eq!(found("0::/a/b\n", &mounts), Ok(own));
    }

    #[test]
    fn version_1_is_taken_where_version_2_has_no_memory() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        fs::create_dir_all(folder.path().join("memory/x")).unwrap();
        let mounts = format!(
            "cgroup {root}/memory cgroup rw,memory 0 0\ncgroup {root}/pids cgroup rw,pids 0 0\ncgroup2 {root}/unified cgroup2 rw 0 0\n"
        );
        let groups = "8:pids:/elsewhere\n4:memory:/x\n0::/\n";
        let own = (ControlGroups::V1, format!("{root}/memory/x"), Some(format!("{root}/pids")));
        assert_eq!(found(groups, &mounts), Ok(own));
        assert!(found("", "").unwrap_err().contains("no control groups"));
    }

    #[test]
    fn a_group_is_written_once_for_each_limit_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let memory = folder.path().to_owned();
        let hierarchy = Hierarchy { version: ControlGroups::V2, processes: Some(memory.clone()), memory };
        let group = hierarchy.group().unwrap();
        group.limit(1 << 20, 5).unwrap();
        let read = |name: &str| fs::read_to_string(group.memory.join(name)).unwrap();
        assert_eq!((read("memory.max"), read("pids.max")), ((SLACK + (1 << 20)).to_string(), "5".to_owned()));
        fs::write(group.memory.join("memory.events"), "oom 3\noom_kill 2\n").unwrap();
        assert_eq!(group.kills(), 2);
        // A real group's files go with it.
        for name in ["memory.max", "pids.max", "memory.events"] {
            fs::remove_file(group.memory.join(name)).unwrap();
        }
        drop(group);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
