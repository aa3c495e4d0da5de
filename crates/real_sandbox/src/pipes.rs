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
use serde_json::json;

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
        theirs.push(memory_file(payload.as_bytes())?);
        Ok(Self { stdout, stderr, result, theirs, payload: payload.len(), exceeded: None })
    }

    fn streams(&mut self) -> [&mut Stream; 3] {
        [&mut self.stdout, &mut self.stderr, &mut self.result]
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
        if self.streams().into_iter().any(|stream| !stream.drain()) {
            self.exceeded.get_or_insert(Resource::Output);
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
