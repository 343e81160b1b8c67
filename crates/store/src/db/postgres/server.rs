//! Where a PostgreSQL server is and how we speak with it: the URL, TLS, and the bounds of every wait.

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::config::{Host, SslMode};

/// How much of the server's certificate is looked at.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// No TLS.
    Disable,
    /// TLS if the server offers it; its certificate is not looked at.
    Prefer,
    /// TLS, and any certificate will do: whoever sits in between can read everything.
    Require,
    /// TLS with a certificate of a known authority, for whatever name.
    VerifyCa,
    /// TLS with a certificate of a known authority for the name of the host.
    VerifyFull,
}

impl TlsMode {
    /// The words of `sslmode`.
    pub const WORDS: &'static [&'static str] = &["disable", "prefer", "require", "verify-ca", "verify-full"];

    /// The mode of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "disable" => TlsMode::Disable,
            "prefer" => TlsMode::Prefer,
            "require" => TlsMode::Require,
            "verify-ca" => TlsMode::VerifyCa,
            "verify-full" => TlsMode::VerifyFull,
            _ => return None,
        })
    }
}

/// TLS as it was asked for; what is `None` has a default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Default: verify-full, and prefer for a server on this machine.
    pub mode: Option<TlsMode>,
    /// Certificates of the authorities, PEM. Default: those of the system.
    pub root: Option<PathBuf>,
    /// Our own certificate, PEM, for servers that ask for one.
    pub cert: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
}

/// A PostgreSQL database and our manners with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub(crate) config: tokio_postgres::Config,
    /// TLS as the URL has it; a caller fills in what the URL left out.
    pub tls: Tls,
    /// Connections at most, beside those for pings and the one for nudges.
    pub connections: usize,
    /// How long a statement may run.
    pub statement: Duration,
    /// How long a transaction waits for a connection.
    pub acquire: Duration,
    /// After how long a rest a connection for pings is asked whether it is still there, before a batch is sent on it whole.
    pub rest: Duration,
    /// Keep statements prepared on each connection. Off behind a pooler that gives every transaction another one.
    pub prepare: bool,
}

impl Server {
    /// Reads a `postgres://` URL. The error is a sentence without its full stop and never holds what was given.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn from_url(url: &str) -> Result<Self, &'static str> {
        let (rest, tls) = take_tls(url)?;
        let mut config: tokio_postgres::Config = rest
            .parse()
            .map_err(|_| "write postgres://USER:PASSWORD@HOST:PORT/DATABASE")?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err("the host is missing");
        }
        let sockets = config.get_hosts().iter().filter(|host| is_socket(host)).count();
        if sockets > 0 && sockets < config.get_hosts().len() {
            return Err("its hosts are directories of sockets or names, not both");
        }
        if config.get_dbname().is_none() {
            return Err("the name of the database is missing");
        }
        if config.get_application_name().is_none() {
            config.application_name("allswell");
        }
        Ok(Server {
            config,
            tls,
            connections: 10,
            statement: Duration::from_secs(10),
            acquire: Duration::from_secs(5),
            rest: Duration::from_secs(1),
            prepare: true,
        })
    }

    /// Whether the server is on this machine: a socket, or a loopback address.
    pub fn is_local(&self) -> bool {
        let hosts = self.config.get_hosts().iter().all(|host| match host {
            Host::Tcp(name) => {
                name == "localhost"
                    || name
                        .parse()
                        .is_ok_and(|ip: std::net::IpAddr| ip.to_canonical().is_loopback())
            }
            Host::Unix(_) => true,
        });
        let addresses = self.config.get_hostaddrs();
        hosts && addresses.iter().all(|ip| ip.to_canonical().is_loopback())
    }

    /// The mode of TLS in effect. On a socket there is none, whatever is asked for, as with libpq: nobody can listen in, and
    /// the server would not speak it.
    pub fn tls_mode(&self) -> TlsMode {
        if self.config.get_hosts().iter().all(is_socket) && self.config.get_hostaddrs().is_empty() {
            return TlsMode::Disable;
        }
        let default = if self.is_local() {
            TlsMode::Prefer
        } else {
            TlsMode::VerifyFull
        };
        self.tls.mode.unwrap_or(default)
    }

    /// What the driver is told: bounds on waiting, the server's own bounds, TLS or not. `what_for` stands behind the name
    /// of the application, so that `pg_stat_activity` tells apart who has how many connections.
    pub(super) fn driver_config(&self, what_for: &str) -> tokio_postgres::Config {
        let mut config = self.config.clone();
        if let Some(name) = self.config.get_application_name() {
            config.application_name(format!("{name}{what_for}"));
        }
        config.ssl_mode(match self.tls_mode() {
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => SslMode::Require,
        });
        config.connect_timeout(self.acquire);
        config.keepalives_idle(Duration::from_secs(30));
        config.keepalives_interval(Duration::from_secs(10));
        config.tcp_user_timeout(self.statement + self.acquire);
        if self.prepare {
            // A pooler refuses parameters it does not know; behind one each transaction sets these (`session.rs`).
            let mut options = config.get_options().map(str::to_owned).unwrap_or_default();
            for setting in session_settings(self.statement) {
                options.push_str(&format!(" -c {setting}"));
            }
            config.options(options.trim());
        }
        config
    }
}

fn is_socket(host: &Host) -> bool {
    matches!(host, Host::Unix(_))
}

/// What the server holds us to: a statement ends, and a transaction that we forgot does too. And what its planner is told:
/// all that we ask often is found by an index. It knows nothing of a table that grows from nothing within seconds, as all
/// those of flips and deliveries may, and would read the whole of it, for each row of another, until its first analysis.
/// (What it may not do looks dear to it, and would be worth a compilation.)
pub(super) fn session_settings(statement: Duration) -> [String; 4] {
    let millis = statement.as_millis();
    [
        format!("statement_timeout={millis}"),
        format!("idle_in_transaction_session_timeout={}", millis + 5_000),
        "enable_seqscan=off".to_owned(),
        "jit=off".to_owned(),
    ]
}

/// Takes the TLS parameters out of a URL: the driver knows fewer modes than we do, and no files.
fn take_tls(url: &str) -> Result<(String, Tls), &'static str> {
    let mut tls = Tls::default();
    let Some((before, query)) = url.split_once('?') else {
        return Ok((url.to_owned(), tls));
    };
    let mut others = Vec::new();
    for parameter in query.split('&') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let path = || decoded(value).filter(|path| !path.is_empty()).map(PathBuf::from);
        let bad_path = "the path of a certificate or key is not readable";
        match name {
            "sslmode" => {
                let mode = TlsMode::from_word(value);
                tls.mode = Some(mode.ok_or("sslmode is disable, prefer, require, verify-ca or verify-full")?);
            }
            "sslrootcert" => tls.root = Some(path().ok_or(bad_path)?),
            "sslcert" => tls.cert = Some(path().ok_or(bad_path)?),
            "sslkey" => tls.key = Some(path().ok_or(bad_path)?),
            "" => {}
            _ => others.push(parameter),
        }
    }
    let rest = if others.is_empty() {
        before.to_owned()
    } else {
        format!("{before}?{}", others.join("&"))
    };
    Ok((rest, tls))
}

/// Text of a URL with its percent signs resolved; `None` if what comes out is not text.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let hex = std::str::from_utf8(tail.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> TlsMode {
        Server::from_url(url).expect(url).tls_mode()
    }

    #[test]
    fn strangers_must_prove_who_they_are_unless_told_otherwise() {
        for (url, expected) in [
            ("postgres://u@db.example.org/a", TlsMode::VerifyFull),
            ("postgresql://u@10.0.0.1/a", TlsMode::VerifyFull),
            ("postgres://u@localhost,db.example.org/a", TlsMode::VerifyFull),
            ("postgres://u@127.0.0.1:5433/a", TlsMode::Prefer),
            ("postgres://u@localhost/a", TlsMode::Prefer),
            ("postgres://u@[::1]/a", TlsMode::Prefer),
            ("postgres:///a?host=/run/postgresql", TlsMode::Disable),
            ("postgres://u@%2Frun%2Fpostgresql:5433/a", TlsMode::Disable),
            (
                "postgres:///a?host=/run/postgresql&sslmode=require",
                TlsMode::Disable,
            ),
            ("postgres://u@db.example.org/a?sslmode=require", TlsMode::Require),
            (
                "postgres://u@localhost/a?sslmode=verify-full",
                TlsMode::VerifyFull,
            ),
            ("postgres://u@h/a?sslmode=verify-ca&user=u", TlsMode::VerifyCa),
        ] {
            assert_eq!(mode(url), expected, "{url}");
        }
    }

    #[test]
    fn files_of_tls_come_out_of_the_url_and_the_rest_stays() {
        let url = "postgres://u:p@h/a?sslrootcert=/a%20b/ca.pem&application_name=x&sslcert=c&sslkey=k";
        let server = Server::from_url(url).expect("a server");
        assert_eq!(server.tls.root, Some(PathBuf::from("/a b/ca.pem")));
        assert_eq!(server.tls.cert, Some(PathBuf::from("c")));
        assert_eq!(server.tls.key, Some(PathBuf::from("k")));
        assert_eq!(server.config.get_application_name(), Some("x"));
    }

    #[test]
    fn what_cannot_be_used_is_refused_without_repeating_it() {
        for (url, word) in [
            ("postgres://u:canary@h/a?sslmode=allow", "sslmode"),
            ("postgres://u:canary@h/a?sslrootcert=%zz", "path"),
            ("postgres://u:canary@h:port/a", "write postgres://"),
            ("postgres://u:canary@h/a?canary=1", "write postgres://"),
            ("postgres://u:canary@h", "database"),
            ("postgres:///a", "host"),
            ("postgres://u:canary@%2Frun,db.example.org/a", "not both"),
            (
                "postgres://u:canary@db.example.org/a?host=/run/postgresql",
                "not both",
            ),
        ] {
            let error = Server::from_url(url).expect_err(url);
            assert!(
                error.contains(word) && !error.contains("canary"),
                "{url}: {error}"
            );
        }
    }

    #[test]
    fn a_password_is_not_shown_by_debug() {
        let server = Server::from_url("postgres://u:canary@h/a").expect("a server");
        assert!(!format!("{server:?}").contains("canary"));
    }
}
