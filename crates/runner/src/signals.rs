//! Signals of the wrapper: taken as data, and handed on to the job where it did not get them itself.
//!
//! They are blocked, not handled: what is ignored stays ignored in the job (`nohup`), and what stops (Ctrl-Z) stops the
//! wrapper together with its job, as the shell expects.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;

use nix::sys::signal::{SigSet, Signal};

use crate::job::Event;

/// What we take instead of letting it do its work on us.
const TAKEN: [Signal; 10] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGWINCH,
    Signal::SIGCONT,
    Signal::SIGCHLD,
];

/// A signal that arrived.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) signal: Signal,
    /// It came from the terminal, which sent it to the job as well.
    pub(crate) job_has_it: bool,
}

impl Arrived {
    /// Somebody wants an end.
    pub(crate) fn ends(self) -> bool {
        use Signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
        matches!(self.signal, SIGTERM | SIGINT | SIGQUIT | SIGHUP)
    }
}

/// Blocks the signals that we take, for this thread and those it makes from here on. The job gets them unblocked.
pub(crate) fn block() -> SigSet {
    let mut set = SigSet::empty();
    TAKEN.iter().for_each(|signal| set.add(*signal));
    // Whoever started us may ignore SIGCHLD; then the system would throw the job's exit status away. A handler, which
    // never runs while the signal is blocked, undoes that.
    let _ = signal_hook::flag::register(Signal::SIGCHLD as i32, Arc::new(AtomicBool::new(false)));
    // Where it fails, signals do to us what they do to anybody.
    let _ = set.thread_block();
    set
}

/// Hands what arrives to `events`, for ever.
#[cfg(target_os = "linux")]
pub(crate) fn listen(set: &SigSet, events: &Sender<Event>) {
    use nix::sys::signalfd::{SfdFlags, SignalFd};
    /// `si_code` of what the kernel sends by itself, such as a Ctrl-C at the terminal.
    const FROM_KERNEL: i32 = 0x80;
    let Ok(arriving) = SignalFd::with_flags(set, SfdFlags::SFD_CLOEXEC) else {
        return listen_without_origin(set, events);
    };
    loop {
        let info = match arriving.read_signal() {
            Ok(Some(info)) => info,
            Ok(None) | Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => return listen_without_origin(set, events),
        };
        let number = i32::try_from(info.ssi_signo).unwrap_or_default();
        let Ok(signal) = Signal::try_from(number) else {
            continue;
        };
        // The hangup of a terminal goes to the leader of its session alone.
        let hangup = signal == Signal::SIGHUP && leads_session();
        let arrived = Arrived {
            signal,
            job_has_it: info.ssi_code == FROM_KERNEL && !hangup,
        };
        if events.send(Event::Signal(arrived)).is_err() {
            return;
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn listen(set: &SigSet, events: &Sender<Event>) {
    listen_without_origin(set, events);
}

/// Where the system does not say who sent a signal, those of the keyboard are taken to come from it if it is ours.
fn listen_without_origin(set: &SigSet, events: &Sender<Event>) {
    use Signal::{SIGINT, SIGQUIT, SIGWINCH};
    while let Ok(signal) = set.wait() {
        let of_keyboard = matches!(signal, SIGINT | SIGQUIT | SIGWINCH);
        let arrived = Arrived {
            signal,
            job_has_it: of_keyboard && has_terminal(),
        };
        if events.send(Event::Signal(arrived)).is_err() {
            return;
        }
    }
}

fn leads_session() -> bool {
    rustix::process::getsid(None).is_ok_and(|session| session == rustix::process::getpid())
}

/// Whether a terminal's keyboard speaks to our process group.
pub(crate) fn has_terminal() -> bool {
    let ours = rustix::process::getpgrp();
    let streams = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ];
    streams
        .iter()
        .any(|stream| rustix::termios::tcgetpgrp(stream).is_ok_and(|group| group == ours))
}

/// The name of a signal, or its number.
pub(crate) fn name(signal: i32) -> String {
    Signal::try_from(signal).map_or_else(
        |_| format!("signal {signal}"),
        |signal| signal.as_str().to_owned(),
    )
}
