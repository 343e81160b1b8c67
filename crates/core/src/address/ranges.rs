//! The table of special-purpose address blocks, as data with a date.
//!
//! Sources: the IANA special-purpose registries for IPv4 and IPv6, their address-space registries, and blocks that
//! were given up. A test holds this table equal to `tests/outbound/policy_ranges.json`; when a registry moves, both
//! change together, with the date.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The state of the registries that this table shows.
pub const DATED: &str = "2025-10-09";

/// A block of addresses. The longest prefix that holds an address says what it is.
#[derive(Copy, Clone, Debug)]
pub struct Range {
    /// The first address of the block.
    pub network: IpAddr,
    /// How many bits all its addresses share.
    pub prefix_bits: u8,
    /// Globally reachable: an exception inside of a block that is not.
    pub public: bool,
    /// What it is, in a few words.
    pub what: &'static str,
}

const fn deny4(octets: [u8; 4], prefix_bits: u8, what: &'static str) -> Range {
    Range {
        network: IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3])),
        prefix_bits,
        public: false,
        what,
    }
}

const fn public4(octets: [u8; 4], prefix_bits: u8, what: &'static str) -> Range {
    Range {
        public: true,
        ..deny4(octets, prefix_bits, what)
    }
}

const fn deny6(network: u128, prefix_bits: u8, what: &'static str) -> Range {
    Range {
        network: IpAddr::V6(Ipv6Addr::from_bits(network)),
        prefix_bits,
        public: false,
        what,
    }
}

const fn public6(network: u128, prefix_bits: u8, what: &'static str) -> Range {
    Range {
        public: true,
        ..deny6(network, prefix_bits, what)
    }
}

/// IPv4. What no row holds is public.
pub const IPV4: &[Range] = &[
    deny4([0, 0, 0, 0], 8, "this network"),
    deny4([10, 0, 0, 0], 8, "private use"),
    deny4([100, 64, 0, 0], 10, "shared by carriers and overlay networks"),
    deny4([127, 0, 0, 0], 8, "loopback"),
    deny4([169, 254, 0, 0], 16, "link local"),
    deny4([172, 16, 0, 0], 12, "private use"),
    deny4([192, 0, 0, 0], 24, "protocol assignments"),
    public4([192, 0, 0, 9], 32, "port control protocol anycast"),
    public4([192, 0, 0, 10], 32, "TURN anycast"),
    deny4([192, 0, 2, 0], 24, "documentation"),
    public4([192, 31, 196, 0], 24, "AS112"),
    public4([192, 52, 193, 0], 24, "AMT"),
    deny4([192, 88, 99, 0], 24, "6to4 relays, given up"),
    deny4([192, 168, 0, 0], 16, "private use"),
    public4([192, 175, 48, 0], 24, "AS112"),
    deny4([198, 18, 0, 0], 15, "benchmarks"),
    deny4([198, 51, 100, 0], 24, "documentation"),
    deny4([203, 0, 113, 0], 24, "documentation"),
    deny4([224, 0, 0, 0], 4, "multicast"),
    deny4([240, 0, 0, 0], 4, "reserved"),
    deny4([255, 255, 255, 255], 32, "broadcast"),
];

/// IPv6. The first row holds everything, so that only 2000::/3 and its kind are public.
pub const IPV6: &[Range] = &[
    deny6(0, 0, "not global unicast"),
    deny6(0, 128, "unspecified"),
    deny6(1, 128, "loopback"),
    deny6(0, 96, "IPv4 inside, compatible form"),
    deny6(0xffff << 32, 96, "IPv4 inside, mapped form"),
    deny6(0xffff << 48, 96, "IPv4 inside, translated form"),
    deny6(0x64_ff9b << 96, 96, "IPv4 inside, NAT64"),
    deny6(0x64_ff9b_0001 << 80, 48, "IPv4 inside, local NAT64"),
    deny6(0x100 << 112, 64, "discarded"),
    deny6((0x100 << 112) | (1 << 64), 64, "dummy prefix"),
    public6(0x2000 << 112, 3, "global unicast"),
    deny6(0x2001 << 112, 23, "protocol assignments"),
    deny6(0x2001 << 112, 32, "IPv4 inside, Teredo"),
    public6((0x2001_0001 << 96) | 1, 128, "port control protocol anycast"),
    public6((0x2001_0001 << 96) | 2, 128, "TURN anycast"),
    public6((0x2001_0001 << 96) | 3, 128, "service registration anycast"),
    deny6(0x2001_0002 << 96, 48, "benchmarks"),
    public6(0x2001_0003 << 96, 32, "AMT"),
    public6(0x2001_0004_0112 << 80, 48, "AS112"),
    deny6(0x2001_0010 << 96, 28, "ORCHID, given up"),
    deny6(0x2001_0020 << 96, 28, "ORCHIDv2, no end points"),
    deny6(0x2001_0030 << 96, 28, "identifiers of drones, no end points"),
    deny6(0x2001_0db8 << 96, 32, "documentation"),
    deny6(0x2002 << 112, 16, "IPv4 inside, 6to4"),
    public6(0x2620_004f_8000 << 80, 48, "AS112"),
    deny6(0x3fff << 112, 20, "documentation"),
    deny6(0x5f00 << 112, 16, "segment identifiers"),
    deny6(0xfc00 << 112, 7, "private use"),
    deny6(0xfe80 << 112, 10, "link local"),
    deny6(0xfec0 << 112, 10, "site local, given up"),
    deny6(0xff00 << 112, 8, "multicast"),
];

/// Addresses that hand out credentials of the machine (cloud metadata). No network that is allowed opens one; only its
/// own entry in `outbound.allow_metadata` does. One of them lies in what looks like public space.
pub const METADATA: &[IpAddr] = &[
    v4([169, 254, 169, 254]),
    v4([169, 254, 170, 2]),
    v4([169, 254, 170, 23]),
    v4([169, 254, 169, 253]),
    v4([169, 254, 169, 123]),
    v4([169, 254, 0, 23]),
    v4([169, 254, 10, 10]),
    v4([169, 254, 42, 42]),
    v4([100, 100, 100, 200]),
    v4([192, 0, 0, 192]),
    v4([168, 63, 129, 16]),
    v6((0xfd00_0ec2 << 96) | 0x254),
    v6((0xfd00_0ec2 << 96) | 0x23),
    v6((0xfd20_00ce << 96) | 0x254),
    v6((0xfd00_0042 << 96) | 0x42),
];

const fn v4(octets: [u8; 4]) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]))
}

const fn v6(bits: u128) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from_bits(bits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const TABLE: &str = include_str!("../../../../tests/outbound/policy_ranges.json");

    fn rows(table: &serde_json::Value, family: &str) -> BTreeSet<(String, bool)> {
        let row = |row: &serde_json::Value| {
            let public = match row[1].as_str().unwrap() {
                "deny" => false,
                "public" => true,
                other => panic!("unknown action {other}"),
            };
            let (network, bits) = row[0].as_str().unwrap().split_once('/').unwrap();
            let network: IpAddr = network.parse().unwrap();
            (format!("{network}/{bits}"), public)
        };
        table[family].as_array().unwrap().iter().map(row).collect()
    }

    fn ours(ranges: &[Range]) -> BTreeSet<(String, bool)> {
        let row = |range: &Range| (format!("{}/{}", range.network, range.prefix_bits), range.public);
        ranges.iter().map(row).collect()
    }

    #[test]
    fn the_table_says_what_the_data_says() {
        let table: serde_json::Value = serde_json::from_str(TABLE).unwrap();
        assert_eq!(ours(IPV4), rows(&table, "ipv4"));
        assert_eq!(ours(IPV6), rows(&table, "ipv6"));
        let metadata: BTreeSet<IpAddr> = table["never_even_if_allowed"]["addresses"]
            .as_array()
            .unwrap()
            .iter()
            .map(|address| address.as_str().unwrap().parse().unwrap())
            .collect();
        assert_eq!(METADATA.iter().copied().collect::<BTreeSet<_>>(), metadata);
    }
}
