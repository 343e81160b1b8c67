//! Signals of the wrapper: taken as data, and handed on to the job where it did not get them itself.
//!
//! They are blocked, not handled: what is ignored stays ignored in the job (`nohup`), and what stops (Ctrl-Z) stops the
//! wrapper together with its job, as the shell expects.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::unistd;

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

/// The signals that we take, blocked for this thread and those it makes from here on.
pub(crate) struct Taken {
    set: SigSet,
    /// What was blocked before us, which is what the job begins with.
    before: SigSet,
    /// Those that arrived while nothing was blocked.
    caught: Vec<(Signal, Arc<AtomicBool>)>,
}

impl Taken {
    pub(crate) fn block() -> Self {
        // Whoever started us may ignore SIGCHLD; then the system would throw the job's exit status away. A handler,
        // which never runs while the signal is blocked, undoes that.
        let _ = signal_hook::flag::register(Signal::SIGCHLD as i32, Arc::default());
        let mut set = SigSet::empty();
        TAKEN.iter().for_each(|signal| set.add(*signal));
        // Where it fails, signals do to us what they do to anybody.
        let before = set.thread_swap_mask(SigmaskHow::SIG_BLOCK);
        Taken {
            set,
            before: before.unwrap_or_else(|_| SigSet::empty()),
            caught: Vec::new(),
        }
    }

    /// Does what makes the job, which begins with what is blocked here: nothing of ours. What arrives meanwhile is kept.
    /// A signal that is ignored gets no handler, since the job would then not ignore it.
    pub(crate) fn unblocked<T>(&mut self, make: impl FnOnce() -> T) -> T {
        let ignored = ignored();
        for signal in TAKEN.into_iter().filter(|signal| ends(*signal)) {
            let flag = Arc::new(AtomicBool::new(false));
            let is_ignored = ignored & (1 << (signal as u32 - 1)) != 0;
            if !is_ignored && signal_hook::flag::register(signal as i32, Arc::clone(&flag)).is_ok() {
                self.caught.push((signal, flag));
            }
        }
        let _ = self.before.thread_set_mask();
        let made = make();
        let _ = self.set.thread_block();
        made
    }

    /// Hands what arrives to `events`, for ever.
    pub(crate) fn listen(self, events: &Sender<Event>) {
        // The job may be over already, and its SIGCHLD have come while nothing was blocked.
        let over = (Signal::SIGCHLD, Arc::new(AtomicBool::new(true)));
        for (signal, flag) in self.caught.into_iter().chain([over]) {
            let arrived = Arrived {
                signal,
                job_has_it: false,
            };
            if flag.load(Ordering::Acquire) && events.send(Event::Signal(arrived)).is_err() {
                return;
            }
        }
        listen(&self.set, events);
    }
}

/// Signals that this process ignores, a bit for each; none where the system does not tell.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .unwrap_or(0)
}

/// Lets every signal through again: a process inherits what is blocked.
pub(crate) fn unblock_all() {
    let _ = SigSet::all().thread_unblock();
}

fn ends(signal: Signal) -> bool {
    !matches!(signal, Signal::SIGWINCH | Signal::SIGCONT | Signal::SIGCHLD)
}

#[cfg(target_os = "linux")]
fn listen(set: &SigSet, events: &Sender<Event>) {
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
fn listen(set: &SigSet, events: &Sender<Event>) {
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

/// `nix` asks, here and below: for a session or group whose leader is outside our namespace of processes, as in a
/// container entered from outside, the kernel answers 0, which `rustix` holds to be impossible.
fn leads_session() -> bool {
    unistd::getsid(None).is_ok_and(|session| session == unistd::getpid())
}

/// Whether a terminal's keyboard speaks to our process group.
pub(crate) fn has_terminal() -> bool {
    let ours = unistd::getpgrp();
    let streams = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ];
    streams
        .iter()
        .any(|stream| unistd::tcgetpgrp(stream).is_ok_and(|group| group == ours && group.as_raw() != 0))
}

/// The name of a signal, or its number.
pub(crate) fn name(signal: i32) -> String {
    Signal::try_from(signal).map_or_else(
        |_| format!("signal {signal}"),
        |signal| signal.as_str().to_owned(),
    )
}
