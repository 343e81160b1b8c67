//! PostgreSQL for tests: a cluster of the test's own, on a socket and a free loopback port, gone when the test is.
//!
//! A shell stands between the test and the server. It waits for the end of its standard input, which comes when the test
//! process ends in whatever way, stops the server and removes its directory. Where `TEST_POSTGRES` names a cluster that
//! somebody else keeps (`tests/lib/postgres.py`, which `make` uses so that not every test starts one), that one is used.
//! A missing PostgreSQL fails the test; nothing is skipped.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_postgres::NoTls;

/// A running cluster whose superuser is `postgres`, trusted on its socket and on loopback.
pub struct Cluster {
    /// Directory of the socket.
    pub socket_dir: PathBuf,
    /// Port on 127.0.0.1, and of the socket.
    pub port: u16,
    own: Option<Own>,
}

struct Own {
    shell: Child,
    /// Its end is the server's end.
    input: Option<ChildStdin>,
    dir: PathBuf,
    identity: Option<(u32, u32)>,
}

/// What a cluster is started with.
#[derive(Default)]
pub struct Options {
    /// Lines for `postgresql.conf`.
    pub settings: Vec<String>,
    /// Lines for `pg_hba.conf`, instead of trust for everybody.
    pub access: Option<Vec<String>>,
    /// Files for the data directory by name; readable by the server alone.
    pub files: Vec<(String, String)>,
    /// Flush to disk: for tests of durability.
    pub durable: bool,
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests are told by the environment where their tools are"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Where `initdb` and `postgres` are: `TEST_POSTGRES_BIN`, Debian's newest, or the path.
fn program(name: &str) -> PathBuf {
    if let Some(dir) = variable("TEST_POSTGRES_BIN") {
        return Path::new(&dir).join(name);
    }
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    versions.sort_by_key(number);
    let found = versions
        .into_iter()
        .rev()
        .map(|version| version.join("bin").join(name))
        .find(|path| path.exists());
    let on_path = variable("PATH").unwrap_or_default();
    found
        .or_else(|| {
            on_path
                .split(':')
                .map(|dir| Path::new(dir).join(name))
                .find(|path| path.exists())
        })
        .unwrap_or_else(|| panic!("{name} is missing: install PostgreSQL (`make setup` does)"))
}

/// PostgreSQL refuses to run as root; then somebody else does.
fn identity() -> Option<(u32, u32)> {
    let mine = fs::metadata("/proc/self").map(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata));
    if mine.is_ok_and(|uid| uid != 0) {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("the list of users");
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let found = ids("postgres").or_else(|| ids("nobody"));
    Some(found.expect("a user who is not root"))
}

fn as_user(program: PathBuf, identity: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    if let Some((uid, gid)) = identity {
        command.uid(uid).gid(gid);
    }
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C")
        .current_dir("/");
    command
}

impl Cluster {
    /// The cluster that all tests of this process share.
    pub fn shared() -> &'static Cluster {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| match variable("TEST_POSTGRES") {
            Some(place) => {
                let (dir, port) = place.rsplit_once(':').expect("TEST_POSTGRES is DIRECTORY:PORT");
                Cluster {
                    socket_dir: PathBuf::from(dir),
                    port: port.parse().expect("a port"),
                    own: None,
                }
            }
            None => Cluster::start(Options::default()),
        })
    }

    /// Starts a cluster and waits until it answers.
    pub fn start(options: Options) -> Cluster {
        let identity = identity();
        let dir = tempfile::Builder::new()
            .prefix("allswell-pg-")
            .tempdir_in("/tmp")
            .expect("a directory")
            .keep();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("permissions");
        let data = dir.join("data");
        if let Some((uid, gid)) = identity {
            chown(&dir, Some(uid), Some(gid)).expect("an owner");
        }
        let made = as_user(program("initdb"), identity)
            .args([
                "--no-sync",
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "-D",
            ])
            .arg(&data)
            .stdin(Stdio::null())
            .output()
            .expect("initdb runs");
        assert!(
            made.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        for (name, text) in &options.files {
            let path = data.join(name);
            fs::write(&path, text).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("permissions");
            if let Some((uid, gid)) = identity {
                chown(&path, Some(uid), Some(gid)).expect("an owner");
            }
        }
        if let Some(lines) = &options.access {
            fs::write(data.join("pg_hba.conf"), lines.join("\n") + "\n").expect("access");
        }
        let flush = if options.durable { "on" } else { "off" };
        let mut settings = format!(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nmax_connections = 200\n\
             shared_buffers = 64MB\nfsync = {flush}\nfull_page_writes = {flush}\nmax_wal_size = 256MB\n\
             autovacuum = off\njit = off\n",
            dir.display()
        );
        for line in &options.settings {
            settings.push_str(line);
            settings.push('\n');
        }
        fs::write(data.join("postgresql.auto.conf"), settings).expect("settings");
        let mut cluster = Cluster {
            socket_dir: dir.clone(),
            port: free_port(),
            own: Some(Own {
                shell: Command::new("true").spawn().expect("a process"),
                input: None,
                dir,
                identity,
            }),
        };
        cluster.restart();
        cluster
    }

    /// Starts the server of this cluster, again after [`Cluster::stop`].
    pub fn restart(&mut self) {
        let port = self.port;
        let own = self.own.as_mut().expect("a cluster of our own");
        // The server's files go when the test does, and stay when the test only stops it.
        let script = "trap '' INT TERM HUP; rm -f \"$1/stopped\"
            \"$0\" -D \"$1/data\" -p \"$2\" >>\"$1/log\" 2>&1 </dev/null & server=$!
            read word
            kill -QUIT $server 2>/dev/null; wait $server
            if [ \"$word\" = keep ]; then : >\"$1/stopped\"; else rm -rf \"$1\"; fi";
        let mut shell = as_user(PathBuf::from("/bin/sh"), own.identity)
            .args(["-c", script])
            .arg(program("postgres"))
            .arg(&own.dir)
            .arg(port.to_string())
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("a shell");
        own.input = shell.stdin.take();
        let _ = own.shell.wait();
        own.shell = shell;
        let log = own.dir.join("log");
        wait_until(
            || fs::read_to_string(&log).is_ok_and(|text| ready_since_last_start(&text)),
            || {
                format!(
                    "PostgreSQL did not start: {}",
                    fs::read_to_string(&log).unwrap_or_default()
                )
            },
        );
    }

    /// Stops the server at once, as a crash would; its files stay.
    pub fn stop(&mut self) {
        use std::io::Write;
        let own = self.own.as_mut().expect("a cluster of our own");
        if let Some(mut input) = own.input.take() {
            input.write_all(b"keep\n").expect("the shell listens");
        }
        own.shell.wait().expect("the shell ends");
    }

    /// The process id of the running server, the parent of all of its processes.
    pub fn server_pid(&self) -> u32 {
        let own = self.own.as_ref().expect("a cluster of our own");
        let text = fs::read_to_string(own.dir.join("data/postmaster.pid")).expect("the server's own file");
        let first = text.lines().next().unwrap_or_default();
        first.trim().parse().expect("a process id")
    }

    /// The URL of a database of this cluster, on its TCP port.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// The URL of a database of this cluster, on its socket: what a server on the same machine uses.
    pub fn socket_url(&self, database: &str) -> String {
        let dir = self
            .socket_dir
            .to_string_lossy()
            .replace('%', "%25")
            .replace('/', "%2F");
        format!("postgres://postgres@{dir}:{}/{database}", self.port)
    }

    /// Runs a text on a database as the superuser.
    pub async fn run(&self, database: &str, text: &str) {
        self.try_run(database, text)
            .await
            .unwrap_or_else(|error| panic!("{text}: {error:?}"));
    }

    /// The same, and gives the error.
    ///
    /// # Errors
    /// The server's.
    pub async fn try_run(&self, database: &str, text: &str) -> Result<(), tokio_postgres::Error> {
        let (client, connection) = self.connect(database).await?;
        let driven = tokio::spawn(connection);
        let done = client.batch_execute(text).await;
        drop(client);
        let _ = driven.await;
        done
    }

    /// One number from a database.
    pub async fn number(&self, database: &str, text: &str) -> i64 {
        let (client, connection) = self.connect(database).await.expect("a connection");
        let driven = tokio::spawn(connection);
        let row = client.query_one(text, &[]).await;
        drop(client);
        let _ = driven.await;
        row.unwrap_or_else(|error| panic!("{text}: {error:?}")).get(0)
    }

    async fn connect(
        &self,
        database: &str,
    ) -> Result<
        (
            tokio_postgres::Client,
            tokio_postgres::Connection<tokio_postgres::Socket, tokio_postgres::tls::NoTlsStream>,
        ),
        tokio_postgres::Error,
    > {
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(&self.socket_dir)
            .port(self.port)
            .user("postgres")
            .dbname(database);
        config.connect(NoTls).await
    }

    /// Makes an empty database; gives its name.
    pub async fn database(&self) -> String {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("t_{}_{number}", std::process::id());
        self.run(
            "postgres",
            &format!("drop database if exists {name} with (force)"),
        )
        .await;
        self.run("postgres", &format!("create database {name}")).await;
        name
    }

    /// Removes a database and whoever is still connected to it.
    pub async fn remove(&self, name: &str) {
        self.run(
            "postgres",
            &format!("drop database if exists {name} with (force)"),
        )
        .await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(own) = &mut self.own {
            drop(own.input.take());
            let _ = own.shell.wait();
            let _ = fs::remove_dir_all(&own.dir);
        }
    }
}

fn ready_since_last_start(log: &str) -> bool {
    let last = log.rfind("starting PostgreSQL").unwrap_or(0);
    log[last..].contains("database system is ready to accept connections")
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

#[expect(clippy::disallowed_methods, reason = "another process starts in its own time")]
fn wait_until(done: impl Fn() -> bool, sorry: impl Fn() -> String) {
    for _ in 0..600 {
        if done() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{}", sorry());
}
