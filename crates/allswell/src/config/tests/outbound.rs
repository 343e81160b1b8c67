//! Settings of what may be called: sections in a section, lists of their own kinds, a proxy with its mode.

use super::*;
use crate::config::{Cidr, config_show};

#[test]
fn a_section_in_a_section_is_read_and_shown() {
    let folder = Folder::with_config(
        "[outbound]\nallow_hosts = ['Wiki.Example.com', '*.corp.example']\nallowed_ports = [443, 8443]\n\
         [outbound.webhooks]\nallow_cidrs = ['10.1.0.0/16']\nhttps_only = false\n",
    );
    let loaded = folder.loaded(&[("ALLSWELL_OUTBOUND_SIGN_ON_ALLOWED_PORTS", "443, 9443")]);
    let outbound = &loaded.config.outbound;
    let hosts: Vec<String> = outbound.allow_hosts.iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["wiki.example.com", "*.corp.example"]);
    assert_eq!(outbound.allowed_ports, [443, 8443]);
    assert_eq!(
        outbound.webhooks.allow_cidrs,
        [Cidr::parse("10.1.0.0/16").unwrap()]
    );
    assert_eq!(
        (outbound.https_only, outbound.webhooks.https_only),
        (None, Some(false))
    );
    assert_eq!(outbound.sign_on.allowed_ports, [443, 9443]);
    let shown = config_show(&loaded, false);
    assert!(shown.contains("[outbound.webhooks]"), "{shown}");
    let again = Folder::with_config(&shown).loaded(&[]);
    assert_eq!(again.config.outbound.sign_on.allowed_ports, [443, 9443]);
    assert_eq!(again.config.outbound.webhooks.https_only, Some(false));
}

#[test]
fn a_section_for_calls_that_nobody_makes_yet_is_warned_of() {
    let warned = |name: &str, value: &str| Folder::new().loaded(&[(name, value)]).warnings;
    for (section, class) in [
        ("PROBES", "probe"),
        ("JOBS", "job"),
        ("CHANNELS", "channel"),
        ("SIGN_ON", "sign-on"),
    ] {
        for (key, value) in [
            ("ALLOW_CIDRS", "10.1.0.0/16"),
            ("ALLOW_HOSTS", "ntfy"),
            ("ONLY_HOSTS", "a.example.com"),
            ("HTTPS_ONLY", "true"),
            ("ALLOWED_PORTS", "443"),
        ] {
            let warnings = warned(&format!("ALLSWELL_OUTBOUND_{section}_{key}"), value);
            assert_eq!(warnings.len(), 1, "{section} {key}");
            assert!(warnings[0].contains(&format!("--class {class}`")), "{warnings:?}");
        }
    }
    assert_eq!(
        warned("ALLSWELL_OUTBOUND_WEBHOOKS_ALLOWED_PORTS", "443"),
        Vec::<String>::new()
    );
}

#[test]
fn a_name_server_has_port_53_unless_it_says_another() {
    let loaded = Folder::new().loaded(&[(
        "ALLSWELL_DNS_NAMESERVERS",
        "9.9.9.9, 127.0.0.1:5300,[::1]:53, 2620:fe::fe",
    )]);
    let servers: Vec<String> = loaded
        .config
        .dns
        .nameservers
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        servers,
        ["9.9.9.9:53", "127.0.0.1:5300", "[::1]:53", "[2620:fe::fe]:53"]
    );
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_setting() {
    let table = [
        (
            "ALLSWELL_OUTBOUND_AUDIENCE",
            "everybody",
            "\"strangers\" or \"us\"",
        ),
        (
            "ALLSWELL_OUTBOUND_ALLOW_CIDRS",
            "10.1.0.0/8",
            "the network is 10.0.0.0/8",
        ),
        (
            "ALLSWELL_OUTBOUND_ALLOW_HOSTS",
            "10.0.0.1",
            "addresses belong into allow_cidrs",
        ),
        (
            "ALLSWELL_OUTBOUND_ALLOW_HOSTS",
            "a.*.example",
            "a star may only stand at the beginning",
        ),
        ("ALLSWELL_OUTBOUND_ALLOWED_PORTS", "0", "ports from 1 to 65535"),
        (
            "ALLSWELL_OUTBOUND_ALLOWED_PORTS",
            "https",
            "ports from 1 to 65535",
        ),
        (
            "ALLSWELL_OUTBOUND_ALLOW_METADATA",
            "169.254.0.0/16",
            "this is not an IP address",
        ),
        (
            "ALLSWELL_OUTBOUND_NAT64_PREFIXES",
            "64:ff9b::/95",
            "32, 40, 48, 56, 64 or 96 bits",
        ),
        (
            "ALLSWELL_OUTBOUND_PROXY_MODE",
            "vetted-ip",
            "needs outbound.proxy",
        ),
        (
            "ALLSWELL_OUTBOUND_PROXY",
            "http://proxy.example.com:3128",
            "vetted-ip or delegated",
        ),
        (
            "ALLSWELL_DNS_NAMESERVERS",
            "dns.example.com",
            "this is not an IP address",
        ),
        (
            "INTEGRATIONS_ALLOW_PRIVATE_IPS",
            "perhaps",
            "\"strangers\" or \"us\"",
        ),
    ];
    for (name, value, expected) in table {
        let refusal = Folder::new().refusal(&[(name, value)]);
        assert!(
            refusal.contains(expected) && refusal.contains(name),
            "{name}={value}\n{refusal}"
        );
    }
}

#[test]
fn the_password_of_a_proxy_is_shown_nowhere() {
    let variables = [
        (
            "ALLSWELL_OUTBOUND_PROXY",
            "http://user:hunter2@proxy.example.com:3128",
        ),
        ("ALLSWELL_OUTBOUND_PROXY_MODE", "delegated"),
    ];
    let loaded = Folder::new().loaded(&variables);
    let shown = format!(
        "{}{}{:?}",
        config_show(&loaded, false),
        config_show(&loaded, true),
        loaded.config
    );
    assert!(!shown.contains("hunter2"), "{shown}");
    let wrong = [(
        "ALLSWELL_OUTBOUND_PROXY",
        "socks5://user:hunter2@proxy.example.com",
    )];
    let refusal = Folder::new().refusal(&wrong);
    assert!(
        !refusal.contains("hunter2") && refusal.contains("http://HOST:PORT"),
        "{refusal}"
    );
}
