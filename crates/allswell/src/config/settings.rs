//! The table of settings, in the order of the example file. A name is `section.key`, or `key` at the top.
//!
//! Defaults are written as TOML, the way the example file shows them. Names are a promise to operators: a new
//! name for an old setting needs a line in `ALIASES`.

use super::value::Kind;

pub struct Setting {
    pub name: &'static str,
    pub kind: Kind,
    /// The default as a TOML value.
    pub default: &'static str,
    /// For the example file, line by line; units and what an empty value means belong here.
    pub doc: &'static [&'static str],
}

impl Setting {
    /// The section, empty for the top level, and the key in it.
    pub fn section_and_key(&self) -> (&'static str, &'static str) {
        self.name.rsplit_once('.').unwrap_or(("", self.name))
    }

    /// The name of the key that names a file with the value instead: `keys.ring_file`.
    pub fn file_name(&self) -> Option<String> {
        self.kind.is_secret().then(|| format!("{}_file", self.name))
    }

    /// `limits.inbox` is `ALLSWELL_LIMITS_INBOX`.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.name.replace('.', "_").to_ascii_uppercase())
    }

    pub fn file_variable(&self) -> Option<String> {
        self.kind.is_secret().then(|| format!("{}_FILE", self.variable()))
    }
}

/// Where each environment variable of ours begins.
pub const PREFIX: &str = "ALLSWELL_";

/// Names the configuration file; read before the settings and no setting itself.
pub const CONFIG_VARIABLE: &str = "ALLSWELL_CONFIG";

/// Where systemd puts the credentials of a service (`LoadCredential=`, `LoadCredentialEncrypted=`).
pub const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// The credential that holds the key ring.
pub const RING_CREDENTIAL: &str = "allswell.key-ring";

/// Variables with our prefix that commands read for themselves.
#[cfg(debug_assertions)]
const RESERVED_VARIABLES: &[&str] = &[CONFIG_VARIABLE, FAILPOINT_VARIABLE];
#[cfg(not(debug_assertions))]
const RESERVED_VARIABLES: &[&str] = &[CONFIG_VARIABLE];

/// All of them.
pub fn reserved_variables() -> impl Iterator<Item = &'static str> {
    let run = crate::commands::run::VARIABLES.iter();
    RESERVED_VARIABLES.iter().chain(run).copied()
}

/// Names a place where the process ends as by a crash, for the tests of a debug build.
#[cfg(debug_assertions)]
pub const FAILPOINT_VARIABLE: &str = "ALLSWELL_FAILPOINT";

/// Names that other software gives to the same setting, in the environment only.
pub const ALIASES: &[(&str, &str)] = &[
    ("PING_BODY_LIMIT", "limits.ping_body_bytes"),
    ("API_PING_LIMIT", "limits.api_per_key"),
    ("PING_LIMIT", "limits.ping_per_check"),
    ("API_PING_KEY_REQUIRED", "pings.require_key"),
    ("METRICS_KEY", "metrics.key"),
    ("WEBHOOK_SIGNATURE_HEADER", "webhooks.signature_header"),
    ("WEBHOOK_SECRET", "webhooks.signature_secret"),
    ("MASTER_BADGE_LABEL", "badges.label"),
    ("INTEGRATIONS_ALLOW_PRIVATE_IPS", "outbound.audience"),
];

/// What the sections are about, for the example file.
pub const SECTIONS: &[(&str, &str)] = &[
    ("database", "Where everything is stored."),
    (
        "keys",
        "The key ring encrypts what is secret in the database. Without it those secrets are lost.",
    ),
    ("log", "What is written to standard error."),
    ("metrics", "Figures about this server."),
    ("webhooks", "What webhooks carry beside what their users wrote."),
    ("delivery", "How alerts are sent, tried again, and kept apart."),
    ("watchdog", "Who hears that this server lives."),
    ("badges", "Pictures of up and down for pages elsewhere."),
    (
        "limits",
        "Bounds on what one client, one request and one transaction may take.",
    ),
    ("pings", "What pings must bring along."),
    (
        "tzdata",
        "The rules of time zones, for cron and OnCalendar schedules.",
    ),
    ("retention", "How much is kept, and for how long."),
    (
        "outbound",
        "What this server may call: webhooks, probes and the rest. docs/outbound.md tells more.",
    ),
    (
        "outbound.webhooks",
        "For webhook channels alone. Lists are added to those of [outbound]; only_hosts and allowed_ports replace them.",
    ),
    (
        "outbound.probes",
        "The same for probes. This version makes none: only allswell outbound check --class probe reads this section.",
    ),
    (
        "outbound.jobs",
        "The same for scheduled calls. This version makes none: only allswell outbound check --class job reads this.",
    ),
    (
        "outbound.channels",
        "The same for channels of kinds that call servers of their own. There are none yet: only --class channel reads this.",
    ),
    (
        "outbound.sign_on",
        "The same for sign-on (issuers and their keys). There is none yet: only --class sign-on reads this.",
    ),
    ("dns", "Who turns names into addresses for [outbound]."),
];

pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "listen",
        kind: Kind::Address,
        default: r#""127.0.0.1:8000""#,
        doc: &["Address and port for pings, pages and both APIs."],
    },
    Setting {
        name: "site_url",
        kind: Kind::SiteUrl,
        default: r#""""#,
        doc: &[
            "The address under which others reach this server; ping addresses and links begin with it.",
            "http or https, a path is allowed, a slash at the end is dropped. Empty: http:// and `listen`.",
        ],
    },
    Setting {
        name: "data_dir",
        kind: Kind::Path,
        default: r#""allswell-data""#,
        doc: &["Directory for the database and the key ring, made at the first start."],
    },
    Setting {
        name: "trusted_proxies",
        kind: Kind::Networks,
        default: r#"["127.0.0.0/8", "::1/128"]"#,
        doc: &[
            "Networks of the proxies in front of this server. Only from them is X-Forwarded-For believed.",
            "In the environment: separated by commas.",
        ],
    },
    Setting {
        name: "database.url",
        kind: Kind::Database,
        default: r#""""#,
        doc: &[
            "sqlite:PATH, or postgres://USER:PASSWORD@HOST:PORT/DATABASE with the parameters sslmode, sslrootcert,",
            "sslcert and sslkey; over a socket: postgres:///DATABASE?host=/run/postgresql. Empty: allswell.db in `data_dir`.",
            "The rest of this section but `migrate` is for PostgreSQL.",
        ],
    },
    Setting {
        name: "database.migrate",
        kind: Kind::Switch,
        default: "true",
        doc: &[
            "Bring the schema up to date at the start. false: it is only looked at, and `allswell migrate` does the work,",
            "with a role that may change it.",
        ],
    },
    Setting {
        name: "database.connections",
        kind: Kind::Number { min: 1, max: 1000 },
        default: "10",
        doc: &[
            "Connections at most, for all but pings, which have two, and the one that listens for other servers. 1 is",
            "enough for alerts, however many are under way, and makes four in all; more are for the API. application_name",
            "in pg_stat_activity tells them apart: allswell, allswell pings, allswell listens.",
        ],
    },
    Setting {
        name: "database.statement_secs",
        kind: Kind::Number { min: 1, max: 600 },
        default: "10",
        doc: &["Seconds that a statement may run."],
    },
    Setting {
        name: "database.acquire_secs",
        kind: Kind::Number { min: 1, max: 600 },
        default: "5",
        doc: &["Seconds to wait for a free connection, or for a new one."],
    },
    Setting {
        name: "database.prepare",
        kind: Kind::Switch,
        default: "true",
        doc: &[
            "Keep statements prepared on each connection. Must be false behind PgBouncer in transaction mode, which",
            "gives each transaction another connection.",
        ],
    },
    Setting {
        name: "database.sslmode",
        kind: Kind::Word(&["", "disable", "prefer", "require", "verify-ca", "verify-full"]),
        default: r#""""#,
        doc: &[
            "How much of the server's certificate is looked at, where the URL does not say: disable, prefer, require,",
            "verify-ca or verify-full. Empty: verify-full, and prefer for a server on this machine.",
        ],
    },
    Setting {
        name: "database.sslrootcert",
        kind: Kind::PathOrNone,
        default: r#""""#,
        doc: &["Certificates of the authorities that are believed, PEM. Empty: those of the system."],
    },
    Setting {
        name: "database.sslcert",
        kind: Kind::PathOrNone,
        default: r#""""#,
        doc: &["Our own certificate, PEM, for a server that asks for one."],
    },
    Setting {
        name: "database.sslkey",
        kind: Kind::PathOrNone,
        default: r#""""#,
        doc: &["The key of that certificate, PEM."],
    },
    Setting {
        name: "keys.ring",
        kind: Kind::KeyRing,
        default: r#""""#,
        doc: &[
            "The key ring itself; a file is the better place for it.",
            "When neither this nor `ring_file` is set: the systemd credential allswell.key-ring where there is one, else the",
            "file key-ring in `data_dir`, made at the first start.",
        ],
    },
    Setting {
        name: "log.level",
        kind: Kind::Word(&["error", "warn", "info", "debug", "trace"]),
        default: r#""info""#,
        doc: &["error, warn, info, debug or trace."],
    },
    Setting {
        name: "log.format",
        kind: Kind::Word(&["text", "json"]),
        default: r#""text""#,
        doc: &["text, or json with one object a line."],
    },
    Setting {
        name: "metrics.listen",
        kind: Kind::AddressOrOff,
        default: r#""""#,
        doc: &["Address and port of /metrics for Prometheus; whoever reaches it may read it. Empty: off."],
    },
    Setting {
        name: "metrics.key",
        kind: Kind::SecretText,
        default: r#""""#,
        doc: &[
            "What X-Metrics-Key must say to read /api/v3/metrics/. Empty: nobody may. Also METRICS_KEY in the",
            "environment.",
        ],
    },
    Setting {
        name: "webhooks.signature_header",
        kind: Kind::HeaderNameOrNone,
        default: r#""X-Webhook-Signature""#,
        doc: &[
            "Header with sha256= and the HMAC-SHA256 of the body in hex, beside the signature that each webhook has: for",
            "receivers that know no better, since it covers neither time nor id. Empty: none. Also WEBHOOK_SIGNATURE_HEADER.",
        ],
    },
    Setting {
        name: "webhooks.signature_secret",
        kind: Kind::SecretText,
        default: r#""""#,
        doc: &[
            "The secret for that header, for all channels. Empty: each channel's own. Also WEBHOOK_SECRET.",
        ],
    },
    Setting {
        name: "delivery.max_in_flight",
        kind: Kind::Number { min: 10, max: 65_536 },
        default: "1024",
        doc: &["Attempts at a time. Each takes at most 64 KiB of memory and one open file."],
    },
    Setting {
        name: "delivery.max_per_project",
        kind: Kind::Number { min: 1, max: 65_536 },
        default: "256",
        doc: &[
            "Of these for one project while others wait, and never more than a quarter of them; one target gets 16 at most,",
            "and fewer while it is slow.",
        ],
    },
    Setting {
        name: "delivery.schedule",
        kind: Kind::Waits,
        default: r#""2s 10s 60s 5m 30m 2h 6h""#,
        doc: &[
            "Waits before the second try and those that follow; the last one repeats until 24 hours after the alert was",
            "promised. Each is made longer or shorter by up to a fifth. A receiver may ask for longer ones, up to 1h.",
        ],
    },
    Setting {
        name: "delivery.coalesce",
        kind: Kind::Switch,
        default: "true",
        doc: &[
            "A newer alert of a check overtakes one that a channel did not take within its first three tries or 95 seconds,",
            "and tells what was missed. false: every alert is told, in order, however late.",
        ],
    },
    Setting {
        name: "watchdog.url",
        kind: Kind::SecretText,
        default: r#""""#,
        doc: &[
            "Requested each minute, after a ping of our own was stored and swept: the ping address of a check elsewhere",
            "(any heartbeat service, or another Allswell) with a period of a minute. Empty: nobody is told.",
        ],
    },
    Setting {
        name: "badges.label",
        kind: Kind::Label,
        default: r#""Allswell""#,
        doc: &[
            "What the badge for all checks of a project says. Also MASTER_BADGE_LABEL in the environment.",
        ],
    },
    Setting {
        name: "limits.connections",
        kind: Kind::Number {
            min: 1,
            max: 1_000_000,
        },
        default: "8192",
        doc: &["Open connections in all; further ones wait. Needs as many open files."],
    },
    Setting {
        name: "limits.connections_per_address",
        kind: Kind::Number {
            min: 1,
            max: 1_000_000,
        },
        default: "512",
        doc: &["Open connections from one address. Not for `trusted_proxies`: they speak for many clients."],
    },
    Setting {
        name: "limits.header_secs",
        kind: Kind::Number { min: 1, max: 300 },
        default: "10",
        doc: &["Seconds in which the head of a request must have arrived."],
    },
    Setting {
        name: "limits.header_bytes",
        // hyper takes no read buffer below 8192 bytes and would panic.
        kind: Kind::Number {
            min: 8192,
            max: 1_048_576,
        },
        default: "16384",
        doc: &["Bytes that the head of a request may have."],
    },
    Setting {
        name: "limits.idle_secs",
        kind: Kind::Number { min: 1, max: 3600 },
        default: "75",
        doc: &["Seconds after which a connection without a request is closed."],
    },
    Setting {
        name: "limits.body_secs",
        kind: Kind::Number { min: 1, max: 3600 },
        default: "30",
        doc: &["Seconds in which the body of a request must have arrived."],
    },
    Setting {
        name: "limits.ping_body_bytes",
        kind: Kind::Number {
            min: 0,
            max: 16_777_216,
        },
        default: "10000",
        doc: &["Bytes kept of a ping's body; the rest is cut off. Also PING_BODY_LIMIT in the environment."],
    },
    Setting {
        name: "limits.ping_drain_bytes",
        kind: Kind::Number {
            min: 0,
            max: 1_073_741_824,
        },
        default: "67108864",
        doc: &["Bytes of a longer ping body that are read and thrown away before the connection is closed."],
    },
    Setting {
        name: "limits.api_body_bytes",
        kind: Kind::Number {
            min: 1024,
            max: 67_108_864,
        },
        default: "2621440",
        doc: &["Bytes that the body of an API request may have."],
    },
    Setting {
        name: "limits.inbox",
        kind: Kind::Number {
            min: 1,
            max: 1_000_000,
        },
        default: "8192",
        doc: &["Pings that may wait for a commit. When it is full, pings are answered 503."],
    },
    Setting {
        name: "limits.inbox_wait_ms",
        kind: Kind::Number { min: 0, max: 10_000 },
        default: "250",
        doc: &["Milliseconds that a ping waits for a place in a full inbox before that answer."],
    },
    Setting {
        name: "limits.batch",
        kind: Kind::Number { min: 1, max: 65_536 },
        default: "1024",
        doc: &["Pings that are stored in one transaction."],
    },
    Setting {
        name: "limits.api_per_key",
        kind: Kind::Number {
            min: 1,
            max: 10_000_000,
        },
        default: "6000",
        doc: &[
            "Requests to the APIs with one key in a minute, all of them at once if need be. Beyond: 429 with Retry-After.",
            "Counted by each server for itself. Also API_PING_LIMIT in the environment.",
        ],
    },
    Setting {
        name: "limits.wrong_keys",
        kind: Kind::Number {
            min: 1,
            max: 10_000_000,
        },
        default: "600",
        doc: &[
            "Wrong keys and signatures from one client in a minute, over all servers of a database. Beyond: 429 to more",
            "of them; right keys open all the same. Ten times as many for a site of IPv6 (/48).",
        ],
    },
    Setting {
        name: "limits.unknown_addresses",
        kind: Kind::Number {
            min: 1,
            max: 10_000_000,
        },
        default: "600",
        doc: &["Pings of one client to addresses of no check, in a minute. Beyond: 429 instead of 404."],
    },
    Setting {
        name: "limits.ping_per_check",
        kind: Kind::RateOrNone,
        default: r#""1000/hour""#,
        doc: &[
            "Pings of one check that are kept, all of them at once if need be; a rate in second, minute, hour or day.",
            "Counted by each server for itself. Empty: no bound. Also PING_LIMIT in the environment.",
        ],
    },
    Setting {
        name: "limits.ping_mode",
        kind: Kind::Word(&["count", "reject"]),
        default: r#""count""#,
        doc: &[
            "What becomes of more, but for those that change the status of the check, which are kept all the same. count: they",
            "move the check and its counter as all do, and their rows and bodies are not kept. reject: they count for nothing,",
            "and are answered 429 with Retry-After.",
        ],
    },
    Setting {
        name: "pings.require_key",
        kind: Kind::Switch,
        default: "false",
        doc: &[
            "Pings to the id of a check need the ping key of its project, in X-Ping-Key. Each project can ask for that by",
            "itself (require_ping_key). Also API_PING_KEY_REQUIRED in the environment.",
        ],
    },
    Setting {
        name: "tzdata.dir",
        kind: Kind::PathOrNone,
        default: r#""""#,
        doc: &[
            "Directory with compiled zone files, such as /usr/share/zoneinfo, for rules newer than this program's.",
            "Read at start; when the rules have changed, deadlines are worked out again. Empty: the bundled rules.",
        ],
    },
    Setting {
        name: "retention.pings_per_check",
        kind: Kind::Number {
            min: 1,
            max: 1_000_000,
        },
        default: "1000",
        doc: &["Newest pings kept for each check."],
    },
    Setting {
        name: "retention.body_bytes_per_check",
        kind: Kind::Number {
            min: 0,
            max: 1_073_741_824,
        },
        default: "1048576",
        doc: &["Bytes of ping bodies kept for each check, as they came, the newest first."],
    },
    Setting {
        name: "retention.history_days",
        kind: Kind::Number { min: 1, max: 36_500 },
        default: "93",
        doc: &[
            "Days that flips, incidents and finished deliveries are kept at least. The newest flip of a check stays.",
        ],
    },
    Setting {
        name: "retention.audit_days",
        kind: Kind::Number { min: 1, max: 36_500 },
        default: "365",
        doc: &["Days that the audit log is kept."],
    },
    Setting {
        name: "retention.undo_days",
        kind: Kind::Number { min: 0, max: 3650 },
        default: "7",
        doc: &["Days after which the rows of a deleted check or project are removed."],
    },
    Setting {
        name: "outbound.audience",
        kind: Kind::Audience,
        default: r#""strangers""#,
        doc: &[
            "Whom this server serves. \"strangers\": calls reach public addresses, and of private networks only what is",
            "listed here. \"us\": people who may reach this network anyway; RFC 1918, unique local and loopback addresses",
            "are allowed. Addresses of cloud metadata never are. Also INTEGRATIONS_ALLOW_PRIVATE_IPS (True is \"us\").",
        ],
    },
    Setting {
        name: "outbound.allow_cidrs",
        kind: Kind::Networks,
        default: "[]",
        doc: &["Networks that may be called beside public ones, such as \"10.1.0.0/16\"."],
    },
    Setting {
        name: "outbound.allow_hosts",
        kind: Kind::Hosts,
        default: "[]",
        doc: &[
            "Names whose addresses may be private, and local names that may be called: \"wiki.corp.example\", \"ntfy\", or",
            "\"*.corp.example\" for all names under one.",
        ],
    },
    Setting {
        name: "outbound.deny_cidrs",
        kind: Kind::Networks,
        default: "[]",
        doc: &["Networks that are never called, whatever allows them: your own public ones, for example."],
    },
    Setting {
        name: "outbound.only_hosts",
        kind: Kind::Hosts,
        default: "[]",
        doc: &["If there are any: no other host is called."],
    },
    Setting {
        name: "outbound.https_only",
        kind: Kind::SwitchOrNone,
        default: r#""""#,
        doc: &["Refuse http: true or false. Empty: true, but for probes."],
    },
    Setting {
        name: "outbound.allowed_ports",
        kind: Kind::Ports,
        default: "[]",
        doc: &[
            "If there are any: no other port is called. Else all but those of other protocols (25, 53, 6667, ...).",
        ],
    },
    Setting {
        name: "outbound.allow_metadata",
        kind: Kind::Addresses,
        default: "[]",
        doc: &[
            "Addresses of cloud metadata that may be called, each by itself. They hand out this machine's credentials.",
        ],
    },
    Setting {
        name: "outbound.nat64_prefixes",
        kind: Kind::Nat64,
        default: "[]",
        doc: &[
            "NAT64 prefixes of this network, such as \"64:ff9b::/96\": judged by the IPv4 address inside.",
        ],
    },
    Setting {
        name: "outbound.extra_ca_file",
        kind: Kind::PathOrNone,
        default: r#""""#,
        doc: &[
            "Certificates of authorities that are believed beside the usual ones, PEM. Read at the start.",
        ],
    },
    Setting {
        name: "outbound.proxy",
        kind: Kind::ProxyUrl,
        default: r#""""#,
        doc: &[
            "An HTTP proxy for all calls, http://USER:PASSWORD@HOST:PORT; needs `proxy_mode`. Empty: none. HTTP_PROXY and its",
            "kind in the environment are never looked at.",
        ],
    },
    Setting {
        name: "outbound.proxy_mode",
        kind: Kind::Word(&["", "vetted-ip", "delegated"]),
        default: r#""""#,
        doc: &[
            "vetted-ip: names are resolved and judged here, and the proxy is asked for an address. delegated: the proxy is asked",
            "for the name, and where that leads is judged by it alone.",
        ],
    },
    // For each class alone: the same five, which say so in one line.
    Setting {
        name: "outbound.webhooks.allow_cidrs",
        kind: Kind::Networks,
        default: "[]",
        doc: &["Networks, as in [outbound]."],
    },
    Setting {
        name: "outbound.webhooks.allow_hosts",
        kind: Kind::Hosts,
        default: "[]",
        doc: &["Names, as in [outbound]."],
    },
    Setting {
        name: "outbound.webhooks.only_hosts",
        kind: Kind::Hosts,
        default: "[]",
        doc: &["Empty: as in [outbound]."],
    },
    Setting {
        name: "outbound.webhooks.https_only",
        kind: Kind::SwitchOrNone,
        default: r#""""#,
        doc: &["true or false. Empty: as in [outbound]."],
    },
    Setting {
        name: "outbound.webhooks.allowed_ports",
        kind: Kind::Ports,
        default: "[]",
        doc: &["Empty: as in [outbound]."],
    },
    Setting {
        name: "outbound.probes.allow_cidrs",
        kind: Kind::Networks,
        default: "[]",
        doc: &["Networks, as in [outbound]."],
    },
    Setting {
        name: "outbound.probes.allow_hosts",
        kind: Kind::Hosts,
        default: "[]",
        doc: &["Names, as in [outbound]."],
    },
    Setting {
        name: "outbound.probes.only_hosts",
        kind: Kind::Hosts,
        default: "[]",
        doc: &["Empty: as in [outbound]."],
    },
    Setting {
        name: "outbound.probes.https_only",
        kind: Kind::SwitchOrNone,
        default: r#""""#,
        doc: &["true or false. Empty: as in [outbound]."],
    },
    Setting {
        name: "outbound.probes.allowed_ports",
        kind: Kind::Ports,
        default: "[]",
        doc: &["Empty: as in [outbound]."],
    },
    Setting {
        name: "outbound.jobs.allow_cidrs",
        kind: Kind::Networks,
        default: "[]",
        doc: &["Networks, as in [outbound]."],
    },
    Setting {
        name: "outbound.jobs.allow_hosts",
        kind: Kind::Hosts,
        default: "[]",
        doc: &["Names, as in [outbound]."],
    },
    Setting {
        name: "outbound.jobs.only_hosts",
        kind: Kind::Hosts,
        default: "[]",
        doc: &["Empty: as in [outbound]."],
    },
    Setting {
        name: "outbound.jobs.https_only",
        kind: Kind::SwitchOrNone,
        default: r#""""#,
        doc: &["true or false. Empty: as in [outbound]."],
    },
    Setting {
        name: "outbound.jobs.allowed_ports",
        kind: Kind::Ports,
        default: "[]",
        doc: &["Empty: as in [outbound]."],
    },
    Setting {
        name: "outbound.channels.allow_cidrs",
        kind: Kind::Networks,
        default: "[]",
        doc: &["Networks, as in [outbound]."],
    },
    Setting {
        name: "outbound.channels.allow_hosts",
        kind: Kind::Hosts,
        default: "[]",
        doc: &["Names, as in [outbound]."],
    },
    Setting {
        name: "outbound.channels.only_hosts",
        kind: Kind::Hosts,
        default: "[]",
        doc: &["Empty: as in [outbound]."],
    },
    Setting {
        name: "outbound.channels.https_only",
        kind: Kind::SwitchOrNone,
        default: r#""""#,
        doc: &["true or false. Empty: as in [outbound]."],
    },
    Setting {
        name: "outbound.channels.allowed_ports",
        kind: Kind::Ports,
        default: "[]",
        doc: &["Empty: as in [outbound]."],
    },
    Setting {
        name: "outbound.sign_on.allow_cidrs",
        kind: Kind::Networks,
        default: "[]",
        doc: &["Networks, as in [outbound]."],
    },
    Setting {
        name: "outbound.sign_on.allow_hosts",
        kind: Kind::Hosts,
        default: "[]",
        doc: &["Names, as in [outbound]."],
    },
    Setting {
        name: "outbound.sign_on.only_hosts",
        kind: Kind::Hosts,
        default: "[]",
        doc: &["Empty: as in [outbound]."],
    },
    Setting {
        name: "outbound.sign_on.https_only",
        kind: Kind::SwitchOrNone,
        default: r#""""#,
        doc: &["true or false. Empty: as in [outbound]."],
    },
    Setting {
        name: "outbound.sign_on.allowed_ports",
        kind: Kind::Ports,
        default: "[]",
        doc: &["Empty: as in [outbound]."],
    },
    Setting {
        name: "dns.nameservers",
        kind: Kind::Nameservers,
        default: "[]",
        doc: &[
            "Name servers, such as \"9.9.9.9\" or \"127.0.0.1:5300\". Empty: those of /etc/resolv.conf, read at the start.",
            "Neither the hosts file nor search lists are used.",
        ],
    },
];

/// The setting of that name. Asking for one that is not in the table is a mistake in the program.
pub fn setting(name: &str) -> &'static Setting {
    match SETTINGS.iter().find(|setting| setting.name == name) {
        Some(setting) => setting,
        None => panic!("no setting is called {name}"),
    }
}
