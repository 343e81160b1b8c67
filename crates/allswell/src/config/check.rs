//! `config check`, and the warnings: what is allowed and most likely not meant.

use std::path::Path;

use allswell_store::TlsMode;

use super::load::Loaded;
use super::value::printable;
use super::{Config, KeyRingSource, Outbound, Target, file};

/// Waiting pings may hold this much memory before we mention it.
const INBOX_BYTES_REMARKABLE: u64 = 1 << 30;

/// What `config check` prints for a configuration that loaded; the errors of another are its `ConfigErrors`.
pub fn config_check(loaded: &Loaded) -> String {
    let mut text = String::from("configuration is valid\n");
    match &loaded.file {
        Some(path) => text.push_str(&format!("file: {}\n", printable(&path.display().to_string()))),
        None => text.push_str("file: none, defaults and environment only\n"),
    }
    for warning in &loaded.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text
}

pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let site_url = &config.site_url;
    let listens_outward = !config.listen.ip().to_canonical().is_loopback();
    if !site_url.is_https() && (listens_outward || !site_url.is_local()) {
        warnings.push(format!(
            "site_url is {site_url}, without https: keys and passwords that travel there can be read on the way"
        ));
    }
    if site_url
        .host()
        .trim_matches(['[', ']'])
        .parse()
        .is_ok_and(|ip: std::net::IpAddr| ip.is_unspecified())
    {
        warnings.push(format!(
            "site_url is {site_url}, an address nobody can ask; set it to the one others use"
        ));
    }
    for network in config
        .trusted_proxies
        .iter()
        .filter(|network| network.is_everything())
    {
        warnings.push(format!(
            "trusted_proxies holds {network}: everybody can then claim any address in X-Forwarded-For"
        ));
    }
    if let Some(listen) = config
        .metrics
        .listen
        .filter(|listen| !listen.ip().to_canonical().is_loopback())
    {
        warnings.push(format!(
            "metrics.listen is {listen}: whoever reaches it reads the figures without a key"
        ));
    }
    if let Target::Postgres(server) = config.database.url.target() {
        let mode = crate::house::server_of(&config.database, server).tls_mode();
        if !server.is_local() && matches!(mode, TlsMode::Disable | TlsMode::Prefer | TlsMode::Require) {
            warnings.push(
                "database.sslmode lets anybody on the way pose as the database server and read what passes; verify-full \
                 with database.sslrootcert does not"
                    .to_owned(),
            );
        }
    }
    let inbox_bytes = (config.limits.inbox as u64).saturating_mul(config.limits.ping_body_bytes as u64);
    if inbox_bytes > INBOX_BYTES_REMARKABLE {
        let mebibytes = inbox_bytes >> 20;
        warnings.push(format!(
            "limits.inbox pings of limits.ping_body_bytes each may take {mebibytes} MiB of memory while they wait"
        ));
    }
    if let KeyRingSource::File { path, .. } = &config.keys.ring
        && std::fs::metadata(path).is_ok_and(|metadata| file::world_readable(&metadata))
    {
        warnings.push(world_readable_warning(path));
    }
    warnings.extend(classes_nobody_calls_as(&config.outbound));
    warnings
}

/// Sections of `[outbound]` for calls that this version does not make: whoever fills one should not believe that it keeps
/// anything in.
fn classes_nobody_calls_as(outbound: &Outbound) -> impl Iterator<Item = String> {
    [
        ("probes", "probe", &outbound.probes),
        ("jobs", "job", &outbound.jobs),
        ("channels", "channel", &outbound.channels),
        ("sign_on", "sign-on", &outbound.sign_on),
    ]
    .into_iter()
    .filter(|(_, _, class)| !class.is_empty())
    .map(|(section, word, _)| {
        format!(
            "outbound.{section} is for calls that this version does not make; `allswell outbound check --class {word}` \
             alone reads it"
        )
    })
}

pub(super) fn world_readable_warning(path: &Path) -> String {
    let path = printable(&path.display().to_string());
    format!("{path} holds a secret and every user of this machine can read it; `chmod 600` mends that")
}
