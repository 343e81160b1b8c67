//! From valid values by name to the typed fields of `Config`.

use std::collections::BTreeMap;

use allswell_core::policy::HostPattern;
use allswell_engine::ingest::Over;
use allswell_outbound::{Proxy, ProxyMode};
use allswell_store::TlsMode;

use super::value::Value;
use super::{
    Badges, Cidr, Config, Database, Delivery, Dns, Keys, Limits, Log, LogFormat, LogLevel, Metrics, Outbound,
    OutboundClass, Pings, Retention, Tzdata, Watchdog, Webhooks,
};

/// A valid value for each setting, by name.
pub struct Values {
    pub by_name: BTreeMap<&'static str, Value>,
}

impl Values {
    /// Every field, from the setting of its name.
    pub fn config(mut self) -> Config {
        Config {
            listen: self.take("listen", |value| {
                if let Value::Address(it) = value {
                    Some(it)
                } else {
                    None
                }
            }),
            site_url: self.take(
                "site_url",
                |value| if let Value::SiteUrl(it) = value { it } else { None },
            ),
            data_dir: self.take("data_dir", |value| {
                if let Value::Path(it) = value {
                    Some(it)
                } else {
                    None
                }
            }),
            trusted_proxies: self.networks("trusted_proxies"),
            database: Database {
                url: self.take("database.url", |value| {
                    if let Value::Database(it) = value { it } else { None }
                }),
                migrate: self.switch("database.migrate"),
                connections: self.number("database.connections"),
                statement_secs: self.number("database.statement_secs"),
                acquire_secs: self.number("database.acquire_secs"),
                prepare: self.switch("database.prepare"),
                sslmode: self.take("database.sslmode", |value| match value {
                    Value::Word(word) => Some(TlsMode::from_word(word)),
                    _ => None,
                }),
                sslrootcert: self.path_or_none("database.sslrootcert"),
                sslcert: self.path_or_none("database.sslcert"),
                sslkey: self.path_or_none("database.sslkey"),
            },
            keys: Keys {
                ring: self.take("keys.ring", |value| {
                    if let Value::KeyRing(it) = value { it } else { None }
                }),
            },
            log: Log {
                level: self.take("log.level", log_level),
                format: self.take("log.format", log_format),
            },
            metrics: Metrics {
                listen: self.take("metrics.listen", |value| match value {
                    Value::AddressOrOff(it) => Some(it),
                    _ => None,
                }),
                key: self.take("metrics.key", |value| match value {
                    Value::SecretText(it) => Some(it),
                    _ => None,
                }),
            },
            watchdog: Watchdog {
                url: self.take("watchdog.url", |value| match value {
                    Value::SecretText(it) => Some(it),
                    _ => None,
                }),
            },
            webhooks: Webhooks {
                signature_header: self.take("webhooks.signature_header", |value| match value {
                    Value::Label(it) => Some(it),
                    _ => None,
                }),
                signature_secret: self.take("webhooks.signature_secret", |value| match value {
                    Value::SecretText(it) => Some(it),
                    _ => None,
                }),
            },
            delivery: Delivery {
                max_in_flight: self.number("delivery.max_in_flight"),
                max_per_project: self.number("delivery.max_per_project"),
                schedule: self.take("delivery.schedule", |value| match value {
                    Value::Waits(it) => Some(it),
                    _ => None,
                }),
                coalesce: self.switch("delivery.coalesce"),
            },
            badges: Badges {
                label: self.take("badges.label", |value| match value {
                    Value::Label(it) => Some(it),
                    _ => None,
                }),
            },
            limits: self.limits(),
            pings: Pings {
                require_key: self.switch("pings.require_key"),
            },
            tzdata: Tzdata {
                dir: self.take("tzdata.dir", |value| match value {
                    Value::PathOrNone(it) => Some(it),
                    _ => None,
                }),
            },
            retention: self.retention(),
            outbound: self.outbound(),
            dns: Dns {
                nameservers: self.take("dns.nameservers", |value| match value {
                    Value::Nameservers(it) => Some(it),
                    _ => None,
                }),
            },
        }
    }

    fn outbound(&mut self) -> Outbound {
        let proxy = self.take("outbound.proxy", |value| match value {
            Value::ProxyUrl(it) => Some(it),
            _ => None,
        });
        let mode = self.take("outbound.proxy_mode", |value| match value {
            Value::Word("vetted-ip") => Some(Some(ProxyMode::VettedIp)),
            Value::Word("delegated") => Some(Some(ProxyMode::Delegated)),
            Value::Word(_) => Some(None),
            _ => None,
        });
        Outbound {
            audience: self.take("outbound.audience", |value| match value {
                Value::Audience(it) => Some(it),
                _ => None,
            }),
            allow_cidrs: self.networks("outbound.allow_cidrs"),
            allow_hosts: self.hosts("outbound.allow_hosts"),
            deny_cidrs: self.networks("outbound.deny_cidrs"),
            only_hosts: self.hosts("outbound.only_hosts"),
            https_only: self.switch_or_none("outbound.https_only"),
            allowed_ports: self.ports("outbound.allowed_ports"),
            allow_metadata: self.take("outbound.allow_metadata", |value| match value {
                Value::Addresses(it) => Some(it),
                _ => None,
            }),
            nat64_prefixes: self.take("outbound.nat64_prefixes", |value| match value {
                Value::Nat64(it) => Some(it),
                _ => None,
            }),
            extra_ca_file: self.path_or_none("outbound.extra_ca_file"),
            // Both or none: looked at when the settings were taken together.
            proxy: proxy
                .zip(mode)
                .and_then(|(url, mode)| Proxy::parse(url.reveal(), mode).ok()),
            webhooks: self.outbound_class("webhooks"),
            probes: self.outbound_class("probes"),
            jobs: self.outbound_class("jobs"),
            channels: self.outbound_class("channels"),
            sign_on: self.outbound_class("sign_on"),
        }
    }

    fn outbound_class(&mut self, class: &str) -> OutboundClass {
        let name = |key: &str| format!("outbound.{class}.{key}");
        OutboundClass {
            allow_cidrs: self.networks(&name("allow_cidrs")),
            allow_hosts: self.hosts(&name("allow_hosts")),
            only_hosts: self.hosts(&name("only_hosts")),
            https_only: self.switch_or_none(&name("https_only")),
            allowed_ports: self.ports(&name("allowed_ports")),
        }
    }

    fn networks(&mut self, name: &str) -> Vec<Cidr> {
        self.take(name, |value| match value {
            Value::Networks(it) => Some(it),
            _ => None,
        })
    }

    fn hosts(&mut self, name: &str) -> Vec<HostPattern> {
        self.take(name, |value| match value {
            Value::Hosts(it) => Some(it),
            _ => None,
        })
    }

    fn ports(&mut self, name: &str) -> Vec<u16> {
        self.take(name, |value| match value {
            Value::Ports(it) => Some(it),
            _ => None,
        })
    }

    fn limits(&mut self) -> Limits {
        Limits {
            connections: self.number("limits.connections"),
            connections_per_address: self.number("limits.connections_per_address"),
            header_secs: self.number("limits.header_secs"),
            header_bytes: self.number("limits.header_bytes"),
            idle_secs: self.number("limits.idle_secs"),
            body_secs: self.number("limits.body_secs"),
            ping_body_bytes: self.number("limits.ping_body_bytes"),
            ping_drain_bytes: self.number("limits.ping_drain_bytes"),
            api_body_bytes: self.number("limits.api_body_bytes"),
            inbox: self.number("limits.inbox"),
            inbox_wait_ms: self.number("limits.inbox_wait_ms"),
            batch: self.number("limits.batch"),
            api_per_key: self.number("limits.api_per_key"),
            wrong_keys: self.number("limits.wrong_keys"),
            unknown_addresses: self.number("limits.unknown_addresses"),
            ping_per_check: self.take("limits.ping_per_check", |value| match value {
                Value::RateOrNone(it) => Some(it),
                _ => None,
            }),
            ping_mode: self.take("limits.ping_mode", |value| match value {
                Value::Word("count") => Some(Over::Count),
                Value::Word("reject") => Some(Over::Reject),
                _ => None,
            }),
        }
    }

    fn retention(&mut self) -> Retention {
        Retention {
            pings_per_check: self.number("retention.pings_per_check"),
            body_bytes_per_check: self.number("retention.body_bytes_per_check"),
            history_days: self.number("retention.history_days"),
            audit_days: self.number("retention.audit_days"),
            undo_days: self.number("retention.undo_days"),
        }
    }

    fn switch(&mut self, name: &str) -> bool {
        self.take(name, |value| match value {
            Value::Switch(it) => Some(it),
            _ => None,
        })
    }

    fn switch_or_none(&mut self, name: &str) -> Option<bool> {
        self.take(name, |value| match value {
            Value::SwitchOrNone(it) => Some(it),
            _ => None,
        })
    }

    fn path_or_none(&mut self, name: &str) -> Option<std::path::PathBuf> {
        self.take(name, |value| match value {
            Value::PathOrNone(it) => Some(it),
            _ => None,
        })
    }

    /// The bounds of the table keep each number within a u32, so that it fits every type asked for.
    fn number<T: TryFrom<u64>>(&mut self, name: &str) -> T {
        self.take(name, |value| {
            if let Value::Number(it) = value {
                T::try_from(it).ok()
            } else {
                None
            }
        })
    }

    /// A name or kind that the table does not have is a mistake in the program, found by any test.
    fn take<T>(&mut self, name: &str, as_kind: impl FnOnce(Value) -> Option<T>) -> T {
        let value = self.by_name.remove(name).and_then(as_kind);
        value.unwrap_or_else(|| panic!("the table gives {name} a value of its kind"))
    }
}

fn log_level(value: Value) -> Option<LogLevel> {
    match value {
        Value::Word("error") => Some(LogLevel::Error),
        Value::Word("warn") => Some(LogLevel::Warn),
        Value::Word("info") => Some(LogLevel::Info),
        Value::Word("debug") => Some(LogLevel::Debug),
        Value::Word("trace") => Some(LogLevel::Trace),
        _ => None,
    }
}

fn log_format(value: Value) -> Option<LogFormat> {
    match value {
        Value::Word("text") => Some(LogFormat::Text),
        Value::Word("json") => Some(LogFormat::Json),
        _ => None,
    }
}
