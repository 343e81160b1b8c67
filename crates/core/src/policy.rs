//! What this server may call: the operator's wishes over the plain facts of [`crate::address`].
//!
//! Names are never a boundary, addresses are: an allowed name only widens what its addresses may be. The order is
//! fixed, and whatever refuses wins: denied networks, cloud metadata, then public or allowed, else refused. IPv4
//! addresses inside of IPv6 ones are judged too.

use std::net::{IpAddr, Ipv4Addr};

use crate::address::{self, NAT64_PREFIX_BITS, nat64_inside};
use crate::cidr::Cidr;
use crate::exchange::Class;
use crate::refusal::{Refusal, Rule};

/// Whom the server serves, the one choice of the set-up (`outbound.audience`).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Audience {
    /// People who must not reach into this network: public addresses only, but for what is listed.
    #[default]
    Strangers,
    /// Only people who may: private networks and loopback are allowed too, metadata is not.
    Us,
}

impl Audience {
    /// The word of the setting.
    pub const fn word(self) -> &'static str {
        match self {
            Audience::Strangers => "strangers",
            Audience::Us => "us",
        }
    }
}

/// A name that may be called, or all names under one (`*.corp.example`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    /// Lower case, without a final dot, and without the `*.`.
    name: String,
    /// It was written with `*.`: the names under it, and not it itself.
    under: bool,
}

impl HostPattern {
    /// Reads a name or `*.name`, in the form that a URL has it in: other letters become punycode. The error is a
    /// sentence without its full stop.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (rest, under) = match text.strip_prefix("*.") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        match url::Host::parse(rest) {
            Ok(url::Host::Domain(name)) => {
                let name = name.strip_suffix('.').unwrap_or(&name).to_owned();
                if name.contains('*') || name.split('.').any(str::is_empty) {
                    return Err("a star may only stand at the beginning, as in *.corp.example".to_owned());
                }
                Ok(HostPattern { name, under })
            }
            Ok(_) => Err("this is an address; addresses belong into allow_cidrs".to_owned()),
            Err(_) => Err("this is not the name of a host".to_owned()),
        }
    }

    /// Whether this names that host (lower case, no final dot).
    pub fn names(&self, host: &str) -> bool {
        if self.under {
            // At a dot, so that `*.corp.example` does not name `evilcorp.example`.
            host.strip_suffix(self.name.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|rest| !rest.is_empty())
        } else {
            host == self.name
        }
    }
}

impl std::fmt::Display for HostPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", if self.under { "*." } else { "" }, self.name)
    }
}

/// A NAT64 prefix of the site: what lies under it is judged by the IPv4 address inside.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Nat64(Cidr);

impl Nat64 {
    /// Takes an IPv6 network whose length RFC 6052 knows. The error is a sentence without its full stop.
    pub fn new(network: Cidr) -> Result<Self, String> {
        let known = NAT64_PREFIX_BITS.contains(&network.prefix_bits());
        if !network.network().is_ipv6() || !known {
            return Err("a NAT64 prefix is an IPv6 network of 32, 40, 48, 56, 64 or 96 bits".to_owned());
        }
        Ok(Nat64(network))
    }

    /// The network.
    pub const fn network(self) -> Cidr {
        self.0
    }

    fn inside(self, address: IpAddr) -> Option<Ipv4Addr> {
        match address {
            IpAddr::V6(v6) if self.0.contains(address) => Some(nat64_inside(v6, self.0.prefix_bits())),
            _ => None,
        }
    }
}

/// Where this server itself can be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ourselves {
    /// Ports on which it listens.
    pub ports: Vec<u16>,
    /// Host and port of its public URL: what is behind it may be called like any other site.
    pub site: Option<(String, u16)>,
}

/// What calls of one class may reach.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Private networks and loopback are allowed.
    pub private: bool,
    /// Networks that are allowed beside public ones.
    pub allow: Vec<Cidr>,
    /// Names that may be called whatever they are called, and whose addresses may be private.
    pub allow_hosts: Vec<HostPattern>,
    /// Names of this machine and network (`localhost`, single words, `*.internal`, ...) may be called without being listed.
    /// What their addresses may be is another matter.
    pub local_names: bool,
    /// Networks that are never called.
    pub deny: Vec<Cidr>,
    /// If there are any, no other host is called.
    pub only_hosts: Vec<HostPattern>,
    /// http is refused.
    pub https_only: bool,
    /// If there are any, no other port is called, and these are even if they are on the list of blocked ones.
    pub ports: Vec<u16>,
    /// Addresses of cloud metadata that may be called.
    pub metadata: Vec<IpAddr>,
    /// The site's NAT64 prefixes.
    pub nat64: Vec<Nat64>,
    /// This server.
    pub ourselves: Ourselves,
    /// The section of the settings that belongs to this class alone, for advice; `None`: there is none.
    pub section: Option<&'static str>,
}

/// Networks that [`Policy::private`] opens: RFC 1918, unique local, loopback.
const PRIVATE: [(IpAddr, u8); 6] = {
    use std::net::Ipv6Addr;
    [
        (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), 8),
        (IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)), 12),
        (IpAddr::V4(Ipv4Addr::new(192, 168, 0, 0)), 16),
        (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
        (IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
        (IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)), 7),
    ]
};

/// Whether an address is in one of the networks that "only us" opens.
pub fn is_private(address: IpAddr) -> bool {
    let holds = |(network, bits)| Cidr::new(network, bits).contains(address);
    PRIVATE.into_iter().any(holds)
}

impl Policy {
    /// Judges an address. `host` is the name that led to it, none for an address in the URL.
    ///
    /// # Errors
    /// The rule it breaks; the address is in the part for administrators.
    pub fn judge_address(&self, address: IpAddr, host: Option<&str>) -> Result<(), Refusal> {
        let address = address.to_canonical();
        let nat64 = self.nat64.iter().find_map(|prefix| prefix.inside(address));
        let inside: Vec<IpAddr> = match nat64 {
            Some(v4) => vec![IpAddr::V4(v4)],
            None => address::embedded(address).into_iter().map(IpAddr::V4).collect(),
        };
        let all = || std::iter::once(address).chain(inside.iter().copied());

        for one in all() {
            if let Some(network) = self.deny.iter().find(|network| network.contains(one)) {
                let subject = format!("{} is in {network}", shown(address, one));
                return Err(Refusal::about(Rule::Denied, subject)
                    .remedy(format!("take {network} out of `outbound.deny_cidrs`")));
            }
        }
        for one in all() {
            if address::is_metadata(one) && !self.metadata.contains(&one) {
                return Err(Refusal::about(Rule::Metadata, shown(address, one))
                    .remedy(format!("add {one} to `outbound.allow_metadata`")));
            }
        }
        let listed_host = host.is_some_and(|host| self.allow_hosts.iter().any(|pattern| pattern.names(host)));
        match nat64 {
            Some(v4) => self.judge_special(IpAddr::V4(v4), listed_host, host),
            // An allowed network that holds such an address must allow what is inside as well.
            None => all().try_for_each(|one| self.judge_special(one, listed_host, host)),
        }
    }

    fn judge_special(&self, address: IpAddr, listed_host: bool, host: Option<&str>) -> Result<(), Refusal> {
        let Some(what) = address::special(address) else {
            return Ok(());
        };
        let allowed = listed_host
            || self.metadata.contains(&address)
            || self.private && is_private(address)
            || self.allow.iter().any(|network| network.contains(address));
        if allowed {
            return Ok(());
        }
        let refusal = Refusal::about(Rule::Address, format!("{address} ({what})"));
        Err(refusal.remedy(self.address_remedy(address, host)))
    }

    fn address_remedy(&self, address: IpAddr, host: Option<&str>) -> String {
        let mut ways = Vec::new();
        if let IpAddr::V6(v6) = address
            && v6.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0]
        {
            ways.push("add 64:ff9b::/96 to `outbound.nat64_prefixes` if this network uses NAT64".to_owned());
        }
        ways.push(format!(
            "add {} or its network to {}",
            Cidr::of(address),
            self.setting("allow_cidrs")
        ));
        if let Some(host) = host {
            ways.push(format!("add {host} to {}", self.setting("allow_hosts")));
        }
        if is_private(address) {
            ways.push("set `outbound.audience` to \"us\"".to_owned());
        }
        ways.join(", or ")
    }

    /// The setting that a class shares with all, and its own if it has one.
    pub(crate) fn setting(&self, key: &str) -> String {
        match self.section {
            Some(section) => format!("`{section}.{key}` (for all classes: `outbound.{key}`)"),
            None => format!("`outbound.{key}`"),
        }
    }
}

/// What every class may reach.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    /// In the order of [`Class::ALL`].
    by_class: [Policy; Class::ALL.len()],
}

impl Policies {
    /// A policy for each class.
    pub fn new(of: impl FnMut(Class) -> Policy) -> Self {
        Policies {
            by_class: Class::ALL.map(of),
        }
    }

    /// The policy of a class.
    pub fn of(&self, class: Class) -> &Policy {
        &self.by_class[class as usize]
    }
}

/// An address, and the one inside of it that is meant.
fn shown(address: IpAddr, meant: IpAddr) -> String {
    if address == meant {
        address.to_string()
    } else {
        format!("{address}, which holds {meant},")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidrs(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| Cidr::parse(text).unwrap()).collect()
    }

    fn verdict(policy: &Policy, address: &str, host: Option<&str>) -> Option<Rule> {
        let judged = policy.judge_address(address.parse().unwrap(), host);
        judged.err().map(|refusal| refusal.rule)
    }

    #[test]
    fn strangers_reach_public_addresses_only() {
        let policy = Policy::default();
        let table = [
            ("1.1.1.1", None),
            ("::ffff:1.1.1.1", None),
            ("2606:4700::1", None),
            ("10.0.0.1", Some(Rule::Address)),
            ("0.0.0.0", Some(Rule::Address)),
            ("::", Some(Rule::Address)),
            ("::ffff:127.0.0.1", Some(Rule::Address)),
            ("64:ff9b::101:101", Some(Rule::Address)),
            ("64:ff9b::a9fe:a9fe", Some(Rule::Metadata)),
            ("168.63.129.16", Some(Rule::Metadata)),
        ];
        for (address, rule) in table {
            assert_eq!(verdict(&policy, address, None), rule, "{address}");
        }
    }

    #[test]
    fn only_us_opens_private_networks_and_never_metadata() {
        let policy = Policy {
            private: true,
            ..Policy::default()
        };
        let table = [
            ("10.0.0.1", None),
            ("172.31.255.254", None),
            ("192.168.0.1", None),
            ("127.0.0.1", None),
            ("::1", None),
            ("fd00::1", None),
            ("100.64.0.1", Some(Rule::Address)),
            ("169.254.0.1", Some(Rule::Address)),
            ("0.0.0.0", Some(Rule::Address)),
            ("64:ff9b::a00:1", Some(Rule::Address)),
            ("169.254.169.254", Some(Rule::Metadata)),
            ("fd00:ec2::254", Some(Rule::Metadata)),
            ("fd00:42::42", Some(Rule::Metadata)),
        ];
        for (address, rule) in table {
            assert_eq!(verdict(&policy, address, None), rule, "{address}");
        }
    }

    #[test]
    fn allowing_everything_still_keeps_metadata_in_whatever_form() {
        let policy = Policy {
            allow: cidrs(&["0.0.0.0/0", "::/0", "169.254.169.254/32"]),
            allow_hosts: vec![HostPattern::parse("*.example.com").unwrap()],
            ..Policy::default()
        };
        let table = [
            ("192.168.0.1", None),
            ("::1", None),
            ("64:ff9b::a00:1", None),
            ("169.254.169.254", Some(Rule::Metadata)),
            ("::ffff:169.254.169.254", Some(Rule::Metadata)),
            ("::169.254.169.254", Some(Rule::Metadata)),
            ("64:ff9b::a9fe:a9fe", Some(Rule::Metadata)),
            ("64:ff9b:1::a9fe:a9fe", Some(Rule::Metadata)),
            ("2002:a9fe:a9fe::1", Some(Rule::Metadata)),
            ("2606:4700::5efe:a9fe:a9fe", Some(Rule::Metadata)),
            ("100.100.100.200", Some(Rule::Metadata)),
        ];
        for (address, rule) in table {
            assert_eq!(verdict(&policy, address, None), rule, "{address}");
            assert_eq!(
                verdict(&policy, address, Some("a.example.com")),
                rule,
                "{address}"
            );
        }
    }

    #[test]
    fn metadata_is_opened_by_its_own_entry_alone() {
        let policy = Policy {
            metadata: vec!["169.254.169.254".parse().unwrap()],
            ..Policy::default()
        };
        assert_eq!(verdict(&policy, "169.254.169.254", None), None);
        assert_eq!(verdict(&policy, "::ffff:169.254.169.254", None), None);
        assert_eq!(verdict(&policy, "169.254.170.2", None), Some(Rule::Metadata));
        assert_eq!(verdict(&policy, "64:ff9b::a9fe:a9fe", None), Some(Rule::Address));
    }

    #[test]
    fn what_is_denied_wins_over_what_is_allowed() {
        let policy = Policy {
            private: true,
            allow: cidrs(&["10.0.0.0/8", "64:ff9b::/96"]),
            deny: cidrs(&["10.9.0.0/16", "1.1.1.0/24"]),
            metadata: vec!["169.254.169.254".parse().unwrap()],
            ..Policy::default()
        };
        assert_eq!(verdict(&policy, "10.1.0.1", None), None);
        assert_eq!(verdict(&policy, "10.9.0.1", None), Some(Rule::Denied));
        assert_eq!(verdict(&policy, "1.1.1.1", None), Some(Rule::Denied));
        assert_eq!(verdict(&policy, "64:ff9b::a09:1", None), Some(Rule::Denied));
    }

    #[test]
    fn an_allowed_network_does_not_open_the_ipv4_addresses_inside_of_it() {
        let policy = Policy {
            allow: cidrs(&["64:ff9b::/96", "2002::/16"]),
            ..Policy::default()
        };
        assert_eq!(verdict(&policy, "64:ff9b::101:101", None), None);
        assert_eq!(verdict(&policy, "64:ff9b::7f00:1", None), Some(Rule::Address));
        assert_eq!(verdict(&policy, "2002:c0a8:101::1", None), Some(Rule::Address));
    }

    #[test]
    fn a_nat64_prefix_is_judged_by_the_address_inside() {
        let policy = Policy {
            nat64: vec![Nat64::new(Cidr::parse("64:ff9b::/96").unwrap()).unwrap()],
            allow: cidrs(&["10.1.0.0/16"]),
            ..Policy::default()
        };
        assert_eq!(verdict(&policy, "64:ff9b::101:101", None), None);
        assert_eq!(verdict(&policy, "64:ff9b::a01:1", None), None);
        assert_eq!(verdict(&policy, "64:ff9b::a02:1", None), Some(Rule::Address));
        assert_eq!(verdict(&policy, "64:ff9b::a9fe:a9fe", None), Some(Rule::Metadata));
        for wrong in ["64:ff9b::/95", "10.0.0.0/32"] {
            assert!(Nat64::new(Cidr::parse(wrong).unwrap()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_listed_name_may_be_private_and_another_may_not() {
        let policy = Policy {
            allow_hosts: vec![
                HostPattern::parse("Wiki.Example.com").unwrap(),
                HostPattern::parse("*.corp.example").unwrap(),
            ],
            ..Policy::default()
        };
        let table = [
            (Some("wiki.example.com"), None),
            (Some("x.wiki.example.com"), Some(Rule::Address)),
            (Some("a.corp.example"), None),
            (Some("a.b.corp.example"), None),
            (Some("corp.example"), Some(Rule::Address)),
            (Some("evilcorp.example"), Some(Rule::Address)),
            (None, Some(Rule::Address)),
        ];
        for (host, rule) in table {
            assert_eq!(verdict(&policy, "10.2.0.1", host), rule, "{host:?}");
        }
    }

    #[test]
    fn a_pattern_is_a_name_and_nothing_else() {
        for text in [
            "",
            "*",
            "*.",
            "a.*.example",
            "10.0.0.1",
            "[::1]",
            "a b",
            "https://x.example",
            "a..b",
        ] {
            assert!(HostPattern::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(
            HostPattern::parse("*.Bücher.example.").unwrap().to_string(),
            "*.xn--bcher-kva.example"
        );
    }

    #[test]
    fn a_refusal_names_the_settings_that_would_allow_it() {
        let policy = Policy {
            section: Some("outbound.webhooks"),
            ..Policy::default()
        };
        let refusal = policy
            .judge_address("10.1.2.3".parse().unwrap(), Some("wiki.example.com"))
            .unwrap_err();
        assert_eq!(
            refusal.for_administrators(),
            "The address is not a public one, and this server may not call it: 10.1.2.3 (private use); to allow it, \
             add 10.1.2.3/32 or its network to `outbound.webhooks.allow_cidrs` (for all classes: \
             `outbound.allow_cidrs`), or add wiki.example.com to `outbound.webhooks.allow_hosts` (for all classes: \
             `outbound.allow_hosts`), or set `outbound.audience` to \"us\"."
        );
    }
}
