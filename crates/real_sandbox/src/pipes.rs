//! The open files of one job: what goes to it and what comes back, past the worker.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::Serialize;

use crate::claim::MAX_CLAIM;
use crate::{Action, Job, Resource};

/// The open files of one job.
pub(crate) struct Pipes {
    pub(crate) stdout: Stream,
    pub(crate) stderr: Stream,
    pub(crate) result: Stream,
    /// Standard input, the writing ends of the three streams, and the program: descriptors 0 to 4 of the job.
    pub(crate) theirs: Vec<OwnedFd>,
    /// Bytes of the program and what goes with it.
    pub(crate) payload: usize,
    /// The first limit that was seen to be exceeded.
    pub(crate) exceeded: Option<Resource>,
    /// Where streams are read to.
    buffer: Box<[u8]>,
}

impl Pipes {
    pub(crate) fn open(job: &Job) -> io::Result<Self> {
        let stdin: &[u8] = match &job.action {
            Action::Script { stdin } => stdin,
            Action::Call { .. } | Action::Evaluate { .. } => &[],
        };
        let mut theirs = vec![memory_file(stdin)?];
        let mut stream = |limit| -> io::Result<Stream> {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
            rustix::io::ioctl_fionbio(&reader, true)?;
            theirs.push(writer);
            Ok(Stream { reader: Some(reader.into()), data: Vec::new(), limit })
        };
        let stdout = stream(job.limits.output)?;
        let stderr = stream(job.limits.output)?;
        let result = stream(MAX_CLAIM)?;
        let payload = payload(job);
        theirs.push(memory_file(&payload)?);
        let buffer = vec![0; 1 << 14].into_boxed_slice();
        Ok(Self { stdout, stderr, result, theirs, payload: payload.len(), exceeded: None, buffer })
    }

    /// Waits for something to happen and reads what is there. True: the worker has something to say.
    pub(crate) fn wait(&mut self, control: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
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

    pub(crate) fn drain(&mut self) {
        let Self { stdout, stderr, result, exceeded, buffer, .. } = self;
        if [stdout, stderr, result].into_iter().any(|stream| !stream.drain(buffer)) {
            exceeded.get_or_insert(Resource::Output);
        }
    }
}

/// A pipe that is read into memory up to a limit. What comes beyond it is read too, and dropped, so that nobody waits for us.
pub(crate) struct Stream {
    reader: Option<File>,
    pub(crate) data: Vec<u8>,
    limit: usize,
}

impl Stream {
    /// Reads what is there. False: it was more than the limit.
    fn drain(&mut self, buffer: &mut [u8]) -> bool {
        let mut within = true;
        while let Some(reader) = &mut self.reader {
            match reader.read(buffer) {
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

/// What `run_job` of `runner/program.py` reads.
#[derive(Serialize)]
struct Payload<'a> {
    prelude: &'a str,
    program: &'a str,
    files: Vec<(&'a str, String)>,
    action: &'a Action,
}

fn payload(job: &Job) -> Vec<u8> {
    let files = job.files.iter().map(|(name, content)| (name.as_str(), BASE64.encode(content))).collect();
    let payload = Payload { prelude: &job.prelude, program: &job.program, files, action: &job.action };
    serde_json::to_vec(&payload).expect("a job is plain data")
}
