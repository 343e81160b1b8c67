//! From names to addresses, by name servers that we were told of and by nothing else.
//!
//! `getaddrinfo` would read the hosts file, search lists and the environment, and answers for names that no name server
//! knows. Answers are kept for as long as they say and at most a minute, what is not there not at all.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use crate::wire::{Found, Unresolved};

/// Twice this stays below the time that an attempt gives to resolving.
const QUESTION: Duration = Duration::from_secs(2);
const TRIES: usize = 2;
const KEPT: Duration = Duration::from_secs(60);

/// A resolver of our own settings.
pub struct Resolver {
    inner: TokioResolver,
}

impl Resolver {
    /// Asks these servers, over UDP and, for long answers, TCP.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the home of names and addresses"
    )]
    pub fn new(nameservers: &[SocketAddr]) -> Result<Self, String> {
        let servers = nameservers.iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
            // Not believed when it says that there is nothing, if another server may know better.
            NameServerConfig::new(server.ip(), false, connections.to_vec())
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options();
        let inner = builder
            .build()
            .map_err(|error| format!("the resolver cannot be made: {error}"))?;
        Ok(Resolver { inner })
    }

    /// Both families, asked at once. One of them may fail if the other has addresses.
    pub async fn addresses(&self, name: &str) -> Result<Found, Unresolved> {
        let fqdn = Name::from_ascii(format!("{name}."))
            .map_err(|error| Unresolved::Nothing(format!("{name} cannot be asked for: {error}")))?;
        let (v4, v6) = tokio::join!(
            self.inner.lookup(fqdn.clone(), RecordType::A),
            self.inner.lookup(fqdn.clone(), RecordType::AAAA),
        );
        let (v4, v6) = (v4.map(|it| found(&fqdn, &it)), v6.map(|it| found(&fqdn, &it)));
        let aliases = [&v4, &v6].into_iter().flatten().map(|found| found.aliases).max();
        let of = |family: &Result<Found, NetError>| match family {
            Ok(found) => found.addresses.clone(),
            Err(_) => Vec::new(),
        };
        let addresses = in_turn(of(&v4), of(&v6));
        if !addresses.is_empty() {
            return Ok(Found {
                addresses,
                aliases: aliases.unwrap_or(0),
            });
        }
        let errors = [v4.err(), v6.err()];
        if errors
            .iter()
            .flatten()
            .any(|error| matches!(error, NetError::Timeout))
        {
            return Err(Unresolved::TimedOut);
        }
        let why = errors
            .into_iter()
            .flatten()
            .find(|error| !error.is_no_records_found());
        Err(Unresolved::Nothing(match why {
            Some(error) => format!("{name}: {error}"),
            None => format!("{name} has no address"),
        }))
    }
}

fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.ndots = 0;
    options.timeout = QUESTION;
    options.attempts = TRIES - 1;
    options.use_hosts_file = ResolveHosts::Never;
    // Both are asked for by name above; this says the same to whoever adds a call.
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.positive_max_ttl = Some(KEPT);
    options.negative_max_ttl = Some(Duration::ZERO);
    options.preserve_intermediates = true;
    options.edns0 = true;
    options
}

/// The addresses of the name and of the names it stands for; what else lies in the answer is not ours.
fn found(name: &Name, lookup: &Lookup) -> Found {
    let mut names = HashSet::from([name.clone()]);
    let mut aliases = 0;
    // Chains are mostly in order; a pass per link takes them in any.
    loop {
        let before = names.len();
        aliases = lookup
            .answers()
            .iter()
            .filter(|record| match &record.data {
                RData::CNAME(target) if names.contains(&record.name) => {
                    names.insert(target.0.clone());
                    true
                }
                _ => false,
            })
            .count()
            .max(aliases);
        if names.len() == before {
            break;
        }
    }
    let addresses = lookup
        .answers()
        .iter()
        .filter(|record| names.contains(&record.name));
    let mut seen = HashSet::new();
    let addresses = addresses.filter_map(|record| match &record.data {
        RData::A(v4) => Some(IpAddr::V4(v4.0)),
        RData::AAAA(v6) => Some(IpAddr::V6(v6.0)),
        _ => None,
    });
    Found {
        addresses: addresses.filter(|address| seen.insert(*address)).collect(),
        aliases,
    }
}

/// One of each family after the other, so that a family that leads nowhere costs one try and not all.
fn in_turn(v4: Vec<IpAddr>, v6: Vec<IpAddr>) -> Vec<IpAddr> {
    let (mut v4, mut v6) = (v4.into_iter(), v6.into_iter());
    let mut mixed = Vec::new();
    loop {
        let pair = [v4.next(), v6.next()];
        if pair == [None, None] {
            return mixed;
        }
        mixed.extend(pair.into_iter().flatten());
    }
}
