//! The server under measurement: the real binary, ended by its process id whatever happens.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// Time in which the server must have ended after SIGTERM.
const END_WITHIN: Duration = Duration::from_secs(30);
/// The system counts a process's time in hundredths of a second (`proc_pid_stat(5)`).
const TICK: Duration = Duration::from_millis(10);

/// A running server.
pub struct Server {
    pub address: SocketAddr,
    process: Child,
    started: Instant,
    log: PathBuf,
    /// Open until the end, so that it can always print.
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    /// Starts the binary on the database in `place/data` and a free port, and reads from its greeting which.
    pub fn start(
        place: &Path,
        binary: Option<&Path>,
        settings: &[String],
        database: Option<&str>,
        metrics: SocketAddr,
    ) -> Result<Self> {
        let binary = binary.unwrap_or(Path::new(env!("CARGO_BIN_EXE_allswell")));
        let log = place.join("server.log");
        let mut command = Command::new(binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ALLSWELL_") {
                command.env_remove(name);
            }
        }
        for setting in settings {
            let (name, value) = setting.split_once('=').context("--set takes NAME=VALUE")?;
            command.env(format!("ALLSWELL_{name}"), value);
        }
        if let Some(url) = database {
            command.env("ALLSWELL_DATABASE_URL", url);
        }
        command
            .arg("serve")
            .current_dir(place)
            .env("ALLSWELL_LISTEN", "127.0.0.1:0")
            .env("ALLSWELL_DATA_DIR", place.join("data"))
            .env("ALLSWELL_METRICS_LISTEN", metrics.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?);
        let started = Instant::now();
        let mut process = command
            .spawn()
            .with_context(|| format!("could not start {}", binary.display()))?;
        let stdout = process.stdout.take().context("a pipe was asked for")?;
        let mut server = Server {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            process,
            started,
            log,
            _stdout: BufReader::new(stdout),
        };
        server.address = server.read_address()?;
        Ok(server)
    }

    fn read_address(&mut self) -> Result<SocketAddr> {
        let mut line = String::new();
        while self._stdout.read_line(&mut line)? > 0 {
            if let Some((_, url)) = line.split_once("reached at http://") {
                return url
                    .trim()
                    .parse()
                    .with_context(|| format!("no address in {line:?}"));
            }
            line.clear();
        }
        bail!("the server did not start:\n{}", self.said())
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How long ago it was started.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// User and system time so far, all threads.
    pub fn cpu(&self) -> Result<Duration> {
        Ok(Times::of(&self.process.id().to_string())?.own)
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let line = line.context("the system does not say how much memory the server has")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Ends it as an operator would; it must end well and have had nothing to complain about.
    pub fn stop(&mut self) -> Result<()> {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, Signal::TERM)?;
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.process.try_wait()? {
                break status;
            }
            ensure!(
                begun.elapsed() < END_WITHIN,
                "the server did not end after SIGTERM"
            );
            std::thread::sleep(TICK);
        };
        let said = self.said();
        ensure!(
            status.success() && !said.contains("ERROR") && !said.contains("panicked"),
            "the server ended with {status}:\n{said}"
        );
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is what we want.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Our own user and system time so far.
pub fn own_cpu() -> Result<Duration> {
    Ok(Times::of("self")?.own)
}

/// User and system time of a process and of all that it started, those that have ended too.
pub fn family_cpu(pid: u32) -> Result<Duration> {
    let parent = Times::of(&pid.to_string())?;
    let mut sum = parent.own + parent.ended_children;
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(name) = name
            .to_str()
            .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        else {
            continue;
        };
        // One that ends meanwhile is counted with its parent the next time.
        sum += Times::of(name).map_or(Duration::ZERO, |child| {
            if child.parent == pid {
                child.own
            } else {
                Duration::ZERO
            }
        });
    }
    Ok(sum)
}

/// What the system has counted of a process (`proc_pid_stat(5)`).
struct Times {
    parent: u32,
    own: Duration,
    ended_children: Duration,
}

impl Times {
    fn of(process: &str) -> Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
        // The second field is the program's name in parentheses, and may hold anything.
        let (_, fields) = stat
            .rsplit_once(") ")
            .context("/proc has another form than we know")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let field = |place: usize| -> Result<u32> {
            let field = fields.get(place).context("/proc has another form than we know")?;
            Ok(field.parse()?)
        };
        Ok(Times {
            parent: field(1)?,
            own: TICK * (field(11)? + field(12)?),
            ended_children: TICK * (field(13)? + field(14)?),
        })
    }
}
