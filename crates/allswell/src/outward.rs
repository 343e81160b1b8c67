//! The door outward, made from the settings: the policy of each class, name servers, authorities, a proxy.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use allswell_core::cidr::Cidr;
use allswell_core::exchange::Class;
use allswell_core::policy::{Audience, Ourselves, Policies, Policy};
use allswell_outbound::{Client, Settings};
use anyhow::{Context, Result};

use crate::config::{Config, OutboundClass, SiteUrl};

/// Carriers' and overlay networks, in which an operator's own mail relay or watchdog may well be.
const SHARED: (IpAddr, u8) = (IpAddr::V4(Ipv4Addr::new(100, 64, 0, 0)), 10);

/// The door for a server that listens on these ports.
pub fn client(config: &Config, own_ports: &[u16]) -> Result<Client> {
    let extra_ca_pem = match &config.outbound.extra_ca_file {
        Some(path) => {
            let read = std::fs::read(path);
            Some(read.with_context(|| format!("outbound.extra_ca_file: {} cannot be read", path.display()))?)
        }
        None => None,
    };
    let settings = Settings {
        policies: policies(config, own_ports),
        nameservers: nameservers(config),
        extra_ca_pem,
        proxy: config.outbound.proxy.clone(),
    };
    Client::new(settings).context("outbound.extra_ca_file")
}

/// The ports that a server of these settings listens on, for commands beside it.
pub fn ports_of(config: &Config) -> Vec<u16> {
    let metrics = config.metrics.listen.map(|address| address.port());
    std::iter::once(config.listen.port())
        .chain(metrics)
        .filter(|port| *port != 0)
        .collect()
}

fn policies(config: &Config, own_ports: &[u16]) -> Policies {
    let outbound = &config.outbound;
    let base = Policy {
        private: outbound.audience == Audience::Us,
        allow: outbound.allow_cidrs.clone(),
        allow_hosts: outbound.allow_hosts.clone(),
        local_names: false,
        deny: outbound.deny_cidrs.clone(),
        only_hosts: outbound.only_hosts.clone(),
        https_only: outbound.https_only.unwrap_or(true),
        ports: outbound.allowed_ports.clone(),
        metadata: outbound.allow_metadata.clone(),
        nat64: outbound.nat64_prefixes.clone(),
        ourselves: Ourselves {
            ports: own_ports.to_vec(),
            site: site(&config.site_url),
        },
        section: None,
    };
    Policies::new(|class| match class {
        Class::Webhook => of_class(&base, &outbound.webhooks, "outbound.webhooks"),
        Class::Probe => Policy {
            https_only: outbound
                .probes
                .https_only
                .or(outbound.https_only)
                .unwrap_or(false),
            ..of_class(&base, &outbound.probes, "outbound.probes")
        },
        Class::Job => of_class(&base, &outbound.jobs, "outbound.jobs"),
        Class::Channel => of_class(&base, &outbound.channels, "outbound.channels"),
        Class::SignOn => of_class(&base, &outbound.sign_on, "outbound.sign_on"),
        // What only the operator can aim: the lists that keep users in are not for it, what is denied is.
        Class::Operator => Policy {
            private: true,
            local_names: true,
            allow: [base.allow.clone(), vec![Cidr::new(SHARED.0, SHARED.1)]].concat(),
            only_hosts: Vec::new(),
            ports: Vec::new(),
            https_only: false,
            ..base.clone()
        },
    })
}

fn of_class(base: &Policy, class: &OutboundClass, section: &'static str) -> Policy {
    let or_base = |own: &[_], base: &[_]| {
        if own.is_empty() {
            base.to_vec()
        } else {
            own.to_vec()
        }
    };
    Policy {
        allow: [base.allow.clone(), class.allow_cidrs.clone()].concat(),
        allow_hosts: [base.allow_hosts.clone(), class.allow_hosts.clone()].concat(),
        only_hosts: if class.only_hosts.is_empty() {
            base.only_hosts.clone()
        } else {
            class.only_hosts.clone()
        },
        https_only: class.https_only.unwrap_or(base.https_only),
        ports: or_base(&class.allowed_ports, &base.ports),
        section: Some(section),
        ..base.clone()
    }
}

/// The public URL, if it can be one: `http://127.0.0.1:8000`, which is made up where none is set, is not.
fn site(site_url: &SiteUrl) -> Option<(String, u16)> {
    let port = url::Url::parse(site_url.as_str()).ok()?.port_or_known_default()?;
    (!site_url.is_local()).then(|| (site_url.host().to_owned(), port))
}

/// Those of the settings, else those of the system, else the one that every system assumes.
fn nameservers(config: &Config) -> Vec<SocketAddr> {
    if !config.dns.nameservers.is_empty() {
        return config.dns.nameservers.clone();
    }
    let found = std::fs::read_to_string("/etc/resolv.conf").map(|text| nameservers_in(&text));
    match found {
        Ok(servers) if !servers.is_empty() => servers,
        _ => vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 53))],
    }
}

/// The `nameserver` lines of resolv.conf and nothing else of it. Those that need a zone (`fe80::1%eth0`) are left out.
fn nameservers_in(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words
            .next()
            .filter(|word| *word == "nameserver")
            .and(words.next())?;
        let ip: IpAddr = address.parse().ok()?;
        Some(SocketAddr::new(ip, 53))
    };
    text.lines().filter_map(server).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use allswell_core::refusal::Rule;
    use allswell_core::target;

    fn policies_of(variables: &[(&str, &str)]) -> Policies {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        let loaded = Config::load(Some(std::path::Path::new("/dev/null")), variables).unwrap();
        policies(&loaded.config, &[8000])
    }

    fn rule(policies: &Policies, class: Class, url: &str) -> Option<Rule> {
        target::judge(policies.of(class), url)
            .err()
            .map(|refusal| refusal.rule)
    }

    #[test]
    fn without_settings_users_reach_public_https_and_probes_http_as_well() {
        let policies = policies_of(&[]);
        for class in Class::ALL {
            let private = (class != Class::Operator).then_some(Rule::Address);
            assert_eq!(rule(&policies, class, "https://10.0.0.1/"), private, "{class:?}");
            assert_eq!(rule(&policies, class, "https://1.1.1.1/"), None, "{class:?}");
            assert_eq!(
                rule(&policies, class, "https://169.254.169.254/"),
                Some(Rule::Metadata),
                "{class:?}"
            );
            let local = (class != Class::Operator).then_some(Rule::Name);
            assert_eq!(rule(&policies, class, "https://localhost/"), local, "{class:?}");
            assert_eq!(rule(&policies, class, "https://mail/"), local, "{class:?}");
            assert_eq!(
                rule(&policies, class, "https://metadata.google.internal/"),
                Some(Rule::Name),
                "{class:?}"
            );
            let http = !matches!(class, Class::Probe | Class::Operator);
            assert_eq!(
                rule(&policies, class, "http://1.1.1.1/"),
                http.then_some(Rule::HttpsOnly),
                "{class:?}"
            );
        }
    }

    #[test]
    fn the_name_that_others_know_opens_private_networks_and_no_metadata() {
        for (value, opened) in [("True", true), ("true", true), ("False", false)] {
            let policies = policies_of(&[("INTEGRATIONS_ALLOW_PRIVATE_IPS", value)]);
            let private = (!opened).then_some(Rule::Address);
            for url in ["https://10.0.0.1/", "https://127.0.0.1/", "https://[fd00::1]/"] {
                assert_eq!(rule(&policies, Class::Webhook, url), private, "{value} {url}");
            }
            assert_eq!(
                rule(&policies, Class::Webhook, "https://169.254.169.254/"),
                Some(Rule::Metadata)
            );
        }
    }

    #[test]
    fn a_class_has_lists_of_its_own_beside_or_instead() {
        let policies = policies_of(&[
            ("ALLSWELL_OUTBOUND_ALLOW_CIDRS", "10.1.0.0/16"),
            ("ALLSWELL_OUTBOUND_PROBES_ALLOW_CIDRS", "10.2.0.0/16"),
            ("ALLSWELL_OUTBOUND_HTTPS_ONLY", "true"),
            ("ALLSWELL_OUTBOUND_PROBES_HTTPS_ONLY", "false"),
            ("ALLSWELL_OUTBOUND_WEBHOOKS_HTTPS_ONLY", "false"),
            ("ALLSWELL_OUTBOUND_ALLOWED_PORTS", "443, 80"),
            ("ALLSWELL_OUTBOUND_JOBS_ALLOWED_PORTS", "8443"),
        ]);
        let table = [
            (Class::Probe, "http://10.1.0.1/", None),
            (Class::Probe, "http://10.2.0.1/", None),
            (Class::Webhook, "http://10.1.0.1/", None),
            (Class::Webhook, "http://10.2.0.1/", Some(Rule::Address)),
            (Class::Job, "http://10.1.0.1/", Some(Rule::HttpsOnly)),
            (Class::Job, "https://1.1.1.1/", Some(Rule::PortNotListed)),
            (Class::Job, "https://1.1.1.1:8443/", None),
            (Class::Channel, "https://1.1.1.1:8443/", Some(Rule::PortNotListed)),
            (Class::Operator, "http://1.1.1.1:9999/", None),
        ];
        for (class, url, expected) in table {
            assert_eq!(rule(&policies, class, url), expected, "{class:?} {url}");
        }
    }

    #[test]
    fn https_only_is_for_probes_too_when_it_is_written() {
        for (value, rule_of_probes) in [("true", Some(Rule::HttpsOnly)), ("false", None), ("", None)] {
            let policies = policies_of(&[("ALLSWELL_OUTBOUND_HTTPS_ONLY", value)]);
            assert_eq!(
                rule(&policies, Class::Probe, "http://1.1.1.1/"),
                rule_of_probes,
                "{value}"
            );
            assert_eq!(
                rule(&policies, Class::Operator, "http://1.1.1.1/"),
                None,
                "{value}"
            );
        }
    }

    #[test]
    fn only_a_public_url_excuses_a_call_to_ourselves() {
        let suspicious = |site: &str, url: &str| {
            let policies = policies_of(&[("ALLSWELL_SITE_URL", site), ("ALLSWELL_OUTBOUND_AUDIENCE", "us")]);
            let policy = policies.of(Class::Probe);
            target::judge(policy, url)
                .unwrap()
                .endpoint()
                .may_be_ourselves(policy)
        };
        assert!(suspicious("", "http://127.0.0.1:8000/"));
        assert!(suspicious("https://watch.example.com", "http://127.0.0.1:8000/"));
        assert!(!suspicious(
            "http://watch.example.com:8000",
            "http://watch.example.com:8000/"
        ));
    }

    #[test]
    fn of_the_systems_file_only_the_servers_count() {
        let text = "# c\nsearch corp.example\nnameserver 9.9.9.9\nnameserver  2620:fe::fe # two\noptions ndots:5\n\
                    nameserver fe80::1%eth0\n nameserver 10.0.0.53\nnameserver\n";
        let servers: Vec<String> = nameservers_in(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["9.9.9.9:53", "[2620:fe::fe]:53", "10.0.0.53:53"]);
    }
}
