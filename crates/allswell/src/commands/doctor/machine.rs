//! The machine and the way to it: the public address, open files, time and its zones.

use std::path::Path;

use super::Findings;
use crate::config::{Config, Loaded, Source, Target};
use crate::tzdata;

/// Files beside those of connections.
const FILES_BESIDE: u64 = 64;
/// What says that a program keeps the clock, and its name.
const TIME_KEEPERS: &[(&str, &str)] = &[
    ("/run/systemd/timesync/synchronized", "systemd-timesyncd"),
    ("/run/chrony/chronyd.pid", "chrony"),
    ("/var/run/chrony/chronyd.pid", "chrony"),
    ("/run/chronyd.pid", "chrony"),
    ("/run/ntpd.pid", "ntpd"),
    ("/var/run/ntpd.pid", "ntpd"),
    ("/run/ntpsec/ntpd.pid", "ntpsec"),
];

/// Whether others can follow the addresses that we give.
pub fn site(loaded: &Loaded, findings: &mut Findings) {
    let config = &loaded.config;
    let url = &config.site_url;
    let derived = matches!(loaded.sources.get("site_url"), Some(Source::DefaultFrom(_)));
    let found = format!("others reach this server at {}", url.as_str());
    if derived && !config.listen.ip().is_loopback() {
        findings.warn(
            "site_url",
            &format!("{found}, which was worked out from `listen`"),
            "set site_url to the address that jobs and people use: ping addresses and links begin with it",
        );
    } else if url.is_local() {
        findings.note(
            "site_url",
            &format!("{found}: nobody but this machine"),
            "set site_url to the address of the proxy in front, when there is one",
        );
    } else if url.is_https() {
        findings.ok("site_url", &found);
    } else {
        findings.warn(
            "site_url",
            &format!("{found}: keys and bodies travel readable for everybody in between"),
            "put a proxy with TLS in front, and set site_url to its https address",
        );
    }
}

pub fn look(config: &Config, findings: &mut Findings) {
    open_files(config, findings);
    clock(findings);
    zones(config, findings);
}

/// `serve` raises the limit to what the system allows, so that is what counts.
fn open_files(config: &Config, findings: &mut Findings) {
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let wanted = config.limits.connections as u64 + FILES_BESIDE;
    match hard {
        Some(hard) if hard < wanted => findings.warn(
            "files",
            &format!(
                "this shell may open {hard} files, fewer than limits.connections ({}) needs",
                config.limits.connections
            ),
            "raise it for the service: LimitNOFILE= in its unit, or `ulimit -Hn`; or lower limits.connections",
        ),
        Some(hard) => findings.ok("files", &format!("{hard} open files are allowed, {wanted} are needed at most")),
        None => findings.ok("files", "any number of open files is allowed"),
    }
}

fn clock(findings: &mut Findings) {
    match TIME_KEEPERS.iter().find(|(path, _)| Path::new(path).exists()) {
        Some((_, keeper)) => findings.ok("clock", &format!("{keeper} keeps this machine's clock")),
        None => findings.note(
            "clock",
            "nothing tells whether this machine's clock is kept",
            "a clock that runs ahead sends alerts early: see that NTP runs, `timedatectl` tells",
        ),
    }
}

fn zones(config: &Config, findings: &mut Findings) {
    match tzdata::zones(config) {
        Ok(zones) => findings.ok("zones", &format!("the rules of time zones are {}", zones.edition())),
        Err(error) => findings.fail(
            "zones",
            &format!("{error:#}"),
            "set tzdata.dir to a directory with compiled zone files, or to nothing for the bundled ones",
        ),
    }
}

/// Whether the database is on this machine and of one server only.
pub fn is_sqlite(config: &Config) -> bool {
    matches!(config.database.url.target(), Target::Sqlite(_))
}
