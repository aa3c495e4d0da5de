//! One warm interpreter, seen from this side of its control socket.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, send, sendmsg, socketpair,
};
use serde::Deserialize;
use tempfile::TempDir;

use crate::group::{Group, Hierarchy};
use crate::launch::Launch;
use crate::pipes::Pipes;
use crate::{Ending, Job, Layer, Outcome, Resource, claim};

/// How long a fresh interpreter may take to import its profile on a busy machine.
const START_LIMIT: Duration = Duration::from_mins(1);
/// How long a worker may take to kill a job and say so.
const GRACE: Duration = Duration::from_secs(10);
/// How long a worker may take to end once its socket is closed.
const FAREWELL: Duration = Duration::from_secs(3);
/// The most files that one job may hand back: what fits into one message.
pub(crate) const MAX_COLLECTED: usize = 64;
const MAX_REPLY: usize = 1 << 16;

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
    /// The worker was killed because its job took too much memory: the program's doing.
    Starved,
    /// The worker is well, and the job failed before its program got control.
    NeverRan(String),
}

#[derive(Debug)]
pub(crate) struct Worker {
    control: Option<OwnedFd>,
    launcher: Child,
    facts: Facts,
    /// Removed last, when its processes are gone.
    group: Option<Group>,
    /// Processes in it that the kernel had killed for want of memory, when it was last asked.
    kills: Cell<u64>,
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

/// How a job ended, in the worker's words.
struct Reply {
    status: i32,
    cpu: f64,
    over_cpu: bool,
    files: Vec<String>,
}

impl Reply {
    /// Reads `REPLY` of `runner/worker.py`: the letter "D", the wait status, CPU seconds, whether these are too many, and names as JSON.
    /// Anything else is the worker's last words.
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        const LENGTH: usize = 1 + 4 + 8 + 1;
        let last_words = || String::from_utf8_lossy(bytes).into_owned();
        let (head, names) = bytes.split_at_checked(LENGTH).ok_or_else(last_words)?;
        let (b'D', numbers) = (head[0], &head[1..]) else { return Err(last_words()) };
        let (status, numbers) = numbers.split_first_chunk().expect("the length was checked");
        let (cpu, numbers) = numbers.split_first_chunk().expect("the length was checked");
        let files = if names.is_empty() { Ok(Vec::new()) } else { serde_json::from_slice(names) };
        Ok(Self {
            status: i32::from_ne_bytes(*status),
            cpu: f64::from_ne_bytes(*cpu),
            over_cpu: numbers[0] != 0,
            files: files.map_err(|error| error.to_string())?,
        })
    }
}

/// `REQUEST` of `runner/worker.py`, and the names of files to collect as JSON.
fn request(job: &Job, payload: usize) -> Vec<u8> {
    let limits = &job.limits;
    let mut bytes = Vec::with_capacity(64);
    bytes.extend(limits.cpu.as_secs_f64().to_ne_bytes());
    for number in [limits.memory, limits.file_size, space(job)] {
        bytes.extend(number.to_ne_bytes());
    }
    for number in [limits.processes, payload as u32] {
        bytes.extend(number.to_ne_bytes());
    }
    if !job.collect.is_empty() {
        bytes.extend(serde_json::to_vec(&job.collect).expect("names are plain data"));
    }
    bytes
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
        let launcher = launch.spawn(theirs).map_err(NoStart::Io)?;
        let facts = Facts { python: String::new(), landlock: 0, memory: 0 };
        let group = launch.hierarchy.as_ref().map(Hierarchy::group).transpose().map_err(NoStart::Failed)?;
        let mut worker = Self { control: Some(control), launcher, facts, group, kills: Cell::new(0), folder };
        if let Some(group) = &worker.group {
            // Before the launcher hears of anything, and starts anybody.
            group.enclose(worker.launcher.id()).map_err(NoStart::Failed)?;
        }
        worker.facts = worker.greet(launch)?;
        Ok(worker)
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    fn greet(&self, launch: &Launch) -> Result<Facts, NoStart> {
        let folder = self.folder.as_ref().map(TempDir::path);
        let message = launch.configuration(folder).to_string();
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
        if let Some(group) = &self.group {
            let memory = self.facts.memory + job.limits.memory + space(job);
            // The launcher, the worker, and a job that is being killed while the next one starts.
            group.limit(memory, 2 * job.limits.processes + 4).map_err(Fault::Lost)?;
        }
        let started = Instant::now();
        self.submit(job, &mut pipes).map_err(lost)?;
        let followed = self.follow(job, &mut pipes, started);
        let wall = started.elapsed();
        let (reply, handles) = match followed {
            Err(Fault::Lost(_)) if self.was_starved() => return Err(Fault::Starved),
            other => other?,
        };
        pipes.drain();
        let mut ending = ending(&pipes, &reply)?;
        if self.was_starved() {
            ending = Ending::Exceeded(Resource::Memory);
        }
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

    /// Whether the kernel has killed a process for want of memory since this was last asked.
    fn was_starved(&self) -> bool {
        let Some(group) = &self.group else { return false };
        let kills = group.kills();
        kills > self.kills.replace(kills)
    }

    /// Sends the job off: numbers in the message, everything else in open files, whose writing ends are ours no longer.
    fn submit(&self, job: &Job, pipes: &mut Pipes) -> io::Result<()> {
        let request = request(job, pipes.payload);
        let theirs = std::mem::take(&mut pipes.theirs);
        let handles: Vec<BorrowedFd<'_>> = theirs.iter().map(OwnedFd::as_fd).collect();
        let mut buffer = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(5))];
        let mut ancillary = SendAncillaryBuffer::new(&mut buffer);
        assert!(
            ancillary.push(SendAncillaryMessage::ScmRights(&handles)),
            "the buffer holds five descriptors"
        );
        sendmsg(self.control(), &[IoSlice::new(&request)], &mut ancillary, SendFlags::NOSIGNAL)?;
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
                let reply = Reply::parse(&bytes).map_err(Fault::Lost)?;
                return Ok((reply, handles));
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

/// A limit that was exceeded comes before what the process said about itself.
fn ending(pipes: &Pipes, reply: &Reply) -> Result<Ending, Fault> {
    let ending = claim::ending(&pipes.result.data, reply.status).map_err(Fault::NeverRan)?;
    let over_cpu = reply.over_cpu.then_some(Resource::Time);
    Ok(pipes.exceeded.or(over_cpu).map_or(ending, Ending::Exceeded))
}

/// Room in the working folder: what the program may add, and what we put there.
fn space(job: &Job) -> u64 {
    let placed: usize = job.files.iter().map(|(_, content)| content.len().next_multiple_of(4096)).sum();
    job.limits.file_size + placed as u64
}

fn wait_readable(socket: BorrowedFd<'_>, timeout: Duration) -> io::Result<()> {
    let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
    let mut events = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
    if poll(&mut events, Some(&timeout))? == 0 {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "the interpreter does not answer"));
    }
    Ok(())
}
