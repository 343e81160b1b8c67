//! Passing a stream of the job on to where it would have gone, byte by byte as it comes.
//!
//! One thread for each stream, which blocks when its reader does, so that the job waits as it would without us.

use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::signals;
use crate::tail::Tail;

const CHUNK_BYTES: usize = 64 * 1024;

/// Which of our streams.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Error,
}

impl Stream {
    fn fd(self) -> BorrowedFd<'static> {
        match self {
            Stream::Out => rustix::stdio::stdout(),
            Stream::Error => rustix::stdio::stderr(),
        }
    }
}

/// Whether both streams lead to the same place. One pipe for both then keeps the order of what is printed.
pub(crate) fn are_one() -> bool {
    let place = |stream: Stream| {
        let stat = rustix::fs::fstat(stream.fd()).ok()?;
        Some((stat.st_dev, stat.st_ino, stat.st_rdev))
    };
    let (out, error) = (place(Stream::Out), place(Stream::Error));
    out.is_some() && out == error
}

/// How writing went so far.
enum Target {
    Takes,
    /// The disk is full, or the terminal is gone. Going on without it does the job no harm.
    Refuses(io::Error),
}

/// What is left when the job has ended.
pub(crate) struct Passed {
    /// The stream, if somebody else still holds its other end: a daemon that the job left behind.
    pub(crate) still_open: Option<PipeReader>,
    /// Output that could not be passed on, and why.
    pub(crate) lost: Option<io::Error>,
}

/// Passes on until the stream ends or, once `ended` has no writer any more, what the job has written is passed on.
pub(crate) fn pass(
    mut from: PipeReader,
    ended: &PipeReader,
    to: Stream,
    tail: Option<&Mutex<Tail>>,
) -> Passed {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut target = Target::Takes;
    while !wait_for_more(&from, ended) {
        if pass_once(&mut from, &mut chunk, to, tail, &mut target).is_none() {
            return Passed::over(target);
        }
    }
    // The job is gone: what it wrote lies in the pipe now, and only that is waited for.
    let mut due = waiting_bytes(&from);
    while due > 0 || nobody_writes(&from) {
        let room = if due == 0 {
            chunk.len()
        } else {
            chunk.len().min(due)
        };
        match pass_once(&mut from, &mut chunk[..room], to, tail, &mut target) {
            Some(passed) => due = due.saturating_sub(passed),
            None => return Passed::over(target),
        }
    }
    Passed {
        still_open: Some(from),
        ..Passed::over(target)
    }
}

impl Passed {
    fn over(target: Target) -> Self {
        Passed {
            still_open: None,
            lost: match target {
                Target::Takes => None,
                Target::Refuses(why) => Some(why),
            },
        }
    }
}

/// Waits for more to pass on; `true` if the job has ended instead.
fn wait_for_more(from: &PipeReader, ended: &PipeReader) -> bool {
    let mut fds = [
        PollFd::new(from, PollFlags::IN),
        PollFd::new(ended, PollFlags::IN),
    ];
    loop {
        match poll(&mut fds, None) {
            Ok(_) => return !fds[1].revents().is_empty(),
            Err(Errno::INTR) => {}
            // A blocking read waits as well.
            Err(_) => return false,
        }
    }
}

fn waiting_bytes(from: &PipeReader) -> usize {
    rustix::io::ioctl_fionread(from).map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// Whether the other end is closed, so that reading comes to an end.
fn nobody_writes(from: &PipeReader) -> bool {
    let mut fds = [PollFd::new(from, PollFlags::IN)];
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
}

/// Reads once and passes that on; gives the bytes, and `None` at the end of the stream or when nobody reads it any more.
fn pass_once(
    from: &mut PipeReader,
    chunk: &mut [u8],
    to: Stream,
    tail: Option<&Mutex<Tail>>,
    target: &mut Target,
) -> Option<usize> {
    let read = match from.read(chunk) {
        Ok(read) => read,
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Some(0),
        Err(_) => 0,
    };
    if read == 0 {
        return None;
    }
    if let Some(tail) = tail {
        tail.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(&chunk[..read]);
    }
    if let Target::Takes = target
        && let Err(error) = write_all(to.fd(), &chunk[..read])
    {
        // Its reader is gone. Closing our end tells the job what it would have heard without us: SIGPIPE.
        if error == Errno::PIPE {
            return None;
        }
        *target = Target::Refuses(error.into());
    }
    Some(read)
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            // Somebody who shares the stream made it one that does not wait.
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(&to, PollFlags::OUT)], None);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A process of its own that goes on passing on what a daemon writes after its job has ended. Without it the daemon's
/// next line would end it by SIGPIPE. It ends with the daemon.
pub(crate) fn leave_relay(from: PipeReader, to: Stream) -> io::Result<()> {
    // The file that runs now, also if it has been replaced or removed since.
    let program = if cfg!(target_os = "linux") {
        "/proc/self/exe".into()
    } else {
        std::env::current_exe()?
    };
    let target = to.fd().try_clone_to_owned()?;
    // Not waited for: it outlives us.
    drop(
        Command::new(program)
            .arg("relay")
            .env_clear()
            .stdin(Stdio::from(from))
            .stdout(Stdio::from(target))
            .stderr(Stdio::null())
            .spawn()?,
    );
    Ok(())
}

/// What that process does: standard input to standard output until one of them ends.
pub fn relay() {
    // Away from the terminal's signals and from any directory that somebody may want to unmount.
    signals::unblock_all();
    let _ = rustix::process::setsid();
    let _ = rustix::process::chdir("/");
    let Ok(from) = rustix::stdio::stdin().as_fd().try_clone_to_owned() else {
        return;
    };
    let (mut from, mut chunk, mut target) = (PipeReader::from(from), vec![0; CHUNK_BYTES], Target::Takes);
    while pass_once(&mut from, &mut chunk, Stream::Out, None, &mut target).is_some() {}
}

/// A tail that several streams fill.
pub(crate) fn shared_tail(bytes_max: usize) -> Arc<Mutex<Tail>> {
    Arc::new(Mutex::new(Tail::new(bytes_max)))
}
