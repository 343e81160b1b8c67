//! The log: lines on standard error, as text or JSON.
//!
//! Lines are written by a thread of their own, behind a bounded queue: a terminal that was stopped or a log collector
//! that hangs must not stop the watch. What does not fit, or finds a full disk, is dropped and counted, and the log says
//! how many it were as soon as it can.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat, LogLevel};

/// Lines that may wait to be written.
const LINES_MAX: usize = 8_192;
/// Bytes of a line; what is longer is cut.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// How long the end of the program waits for the last lines.
const FINISH_MAX: Duration = Duration::from_secs(1);
/// How soon it is tried again to say how many lines were lost.
const TELL_AGAIN: Duration = Duration::from_secs(1);

enum Item {
    Line(Vec<u8>),
    /// Everything before this is written: have it reach the disk, and say so.
    Finish(Box<dyn FnOnce() + Send>),
}

/// The way into the log.
#[derive(Clone)]
pub struct LogWriter {
    lines: SyncSender<Item>,
    lost: Arc<AtomicU64>,
}

impl LogWriter {
    /// How many lines could not be written so far.
    pub fn lost(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.lost)
    }

    /// Waits until what was logged is written, but not for ever.
    pub fn finish(&self) {
        let (done, written) = sync_channel(1);
        let say = Box::new(move || _ = done.send(()));
        if self.lines.try_send(Item::Finish(say)).is_ok() {
            let _ = written.recv_timeout(FINISH_MAX);
        }
    }

    /// Asks for word that what was logged is written; none comes from a log that is full.
    pub fn flushed(&self) -> oneshot::Receiver<()> {
        let (done, written) = oneshot::channel();
        let say = Box::new(move || _ = done.send(()));
        let _ = self.lines.try_send(Item::Finish(say));
        written
    }

    fn put(&self, line: Vec<u8>) {
        if self.lines.try_send(Item::Line(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One line on its way; handed over whole when it is dropped.
pub struct Line<'w> {
    writer: &'w LogWriter,
    text: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        let room = LINE_BYTES_MAX.saturating_sub(self.text.len());
        self.text.extend_from_slice(&part[..part.len().min(room)]);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let mut text = std::mem::take(&mut self.text);
        if !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        self.writer.put(text);
    }
}

impl<'w> MakeWriter<'w> for LogWriter {
    type Writer = Line<'w>;

    fn make_writer(&'w self) -> Line<'w> {
        Line {
            writer: self,
            text: Vec::new(),
        }
    }
}

/// A log that a thread of its own writes to `out`.
fn spawn(out: impl Write + Send + 'static) -> LogWriter {
    let (lines, waiting) = sync_channel(LINES_MAX);
    let lost = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&lost);
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write_lines(&waiting, out, &counted))
        .expect("the system gives the log its thread");
    LogWriter { lines, lost }
}

fn write_lines<W: Write>(waiting: &Receiver<Item>, mut out: W, lost: &AtomicU64) {
    let mut told = 0;
    // A full disk may have taken the beginning of a line: the next one begins anew.
    let mut broken = false;
    let mut put = |out: &mut W, line: &[u8]| {
        if broken && out.write_all(b"\n").is_err() {
            return false;
        }
        broken = out.write_all(line).is_err();
        !broken
    };
    loop {
        let is_owed = lost.load(Ordering::Relaxed) > told;
        let item = if is_owed {
            waiting.recv_timeout(TELL_AGAIN)
        } else {
            waiting.recv().map_err(RecvTimeoutError::from)
        };
        match item {
            // A standard error that is closed is nobody's business any more; going on empties the queue.
            Ok(Item::Line(line)) => {
                if !put(&mut out, &line) {
                    lost.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(Item::Finish(say)) => {
                // What it should have brought to the disk may be gone.
                if out.flush().is_err() {
                    lost.fetch_add(1, Ordering::Relaxed);
                }
                say();
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let all = lost.load(Ordering::Relaxed);
        if all > told {
            let line = format!(
                "{} lines of the log were lost: they could not be written, or not fast enough\n",
                all - told
            );
            if put(&mut out, line.as_bytes()) {
                told = all;
            }
        }
    }
}

/// Standard error. Where it is a file, a flush has what was written reach the disk.
struct StandardError {
    file: Option<File>,
}

impl StandardError {
    fn new() -> Self {
        let file = io::stderr().as_fd().try_clone_to_owned().map(File::from);
        let is_file = |file: &File| file.metadata().is_ok_and(|about| about.is_file());
        StandardError {
            file: file.ok().filter(is_file),
        }
    }
}

impl Write for StandardError {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        io::stderr().write(part)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), File::sync_data)
    }
}

/// Begins to write the log.
pub fn start(log: Log) -> LogWriter {
    let level = match log.level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    };
    let writer = spawn(StandardError::new());
    // What a channel of the kind `log` tells is no talk of ours: it is written at every level.
    let wanted = Targets::new()
        .with_default(level)
        .with_target(allswell_engine::deliver::TOLD, Level::WARN.max(level));
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_target(false)
        .with_writer(writer.clone());
    let log_of = tracing_subscriber::registry().with(wanted);
    match log.format {
        LogFormat::Text => log_of.with(lines).init(),
        LogFormat::Json => log_of.with(lines.json().flatten_event(true)).init(),
    }
    let last_words = writer.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        let said = panic.payload_as_str().unwrap_or("without a word").to_owned();
        tracing::error!(
            panic.place = place,
            panic.thread = thread,
            "a broken invariant: {said} ({place})"
        );
        // The process may be about to end.
        last_words.finish();
    }));
    writer
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};

    /// An output that takes a line only when it is let.
    struct Slow {
        let_go: Receiver<()>,
        seen: Sender<String>,
    }

    impl Write for Slow {
        fn write(&mut self, part: &[u8]) -> io::Result<usize> {
            let _ = self.let_go.recv();
            let _ = self.seen.send(String::from_utf8_lossy(part).into_owned());
            Ok(part.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_output_that_hangs_stops_nobody_and_what_was_lost_is_told() {
        let (go, let_go) = channel();
        let (seen, lines) = channel();
        let writer = spawn(Slow { let_go, seen });
        for number in 0..LINES_MAX + 100 {
            writeln!(writer.make_writer(), "line {number}").expect("a line in memory");
        }
        let lost = writer.lost().load(Ordering::Relaxed);
        assert!((99..=100).contains(&lost), "{lost}: one line may be on its way");
        drop(go);
        drop(writer);
        let all: Vec<String> = lines.iter().collect();
        assert_eq!(all[0], "line 0\n");
        assert!(
            all.concat()
                .contains(&format!("{lost} lines of the log were lost"))
        );
    }

    #[test]
    fn word_of_a_flush_comes_when_what_was_said_is_written() {
        let (go, let_go) = channel();
        let (seen, lines) = channel();
        let writer = spawn(Slow { let_go, seen });
        writeln!(writer.make_writer(), "a").expect("a line in memory");
        let mut flushed = writer.flushed();
        assert!(flushed.try_recv().is_err(), "the output hangs");
        drop(go);
        assert_eq!(flushed.blocking_recv(), Ok(()));
        assert_eq!(lines.try_recv().as_deref(), Ok("a\n"));
    }

    /// An output on a disk that is full at first, and takes the beginning of a line with it.
    struct Full {
        refused: u32,
        seen: Sender<String>,
    }

    impl Write for Full {
        fn write(&mut self, part: &[u8]) -> io::Result<usize> {
            if self.refused > 0 && part.len() > 3 {
                let _ = self.seen.send(String::from_utf8_lossy(&part[..3]).into_owned());
                return Ok(3);
            }
            if self.refused > 0 {
                self.refused -= 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
            let _ = self.seen.send(String::from_utf8_lossy(part).into_owned());
            Ok(part.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An output whose disk fails when what was written is to reach it.
    struct Unsure;

    impl Write for Unsure {
        fn write(&mut self, part: &[u8]) -> io::Result<usize> {
            Ok(part.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }

    #[test]
    fn a_flush_that_fails_counts_as_a_line_that_was_lost() {
        let writer = spawn(Unsure);
        writeln!(writer.make_writer(), "a").expect("a line in memory");
        assert_eq!(writer.flushed().blocking_recv(), Ok(()));
        assert_eq!(writer.lost().load(Ordering::Relaxed), 1);
    }

    #[test]
    fn lines_that_found_a_full_disk_are_counted_and_told_when_there_is_space() {
        let (seen, lines) = channel();
        let writer = spawn(Full { refused: 4, seen });
        for number in 0..4 {
            writeln!(writer.make_writer(), "{number}").expect("a line in memory");
        }
        writer.finish();
        let lost = writer.lost().load(Ordering::Relaxed);
        drop(writer);
        let all: String = lines.iter().collect();
        assert_eq!(lost, 2, "{all}");
        assert!(
            all.contains(&format!("{lost} lines of the log were lost")) && all.ends_with("\n3\n"),
            "{all:?}"
        );
    }

    #[test]
    fn a_line_is_written_whole_and_bounded() {
        let (go, let_go) = channel();
        let (seen, lines) = channel();
        drop(go);
        let writer = spawn(Slow { let_go, seen });
        let mut line = writer.make_writer();
        write!(line, "a")
            .and_then(|()| write!(line, "{}", "b".repeat(LINE_BYTES_MAX)))
            .expect("a line in memory");
        drop(line);
        writer.finish();
        drop(writer);
        let text: String = lines.iter().collect();
        assert_eq!(text.len(), LINE_BYTES_MAX + 1);
        assert!(text.starts_with("ab") && text.ends_with("b\n"));
    }
}
