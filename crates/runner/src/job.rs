//! The job: started, watched, and ended with.
//!
//! The main thread waits for what happens (signals, the ends of streams, the report) in one queue and decides. Streams,
//! signals and the report have a thread each, so that none can hold up another.

use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use rustix::process::{Pid, WaitOptions, WaitStatus};

use crate::clock::Deadline;
use crate::pass::{self, Passed, Stream};
use crate::report::{End, Report, Reporter};
use crate::signals::{self, Arrived, Taken};
use crate::tail::Tail;

/// How long the report waits for output that the job has written and that its reader does not take.
const OUTPUT_WITHIN: Duration = Duration::from_secs(1);
/// How long a job must be stopped before we stop too: a Ctrl-Z and a `fg` reach both of us, in any order.
const STOPPED_FOR: Duration = Duration::from_millis(50);
/// What a report may take beyond its bound, such as for a name that the system does not find.
const REPORT_SLACK: Duration = Duration::from_millis(500);

/// What to run, and how.
pub struct Plan {
    /// The program and its arguments; never empty.
    pub command: Vec<OsString>,
    /// Where to report, and what.
    pub report: Report,
    /// Say on standard error what could not be reported.
    pub say: bool,
}

/// What happens while a job runs.
pub(crate) enum Event {
    Signal(Arrived),
    Passed(Stream, Passed),
    /// The report has arrived, or why not.
    Reported(Option<String>),
}

/// How the job ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this exit status.
    Exit(u8),
    /// By this signal.
    Signal(i32),
}

impl Ended {
    fn of(status: WaitStatus) -> Self {
        match (status.terminating_signal(), status.exit_status()) {
            (Some(signal), _) => Ended::Signal(signal),
            (None, status) => Ended::Exit(status.and_then(|s| u8::try_from(s).ok()).unwrap_or(u8::MAX)),
        }
    }

    /// The status as shells give it: 128 and the number for a signal.
    fn status(self) -> u8 {
        match self {
            Ended::Exit(status) => status,
            Ended::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }

    /// Ends this process in the same way: also whoever waits for it by signal sees what the job did.
    #[must_use]
    pub fn exit_code(self) -> ExitCode {
        if let Ended::Signal(signal) = self {
            use rustix::process::{Resource, Rlimit, setrlimit};
            // The job's own core is the one of interest.
            let none = Rlimit {
                current: Some(0),
                maximum: Some(0),
            };
            let _ = setrlimit(Resource::Core, none);
            // Comes back only for signals that end nobody.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
        ExitCode::from(self.status())
    }
}

/// Becomes the job, with nothing in between. Comes back only if it cannot be started; then that has been said.
pub fn run_unreported(command: &[OsString]) -> Ended {
    let error = Command::new(&command[0]).args(&command[1..]).exec();
    cannot_start(&command[0], &error).0
}

/// Runs the job to its end, and reports.
pub fn run(plan: Plan) -> Ended {
    let mut taken = Taken::block();
    let (events, happening) = mpsc::channel();
    let (ends, ended_orders) = mpsc::channel();
    let tail = pass::shared_tail(plan.report.tail_bytes);
    let within = plan.report.within;
    let mut watch = Watch {
        happening,
        job: None,
        passing: 0,
        complaint: None,
        say: plan.say,
    };

    let with_output = plan.report.tail_bytes > 0;
    let started = taken.unblocked(|| Job::start(&plan.command, with_output));
    let mut reporter = Reporter::new(plan.report);
    let (ended, note) = match started {
        Ok(mut job) => {
            watch.job = Some(job.pid);
            spawn("signals", &events, move |events| taken.listen(&events));
            report_in_a_thread(reporter, ended_orders, &events);
            watch.passing = job.pass(&tail, &events);
            let ended = watch.until_ended();
            // From here on the streams wait for nobody but their readers.
            drop(job);
            (ended, note_of(ended))
        }
        Err(error) => {
            let (ended, note) = cannot_start(&plan.command[0], &error);
            reporter.leave_out_start();
            spawn("signals", &events, move |events| taken.listen(&events));
            report_in_a_thread(reporter, ended_orders, &events);
            (ended, note)
        }
    };
    let by = Deadline::after(within);
    watch.until_passed(by.or_after(OUTPUT_WITHIN));
    let order = End {
        status: ended.status(),
        tail,
        note,
        by,
    };
    let reporting = ends.send(order).is_ok();
    watch.until_over(reporting, Deadline::after(within + REPORT_SLACK));
    watch.complain();
    ended
}

fn report_in_a_thread(reporter: Reporter, ends: Receiver<End>, events: &Sender<Event>) {
    spawn("report", events, move |events| reporter.work(&ends, &events));
}

/// A thread that tells the queue. Where the system gives none, its work is left out and the job goes on.
fn spawn(name: &str, events: &Sender<Event>, work: impl FnOnce(Sender<Event>) + Send + 'static) -> bool {
    let events = events.clone();
    let thread = thread::Builder::new().name(name.to_owned());
    thread.spawn(move || work(events)).is_ok()
}

/// Says that the job cannot be started, with the exit status that shells give.
fn cannot_start(program: &OsString, error: &io::Error) -> (Ended, String) {
    let status = if error.kind() == io::ErrorKind::NotFound {
        127
    } else {
        126
    };
    let note = format!("allswell run: could not start {}: {error}\n", program.display());
    say(&note);
    (Ended::Exit(status), note)
}

/// The line behind the output of a job that was ended by a signal.
fn note_of(ended: Ended) -> String {
    match ended {
        Ended::Exit(_) => String::new(),
        Ended::Signal(signal) => format!("\nallswell run: ended by {}\n", signals::name(signal)),
    }
}

fn say(line: &str) {
    // Nobody may be there to read it.
    let _ = io::stderr().write_all(line.as_bytes());
}

/// The running job, and our ends of its streams.
struct Job {
    pid: Pid,
    streams: Vec<(Stream, PipeReader)>,
    /// Closed when the job has ended, which those who pass its streams on notice.
    running: Option<(PipeReader, PipeWriter)>,
}

impl Job {
    fn start(command: &[OsString], with_output: bool) -> io::Result<Self> {
        let mut process = Command::new(&command[0]);
        process.args(&command[1..]);
        let (mut streams, mut running) = (Vec::new(), None);
        // Where the system has no pipes left, the job keeps the streams that it was given.
        if with_output && let Ok((made, stdout, stderr, mark)) = pipes() {
            process.stdout(stdout).stderr(stderr);
            (streams, running) = (made, Some(mark));
        }
        let child = process.spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok(Job {
            pid: pid.ok_or_else(|| io::Error::other("the system gave it no process id"))?,
            streams,
            running,
        })
    }

    /// Passes the streams on, each in a thread of its own; gives their number.
    fn pass(&mut self, tail: &Arc<Mutex<Tail>>, events: &Sender<Event>) -> usize {
        let mut passing = 0;
        for (stream, from) in std::mem::take(&mut self.streams) {
            let Some(Ok(ended)) = self.running.as_ref().map(|(mark, _)| mark.try_clone()) else {
                continue;
            };
            let tail = Arc::clone(tail);
            let made = spawn("stream", events, move |events| {
                let passed = pass::pass(from, &ended, stream, Some(&*tail));
                let _ = events.send(Event::Passed(stream, passed));
            });
            passing += usize::from(made);
        }
        passing
    }
}

type Pipes = (Vec<(Stream, PipeReader)>, Stdio, Stdio, (PipeReader, PipeWriter));

fn pipes() -> io::Result<Pipes> {
    let mark = io::pipe()?;
    let (from, out) = io::pipe()?;
    if pass::are_one() {
        let error = out.try_clone()?;
        return Ok((vec![(Stream::Out, from)], out.into(), error.into(), mark));
    }
    let (from_error, error) = io::pipe()?;
    let streams = vec![(Stream::Out, from), (Stream::Error, from_error)];
    Ok((streams, out.into(), error.into(), mark))
}

/// Looks after the job until everything about it is over.
struct Watch {
    happening: Receiver<Event>,
    /// While it is there to be sent signals.
    job: Option<Pid>,
    /// Streams that are passed on.
    passing: usize,
    /// What could not be reported, to be said at the end: not in the middle of the job's own output.
    complaint: Option<String>,
    say: bool,
}

impl Watch {
    /// Waits for the end of the job.
    fn until_ended(&mut self) -> Ended {
        let mut stopped: Option<Deadline> = None;
        loop {
            let event = match stopped {
                None => self.happening.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(since) => self.happening.recv_timeout(since.left()),
            };
            match event {
                Ok(Event::Signal(arrived)) if arrived.signal == Signal::SIGCHLD => match self.reap() {
                    Reaped::Ended(ended) => {
                        self.job = None;
                        return ended;
                    }
                    Reaped::Stopped if signals::has_terminal() => {
                        stopped = Some(Deadline::after(STOPPED_FOR))
                    }
                    Reaped::Stopped => {}
                    Reaped::Continued => stopped = None,
                    Reaped::Nothing => {}
                },
                Ok(Event::Signal(arrived)) => self.hand_on(arrived),
                Ok(other) => self.note(other),
                Err(RecvTimeoutError::Timeout) => {
                    // The shell waits for both of us to stop.
                    stopped = None;
                    let _ = rustix::process::kill_process(
                        rustix::process::getpid(),
                        rustix::process::Signal::STOP,
                    );
                }
                // No thread of ours is left: all that can be done is to wait.
                Err(RecvTimeoutError::Disconnected) => return self.wait_for_job(),
            }
        }
    }

    /// Waits until the streams are passed on, or somebody wants an end.
    fn until_passed(&mut self, by: Deadline) {
        while self.passing > 0 && !self.is_bidden_to_end(by) {}
    }

    /// Waits until the report is there and the streams are passed on. A reader who does not read is waited for, as the
    /// job would have; a server is not, beyond its time.
    fn until_over(&mut self, mut reporting: bool, by: Deadline) {
        while reporting || self.passing > 0 {
            let event = if reporting {
                self.happening.recv_timeout(by.left())
            } else {
                self.happening.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match event {
                Ok(Event::Signal(arrived)) if arrived.ends() => return,
                Ok(Event::Reported(complaint)) => {
                    reporting = false;
                    self.complaint = complaint;
                }
                Ok(other) => self.note(other),
                Err(RecvTimeoutError::Timeout) => {
                    reporting = false;
                    self.complaint =
                        Some("the end of the job was not reported: no answer in time".to_owned());
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn is_bidden_to_end(&mut self, by: Deadline) -> bool {
        match self.happening.recv_timeout(by.left()) {
            Ok(Event::Signal(arrived)) => arrived.ends(),
            Ok(other) => {
                self.note(other);
                false
            }
            Err(_) => true,
        }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Passed(stream, passed) => {
                self.passing -= 1;
                if let Some(from) = passed.still_open {
                    // Without a relay the daemon hears that nobody reads it any more, as after a closed terminal.
                    let _ = pass::leave_relay(from, stream);
                }
                if let Some(why) = passed.lost {
                    say(&format!("allswell run: output of the job was lost: {why}\n"));
                }
            }
            Event::Reported(complaint) => self.complaint = complaint,
            Event::Signal(_) => {}
        }
    }

    fn complain(&mut self) {
        if let Some(complaint) = self.complaint.take().filter(|_| self.say) {
            say(&format!("allswell run: {complaint}\n"));
        }
    }

    fn hand_on(&self, arrived: Arrived) {
        let signal = rustix::process::Signal::from_named_raw(arrived.signal as i32);
        if let (Some(job), Some(signal), false) = (self.job, signal, arrived.job_has_it) {
            let _ = rustix::process::kill_process(job, signal);
        }
    }

    /// Looks at what children did. There may be others than the job: those of the program that became us, and as the
    /// first process of a container those that lost their parent.
    fn reap(&self) -> Reaped {
        let mut seen = Reaped::Nothing;
        loop {
            let options = WaitOptions::NOHANG | WaitOptions::UNTRACED | WaitOptions::CONTINUED;
            match rustix::process::wait(options) {
                Ok(Some((pid, status))) if Some(pid) == self.job => {
                    if status.stopped() {
                        seen = Reaped::Stopped;
                    } else if status.continued() {
                        seen = Reaped::Continued;
                    } else {
                        return Reaped::Ended(Ended::of(status));
                    }
                }
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) => return seen,
                // Somebody else was told how it ended.
                Err(_) => return Reaped::Ended(Ended::Exit(u8::MAX)),
            }
        }
    }

    fn wait_for_job(&self) -> Ended {
        loop {
            match rustix::process::waitpid(self.job, WaitOptions::empty()) {
                Ok(Some((_, status))) => return Ended::of(status),
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Ended::Exit(u8::MAX),
            }
        }
    }
}

enum Reaped {
    Nothing,
    Stopped,
    Continued,
    Ended(Ended),
}
