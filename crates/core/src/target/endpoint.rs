//! A host and a port: the part of a target that every protocol has.

use std::fmt;
use std::net::IpAddr;

use url::Host;

use super::{judge_host, name_plain, vanishes};
use crate::policy::Policy;
use crate::refusal::{Refusal, Rule};

/// A host and a port, as far as can be said without a name server: what is resolved, connected to, and named by a
/// certificate, whatever is spoken there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub(super) host: Host<String>,
    pub(super) port: u16,
}

impl Endpoint {
    /// Judges a host as it was written (a name, an IPv4 address, an IPv6 address in brackets) and a port, for what is no
    /// HTTP. The list of blocked ports is not asked: it is there for requests that others take for commands.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn judge(policy: &Policy, host: &str, port: u16) -> Result<Self, Refusal> {
        let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '\\' | '%') || vanishes(c);
        if host.chars().any(odd) {
            return Err(Refusal::of(Rule::Characters));
        }
        let host = match Host::parse(host) {
            Ok(Host::Domain(name)) => Host::Domain(name_plain(&name)?),
            Ok(address) => address,
            Err(error) => return Err(Refusal::about(Rule::Syntax, error.to_string())),
        };
        judge_host(policy, &host)?;
        if port == 0 {
            return Err(Refusal::about(Rule::Port, "0"));
        }
        if !policy.ports.is_empty() && !policy.ports.contains(&port) {
            let remedy = format!("add {port} to {}", policy.setting("allowed_ports"));
            return Err(Refusal::about(Rule::PortNotListed, port.to_string()).remedy(remedy));
        }
        let endpoint = Endpoint { host, port };
        endpoint.judge_own_address(policy)?;
        Ok(endpoint)
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The name of the host, lower case and without final dot; none for an address.
    pub fn name(&self) -> Option<&str> {
        match &self.host {
            Host::Domain(name) => Some(name),
            Host::Ipv4(_) | Host::Ipv6(_) => None,
        }
    }

    /// The address that stands in the place of a name, a mapped one as IPv4; none for a name.
    pub fn address(&self) -> Option<IpAddr> {
        match self.host {
            Host::Domain(_) => None,
            Host::Ipv4(v4) => Some(IpAddr::V4(v4)),
            Host::Ipv6(v6) => Some(IpAddr::V6(v6).to_canonical()),
        }
    }

    pub(super) fn judge_own_address(&self, policy: &Policy) -> Result<(), Refusal> {
        self.address()
            .map_or(Ok(()), |address| policy.judge_address(address, None))
    }

    /// Whether a call to this port would be a call to this very server if the address is one of this machine: one of
    /// our ports, and not our public URL.
    pub fn may_be_ourselves(&self, policy: &Policy) -> bool {
        let site = policy.ourselves.site.as_ref();
        let is_site = site.is_some_and(|(host, port)| *port == self.port && self.host_is(host));
        policy.ourselves.ports.contains(&self.port) && !is_site
    }

    fn host_is(&self, host: &str) -> bool {
        Host::parse(host).is_ok_and(|host| host == self.host)
    }
}

impl fmt::Display for Endpoint {
    /// Host and port, always both: what a proxy is asked for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}
