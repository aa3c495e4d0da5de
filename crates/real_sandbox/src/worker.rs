//! One warm interpreter, seen from this side of its control socket.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, send, sendmsg, socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;

use crate::claim::{self, MAX_CLAIM};
use crate::seccomp::{self, Processes};
use crate::{Action, Ending, Job, Layer, Outcome, Profile, Resource};

/// The three parts of the runner, one program.
const RUNNER: &str = concat!(
    include_str!("runner/isolation.py"),
    "\n",
    include_str!("runner/worker.py"),
    "\n",
    include_str!("runner/program.py")
);

/// How long a fresh interpreter may take to import its profile on a busy machine.
const START_LIMIT: Duration = Duration::from_mins(1);
/// How long a worker may take to kill a job and say so.
const GRACE: Duration = Duration::from_secs(10);
/// How long a worker may take to end once its socket is closed.
const FAREWELL: Duration = Duration::from_secs(3);
/// The most files that one job may hand back: what fits into one message.
pub(crate) const MAX_COLLECTED: usize = 64;
const MAX_REPLY: usize = 1 << 16;

/// What a worker is started from.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) python: PathBuf,
    pub(crate) profile: Profile,
    pub(crate) site_packages: Vec<PathBuf>,
    pub(crate) layers: Vec<Layer>,
}

/// What a worker says about itself when it is ready.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Facts {
    pub(crate) python: String,
    pub(crate) landlock: u32,
    pub(crate) memory: u64,
}

/// Why a worker did not start.
#[derive(Debug)]
pub(crate) enum NoStart {
    /// A layer could not be built.
    Missing(Layer, String),
    /// Anything else.
    Failed(String),
    /// The operating system refused.
    Io(io::Error),
}

/// Why a job has no outcome, for no fault of the program.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The worker is gone, or does not answer.
    Lost(String),
    /// The worker is well, and the job failed before its program got control.
    NeverRan(String),
}

#[derive(Debug)]
pub(crate) struct Worker {
    control: Option<OwnedFd>,
    launcher: Child,
    facts: Facts,
    /// The working folder of the jobs, where they have no file system of their own.
    folder: Option<TempDir>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Greeting {
    Ready(Facts),
    Missing(String, String),
    Failed(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Done(Reply),
    Failed(String),
}

#[derive(Deserialize)]
struct Reply {
    status: i32,
    cpu: f64,
    over_cpu: bool,
    files: Vec<String>,
}

impl Worker {
    pub(crate) fn start(launch: &Launch) -> Result<Self, NoStart> {
        let folder = if launch.layers.contains(&Layer::Namespaces) {
            None
        } else {
            Some(tempfile::Builder::new().prefix("real-sandbox-").tempdir().map_err(NoStart::Io)?)
        };
        let (control, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|error| NoStart::Io(error.into()))?;
        let launcher = spawn(launch, theirs).map_err(NoStart::Io)?;
        let facts = Facts { python: String::new(), landlock: 0, memory: 0 };
        let mut worker = Self { control: Some(control), launcher, facts, folder };
        worker.facts = worker.greet(launch)?;
        Ok(worker)
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    fn greet(&self, launch: &Launch) -> Result<Facts, NoStart> {
        let folder = self.folder.as_ref().map(TempDir::path);
        let message = configuration(launch, folder).to_string();
        send(self.control(), message.as_bytes(), SendFlags::NOSIGNAL)
            .map_err(|error| NoStart::Io(error.into()))?;
        let answer = wait_readable(self.control(), START_LIMIT).and_then(|()| self.receive());
        match answer.and_then(|(bytes, _)| Ok(serde_json::from_slice(&bytes)?)).map_err(NoStart::Io)? {
            Greeting::Ready(facts) => Ok(facts),
            Greeting::Failed(reason) => Err(NoStart::Failed(reason)),
            Greeting::Missing(name, reason) => Err(match Layer::ALL.into_iter().find(|l| l.name() == name) {
                Some(layer) => NoStart::Missing(layer, reason),
                None => NoStart::Failed(format!("{name}: {reason}")),
            }),
        }
    }

    /// Runs a job. The caller's thread does the waiting.
    pub(crate) fn run(&self, job: &Job) -> Result<Outcome, Fault> {
        let lost = |error: io::Error| Fault::Lost(error.to_string());
        let mut pipes = Pipes::open(job).map_err(lost)?;
        let started = Instant::now();
        self.submit(job, &mut pipes).map_err(lost)?;
        let (reply, handles) = self.follow(job, &mut pipes, started)?;
        let wall = started.elapsed();
        pipes.drain();
        let ending = pipes.ending(&reply)?;
        let files = reply.files.into_iter().zip(handles).map(|(name, handle)| {
            let mut content = Vec::new();
            File::from(handle).take(space(job)).read_to_end(&mut content).map(|_| (name, content))
        });
        Ok(Outcome {
            ending,
            files: files.collect::<io::Result<_>>().map_err(lost)?,
            stdout: pipes.stdout.data,
            stderr: pipes.stderr.data,
            wall,
            cpu: Duration::try_from_secs_f64(reply.cpu).unwrap_or_default(),
        })
    }

    /// Sends the job off: numbers in the message, everything else in open files, whose writing ends are ours no longer.
    fn submit(&self, job: &Job, pipes: &mut Pipes) -> io::Result<()> {
        let request = json!({
            "cpu": job.limits.cpu.as_secs_f64(),
            "memory": job.limits.memory,
            "processes": job.limits.processes,
            "file_size": job.limits.file_size,
            "space": space(job),
            "collect": job.collect,
        })
        .to_string();
        let theirs = std::mem::take(&mut pipes.theirs);
        let handles: Vec<BorrowedFd<'_>> = theirs.iter().map(OwnedFd::as_fd).collect();
        let mut buffer = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(5))];
        let mut ancillary = SendAncillaryBuffer::new(&mut buffer);
        assert!(
            ancillary.push(SendAncillaryMessage::ScmRights(&handles)),
            "the buffer holds five descriptors"
        );
        sendmsg(self.control(), &[IoSlice::new(request.as_bytes())], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Drains the pipes until the worker reports the end of the job, and has it killed when it goes over a limit.
    fn follow(&self, job: &Job, pipes: &mut Pipes, started: Instant) -> Result<(Reply, Vec<OwnedFd>), Fault> {
        let lost = |error: io::Error| Fault::Lost(error.to_string());
        let mut deadline = started + job.limits.wall;
        let mut killed = false;
        loop {
            let now = Instant::now();
            if now >= deadline {
                if killed {
                    return Err(Fault::Lost("the worker did not end a job in time".to_owned()));
                }
                pipes.exceeded.get_or_insert(Resource::Time);
            }
            if !killed && pipes.exceeded.is_some() {
                send(self.control(), b"kill", SendFlags::NOSIGNAL).map_err(|error| lost(error.into()))?;
                killed = true;
                deadline = now + GRACE;
            }
            if pipes.wait(self.control(), deadline.saturating_duration_since(now)).map_err(lost)? {
                let (bytes, handles) = self.receive().map_err(lost)?;
                return match serde_json::from_slice(&bytes).map_err(|error| lost(error.into()))? {
                    Answer::Done(reply) => Ok((reply, handles)),
                    Answer::Failed(reason) => Err(Fault::Lost(reason)),
                };
            }
        }
    }

    fn receive(&self) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
        let mut bytes = vec![0; MAX_REPLY];
        let mut buffer = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_COLLECTED))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut buffer);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let length = recvmsg(self.control(), &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?.bytes;
        if length == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the worker has ended"));
        }
        bytes.truncate(length);
        let handles = ancillary.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(handles) => handles.collect(),
            _ => Vec::new(),
        });
        Ok((bytes, handles.collect()))
    }

    fn control(&self) -> BorrowedFd<'_> {
        self.control.as_ref().expect("the socket is open until the worker is dropped").as_fd()
    }
}

impl Drop for Worker {
    /// A closed socket ends the worker, with its job if there is one; the launcher waits for it and ends too.
    fn drop(&mut self) {
        drop(self.control.take());
        let deadline = Instant::now() + FAREWELL;
        while Instant::now() < deadline {
            match self.launcher.try_wait() {
                Ok(None) => thread::sleep(Duration::from_micros(500)),
                Ok(Some(_)) | Err(_) => return,
            }
        }
        // The kernel kills the worker when the launcher dies, and all the worker's processes with it.
        if let Err(error) = self.launcher.kill().and_then(|()| self.launcher.wait()) {
            tracing::warn!(%error, "a launcher could not be killed");
        }
    }
}

fn spawn(launch: &Launch, control: OwnedFd) -> io::Result<Child> {
    Command::new(&launch.python)
        // No user site, no site, no bytecode files. `-I` would forget the hash seed.
        .args(["-s", "-S", "-B", "-X", "utf8", "-c", RUNNER])
        .env_clear()
        .env("PYTHONHASHSEED", "0")
        .envs(["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"].map(|name| (name, "1")))
        .current_dir("/")
        .stdin(Stdio::from(control))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C in a terminal is for us; we end the workers ourselves.
        .process_group(0)
        .spawn()
}

fn configuration(launch: &Launch, folder: Option<&std::path::Path>) -> serde_json::Value {
    let private = launch.layers.contains(&Layer::Namespaces);
    let processes = if private { Processes::Private } else { Processes::Shared };
    let required: &[&str] = match launch.profile {
        Profile::Plain => &[],
        Profile::Numpy => &["numpy", "numpy.random"],
    };
    let modules = [MODULES, required].concat();
    json!({
        "layers": launch.layers.iter().map(|layer| layer.name()).collect::<Vec<_>>(),
        "site_packages": launch.site_packages,
        "modules": modules,
        "required": required,
        "box": folder,
        "worker_filter": hexadecimal(&seccomp::worker_filter()),
        "job_filter": hexadecimal(&seccomp::job_filter(processes)),
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

fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).expect("a nibble is a digit");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// What programs import. Heavy modules that few of them want (`asyncio`, `ssl`, `unittest.mock`) are left to those: every
/// megabyte of the worker makes each fork slower.
#[rustfmt::skip]
const MODULES: &[&str] = &[
    "abc", "argparse", "array", "ast", "atexit", "base64", "bisect", "calendar", "cmath", "codecs", "collections", "configparser",
    "contextlib",
    "copy", "csv", "dataclasses", "datetime", "decimal", "difflib", "enum", "fnmatch", "fractions", "functools", "glob", "hashlib",
    "heapq", "hmac", "html.parser", "importlib.util", "inspect", "io", "ipaddress", "itertools", "json", "linecache", "logging", "math",
    "numbers", "operator", "os.path", "pathlib", "pickle", "pprint", "queue", "random", "re", "secrets", "shlex", "shutil", "signal",
    "socket", "sqlite3", "statistics", "string", "subprocess", "tempfile", "textwrap", "threading", "time", "traceback", "typing",
    "unicodedata", "urllib.parse", "uuid", "warnings", "weakref", "xml.etree.ElementTree", "xml.sax.saxutils", "zlib",
];

/// Room in the working folder: what the program may add, and what we put there.
fn space(job: &Job) -> u64 {
    let placed: usize = job.files.iter().map(|(_, content)| content.len().next_multiple_of(4096)).sum();
    job.limits.file_size + placed as u64
}

/// The open files of one job.
struct Pipes {
    stdout: Stream,
    stderr: Stream,
    result: Stream,
    /// Program, standard input, and the writing ends of the three streams, in the order that the runner takes them.
    theirs: Vec<OwnedFd>,
    exceeded: Option<Resource>,
}

impl Pipes {
    fn open(job: &Job) -> io::Result<Self> {
        let stdin: &[u8] = match &job.action {
            Action::Script { stdin } => stdin,
            Action::Call { .. } | Action::Evaluate { .. } => &[],
        };
        let mut theirs = vec![memory_file(payload(job).as_bytes())?, memory_file(stdin)?];
        let mut stream = |limit| -> io::Result<Stream> {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
            rustix::io::ioctl_fionbio(&reader, true)?;
            theirs.push(writer);
            Ok(Stream { reader: Some(reader.into()), data: Vec::new(), limit })
        };
        let stdout = stream(job.limits.output)?;
        let stderr = stream(job.limits.output)?;
        let result = stream(MAX_CLAIM)?;
        Ok(Self { stdout, stderr, result, theirs, exceeded: None })
    }

    fn streams(&mut self) -> [&mut Stream; 3] {
        [&mut self.stdout, &mut self.stderr, &mut self.result]
    }

    /// Waits for something to happen and reads what is there. True: the worker has something to say.
    fn wait(&mut self, control: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
        let readers = [&self.stdout, &self.stderr, &self.result].map(|stream| stream.reader.as_ref());
        let mut events = vec![PollFd::from_borrowed_fd(control, PollFlags::IN)];
        events.extend(readers.into_iter().flatten().map(|reader| PollFd::new(reader, PollFlags::IN)));
        let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
        match poll(&mut events, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let answered = !events[0].revents().is_empty();
        self.drain();
        Ok(answered)
    }

    fn drain(&mut self) {
        if self.streams().into_iter().any(|stream| !stream.drain()) {
            self.exceeded.get_or_insert(Resource::Output);
        }
    }

    fn ending(&self, reply: &Reply) -> Result<Ending, Fault> {
        let ending = claim::ending(&self.result.data, reply.status).map_err(Fault::NeverRan)?;
        let over_cpu = reply.over_cpu.then_some(Resource::Time);
        Ok(self.exceeded.or(over_cpu).map_or(ending, Ending::Exceeded))
    }
}

/// A pipe that is read into memory up to a limit. What comes beyond it is read too, and dropped, so that nobody waits for us.
struct Stream {
    reader: Option<File>,
    data: Vec<u8>,
    limit: usize,
}

impl Stream {
    /// Reads what is there. False: it was more than the limit.
    fn drain(&mut self) -> bool {
        let mut buffer = [0; 1 << 14];
        let mut within = true;
        while let Some(reader) = &mut self.reader {
            match reader.read(&mut buffer) {
                Ok(0) => self.reader = None,
                Ok(length) => {
                    let room = self.limit - self.data.len();
                    self.data.extend_from_slice(&buffer[..length.min(room)]);
                    within &= length <= room;
                    if !within {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.reader = None,
            }
        }
        within
    }
}

fn memory_file(content: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("job", MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    Ok(file.into())
}

fn payload(job: &Job) -> String {
    let files: Vec<_> =
        job.files.iter().map(|(name, content)| json!([name, BASE64.encode(content)])).collect();
    json!({ "prelude": job.prelude, "program": job.program, "files": files, "action": job.action })
        .to_string()
}

fn wait_readable(socket: BorrowedFd<'_>, timeout: Duration) -> io::Result<()> {
    let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
    let mut events = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
    if poll(&mut events, Some(&timeout))? == 0 {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "the interpreter does not answer"));
    }
    Ok(())
}
