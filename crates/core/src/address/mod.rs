//! What an address is: public or not and why not, which IPv4 addresses hide in it, whether it is cloud metadata.
//!
//! Pure facts, without anybody's wishes: what an operator allows is in [`crate::policy`]. The helpers of the standard
//! library know too few blocks and are not used.

pub mod ranges;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ranges::{IPV4, IPV6, METADATA, Range};

/// What an address of no public network is, in a few words; `None` for a public one.
///
/// A mapped IPv4 address is judged as the IPv4 address it is. An IPv6 address under whatever prefix whose interface
/// part is that of ISATAP is not public, since a tunnel may take it to the IPv4 address inside.
pub fn special(address: IpAddr) -> Option<&'static str> {
    let address = address.to_canonical();
    let table = match address {
        IpAddr::V4(_) => IPV4,
        IpAddr::V6(_) => IPV6,
    };
    let longest = table
        .iter()
        .filter(|range| holds(range, address))
        .max_by_key(|range| range.prefix_bits);
    match (longest, address) {
        (Some(range), _) if !range.public => Some(range.what),
        (_, IpAddr::V6(v6)) if is_isatap(v6) => Some("IPv4 inside, ISATAP"),
        _ => None,
    }
}

/// Whether an address hands out credentials of the machine.
pub fn is_metadata(address: IpAddr) -> bool {
    METADATA.contains(&address.to_canonical())
}

/// The IPv4 addresses inside of an IPv6 address, in all forms but the mapped one (that *is* the IPv4 address): by
/// compatible, translated, NAT64, 6to4, Teredo and ISATAP addresses. What is inside may be where a packet ends.
pub fn embedded(address: IpAddr) -> Vec<Ipv4Addr> {
    let IpAddr::V6(v6) = address.to_canonical() else {
        return Vec::new();
    };
    let bits = v6.to_bits();
    let at = |shift: u32| Ipv4Addr::from_bits((bits >> shift) as u32);
    let last = at(0);
    let mut inside = Vec::new();
    let within = |network: u128, prefix_bits: u32| bits >> (128 - prefix_bits) == network;
    // `::` and `::1` are none of them.
    if within(0, 96) && bits > 1 || within(0xffff << 16, 96) || within(0x64_ff9b << 64, 96) {
        inside.push(last);
    }
    if within(0x64_ff9b_0001, 48) {
        // Where in it the address lies is the site's choice (RFC 6052 section 2.2).
        inside.extend([48, 56, 64, 96].map(|prefix_bits| nat64_inside(v6, prefix_bits)));
    }
    if within(0x2002, 16) {
        inside.push(at(80));
    }
    if within(0x2001_0000, 32) {
        // The server as it is, the client with all bits turned (RFC 4380 section 4).
        inside.extend([at(64), Ipv4Addr::from_bits(!last.to_bits())]);
    }
    if is_isatap(v6) {
        inside.push(last);
    }
    inside
}

/// The lengths that a NAT64 prefix may have (RFC 6052 section 2.2).
pub const NAT64_PREFIX_BITS: [u8; 6] = [32, 40, 48, 56, 64, 96];

/// The IPv4 address inside of an address under a NAT64 prefix of this length, one of [`NAT64_PREFIX_BITS`]: right
/// behind the prefix, with bits 64 to 71 left out.
pub fn nat64_inside(address: Ipv6Addr, prefix_bits: u8) -> Ipv4Addr {
    let octets = address.octets();
    let start = usize::from(prefix_bits / 8);
    let mut behind = (start..16).filter(|at| *at != 8).map(|at| octets[at]);
    let mut next = || behind.next().unwrap_or(0);
    Ipv4Addr::new(next(), next(), next(), next())
}

/// Interface identifiers `0000:5efe:` and `0200:5efe:` (RFC 5214 section 6.1).
fn is_isatap(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    matches!(segments[4], 0 | 0x0200) && segments[5] == 0x5efe
}

fn holds(range: &Range, address: IpAddr) -> bool {
    match (range.network, address) {
        (IpAddr::V4(network), IpAddr::V4(v4)) => {
            let shift = 32 - u32::from(range.prefix_bits);
            (network.to_bits() ^ v4.to_bits()).checked_shr(shift).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(v6)) => {
            let shift = 128 - u32::from(range.prefix_bits);
            (network.to_bits() ^ v6.to_bits()).checked_shr(shift).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn blocks_begin_and_end_where_they_should() {
        let table = [
            ("9.255.255.255", None),
            ("10.0.0.0", Some("private use")),
            ("10.255.255.255", Some("private use")),
            ("11.0.0.0", None),
            ("100.63.255.255", None),
            ("100.64.0.0", Some("shared by carriers and overlay networks")),
            ("100.128.0.0", None),
            ("172.15.255.255", None),
            ("172.31.255.255", Some("private use")),
            ("172.32.0.0", None),
            ("192.0.0.8", Some("protocol assignments")),
            ("192.0.0.9", None),
            ("192.0.0.10", None),
            ("192.0.0.11", Some("protocol assignments")),
            ("192.0.1.0", None),
            ("223.255.255.255", None),
            ("224.0.0.0", Some("multicast")),
            ("255.255.255.255", Some("broadcast")),
            ("::", Some("unspecified")),
            ("::1", Some("loopback")),
            ("::2", Some("IPv4 inside, compatible form")),
            ("::ffff:10.0.0.1", Some("private use")),
            ("::ffff:1.1.1.1", None),
            ("::ffff:0:1.1.1.1", Some("IPv4 inside, translated form")),
            ("1fff:ffff::", Some("not global unicast")),
            ("2000::", None),
            ("2001:1::1", None),
            ("2001:1::4", Some("protocol assignments")),
            ("2001:1ff:ffff::", Some("protocol assignments")),
            ("2001:200::", None),
            ("2001:db8::", Some("documentation")),
            ("2606:4700::5efe:101:101", Some("IPv4 inside, ISATAP")),
            ("2606:4700::200:5efe:101:101", Some("IPv4 inside, ISATAP")),
            ("2606:4700::100:5efe:101:101", None),
            ("3fff:fff:ffff::", Some("documentation")),
            ("3fff:1000::", None),
            ("4000::", Some("not global unicast")),
            ("fdff::1", Some("private use")),
            ("febf::1", Some("link local")),
            ("fec0::1", Some("site local, given up")),
        ];
        for (address, what) in table {
            assert_eq!(special(ip(address)), what, "{address}");
        }
    }

    #[test]
    fn no_form_hides_an_ipv4_address() {
        let table = [
            ("1.1.1.1", vec![]),
            ("::ffff:127.0.0.1", vec![]),
            ("2606:4700::1", vec![]),
            ("::127.0.0.1", vec!["127.0.0.1"]),
            ("::ffff:0:127.0.0.1", vec!["127.0.0.1"]),
            ("64:ff9b::169.254.169.254", vec!["169.254.169.254"]),
            ("2002:a9fe:a9fe::1", vec!["169.254.169.254"]),
            (
                "2001:0:4136:e378:8000:63bf:80ff:fffe",
                vec!["65.54.227.120", "127.0.0.1"],
            ),
            ("2606:4700::5efe:10.0.0.1", vec!["10.0.0.1"]),
            ("fe80::200:5efe:10.0.0.1", vec!["10.0.0.1"]),
        ];
        for (address, inside) in table {
            let found: Vec<String> = embedded(ip(address)).iter().map(ToString::to_string).collect();
            assert_eq!(found, inside, "{address}");
        }
        assert!(embedded(ip("64:ff9b:1::7f00:1")).contains(&Ipv4Addr::LOCALHOST));
    }

    /// The table of RFC 6052 section 2.4.
    #[test]
    fn a_nat64_prefix_of_any_length_gives_the_address_back() {
        let table = [
            ("2001:db8:c000:221::", 32),
            ("2001:db8:1c0:2:21::", 40),
            ("2001:db8:122:c000:2:2100::", 48),
            ("2001:db8:122:3c0:0:221::", 56),
            ("2001:db8:122:344:c0:2:2100::", 64),
            ("2001:db8:122:344::192.0.2.33", 96),
        ];
        for (address, prefix_bits) in table {
            let IpAddr::V6(v6) = ip(address) else {
                unreachable!()
            };
            assert_eq!(
                nat64_inside(v6, prefix_bits),
                Ipv4Addr::new(192, 0, 2, 33),
                "{address}"
            );
        }
    }

    #[test]
    fn metadata_is_known_in_mapped_form_too() {
        for address in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "168.63.129.16",
            "fd00:ec2::254",
        ] {
            assert!(is_metadata(ip(address)), "{address}");
        }
        assert!(!is_metadata(ip("169.254.169.255")));
    }
}
