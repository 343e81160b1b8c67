//! Everything an operator can set, parsed once at start into fields that are already valid.
//!
//! `settings.rs` is the one table: the keys of the file, the names of the environment, the example file and
//! `config show` all come from it. To add a setting, add its row there and its field here.
//! Nothing is global: `main` hands each part the piece it needs. No other module reads the environment or a
//! configuration file, and nothing here prints a secret: what may hold one is `Secret` or passes `masked`.

mod check;
mod database_url;
mod environment;
mod error;
mod example;
mod file;
mod load;
mod nearest;
mod settings;
mod show;
mod site_url;
mod source;
#[cfg(test)]
mod tests;
mod value;
mod values;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

pub use allswell_core::cidr::Cidr;
use allswell_core::policy::{Audience, HostPattern, Nat64};
use allswell_core::quota::Quota;
use allswell_core::retry::Schedule;
use allswell_core::secret::Secret;
use allswell_engine::ingest::Over;
use allswell_outbound::Proxy;
use allswell_store::TlsMode;

pub use check::config_check;
pub use database_url::{DatabaseUrl, Target};

pub use example::config_example;
pub use load::Loaded;
#[cfg(debug_assertions)]
pub use settings::FAILPOINT_VARIABLE;
pub use show::config_show;
pub use site_url::SiteUrl;
pub use source::Source;

/// The effective settings.
#[derive(Debug)]
pub struct Config {
    /// Where we listen for pings, pages and both APIs.
    pub listen: SocketAddr,
    pub site_url: SiteUrl,
    /// Relative to the working directory when it was written so.
    pub data_dir: PathBuf,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Cidr>,
    pub database: Database,
    pub keys: Keys,
    pub log: Log,
    pub metrics: Metrics,
    pub webhooks: Webhooks,
    pub delivery: Delivery,
    pub watchdog: Watchdog,
    pub badges: Badges,
    pub limits: Limits,
    pub pings: Pings,
    pub tzdata: Tzdata,
    pub retention: Retention,
    pub outbound: Outbound,
    pub dns: Dns,
}

#[derive(Debug)]
pub struct Database {
    pub url: DatabaseUrl,
    /// Bring the schema up to date when the database is opened.
    pub migrate: bool,
    /// What follows is for PostgreSQL. Connections of the pool.
    pub connections: usize,
    pub statement_secs: u64,
    pub acquire_secs: u64,
    /// Keep statements prepared.
    pub prepare: bool,
    /// What the URL leaves out about TLS; `None` is the default of the mode.
    pub sslmode: Option<TlsMode>,
    pub sslrootcert: Option<PathBuf>,
    pub sslcert: Option<PathBuf>,
    pub sslkey: Option<PathBuf>,
}

#[derive(Debug)]
pub struct Webhooks {
    /// The header with the HMAC of the body; empty for none.
    pub signature_header: String,
    /// Its secret; `None`: each channel's own.
    pub signature_secret: Option<Secret<String>>,
}

#[derive(Debug)]
pub struct Delivery {
    /// Attempts at a time.
    pub max_in_flight: u32,
    /// Of one project while others wait.
    pub max_per_project: u32,
    /// Between tries.
    pub schedule: Schedule,
    /// A newer alert overtakes an older one that did not arrive.
    pub coalesce: bool,
}

#[derive(Debug)]
pub struct Keys {
    pub ring: KeyRingSource,
}

/// Where the key ring is. The file is not read here: `serve` may have to make it first.
#[derive(Debug)]
pub enum KeyRingSource {
    Inline(Secret<String>),
    /// `is_default` when nobody named the file; only then may a missing ring be made by itself.
    File {
        path: PathBuf,
        is_default: bool,
    },
}

impl KeyRingSource {
    /// Where the ring is, for people.
    pub fn place(&self) -> String {
        match self {
            KeyRingSource::File { path, .. } => path.display().to_string(),
            KeyRingSource::Inline(_) => "the setting keys.ring".to_owned(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone)]
pub struct Metrics {
    /// Where Prometheus may ask; `None` is off.
    pub listen: Option<SocketAddr>,
    /// What `X-Metrics-Key` must say at the API; `None`: nobody may ask there.
    pub key: Option<Secret<String>>,
}

#[derive(Debug, Clone)]
pub struct Watchdog {
    /// Requested after each round of our own check; `None`: nobody is told.
    pub url: Option<Secret<String>>,
}

#[derive(Debug, Clone)]
pub struct Badges {
    /// What the badge for all checks of a project says.
    pub label: String,
}

/// What one client, one request and one transaction may take. The unit is in the name.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub connections: usize,
    pub connections_per_address: usize,
    pub header_secs: u64,
    pub header_bytes: usize,
    pub idle_secs: u64,
    pub body_secs: u64,
    /// What is kept of a ping's body.
    pub ping_body_bytes: usize,
    /// What is read of a ping's body beyond that and thrown away.
    pub ping_drain_bytes: u64,
    pub api_body_bytes: usize,
    /// Pings that wait for a commit.
    pub inbox: usize,
    pub inbox_wait_ms: u64,
    /// Pings in one transaction.
    pub batch: usize,
    /// Requests to the APIs with one key, a minute.
    pub api_per_key: u32,
    /// Wrong keys from one client, a minute.
    pub wrong_keys: u32,
    /// Pings of one client to addresses of no check, a minute.
    pub unknown_addresses: u32,
    /// Pings of one check that are kept; `None`: all of them.
    pub ping_per_check: Option<Quota>,
    /// What becomes of more.
    pub ping_mode: Over,
}

/// What pings must bring along.
#[derive(Debug, Clone, Copy)]
pub struct Pings {
    /// The ping key of the project, also where the check is named by its id.
    pub require_key: bool,
}

/// Where the rules of time zones come from.
#[derive(Debug)]
pub struct Tzdata {
    /// Compiled zone files; `None` is what the program brings along.
    pub dir: Option<PathBuf>,
}

/// What may be called.
#[derive(Debug)]
pub struct Outbound {
    pub audience: Audience,
    pub allow_cidrs: Vec<Cidr>,
    pub allow_hosts: Vec<HostPattern>,
    pub deny_cidrs: Vec<Cidr>,
    pub only_hosts: Vec<HostPattern>,
    /// `None`: for all classes but probes.
    pub https_only: Option<bool>,
    pub allowed_ports: Vec<u16>,
    pub allow_metadata: Vec<IpAddr>,
    pub nat64_prefixes: Vec<Nat64>,
    pub extra_ca_file: Option<PathBuf>,
    pub proxy: Option<Proxy>,
    pub webhooks: OutboundClass,
    pub probes: OutboundClass,
    pub jobs: OutboundClass,
    pub channels: OutboundClass,
    pub sign_on: OutboundClass,
}

/// What one class may call beside that, or instead of it.
#[derive(Debug)]
pub struct OutboundClass {
    pub allow_cidrs: Vec<Cidr>,
    pub allow_hosts: Vec<HostPattern>,
    pub only_hosts: Vec<HostPattern>,
    pub https_only: Option<bool>,
    pub allowed_ports: Vec<u16>,
}

impl OutboundClass {
    /// Whether it says nothing of its own.
    pub fn is_empty(&self) -> bool {
        let OutboundClass {
            allow_cidrs,
            allow_hosts,
            only_hosts,
            https_only,
            allowed_ports,
        } = self;
        allow_cidrs.is_empty()
            && allow_hosts.is_empty()
            && only_hosts.is_empty()
            && https_only.is_none()
            && allowed_ports.is_empty()
    }
}

#[derive(Debug)]
pub struct Dns {
    /// Empty: those of the system.
    pub nameservers: Vec<SocketAddr>,
}

/// How much is kept, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    pub pings_per_check: u64,
    pub body_bytes_per_check: u64,
    /// Flips, incidents and finished deliveries.
    pub history_days: u64,
    pub audit_days: u64,
    /// Deleted checks and projects can be brought back for this long.
    pub undo_days: u64,
}
