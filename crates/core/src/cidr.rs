//! A network written as address and prefix length, such as `10.0.0.0/8`.
//!
//! IPv4 addresses that arrive dressed as IPv6 (`::ffff:10.1.2.3`, which a socket bound to `[::]` reports) are
//! judged as the IPv4 addresses they are; otherwise loopback would not be loopback on such a socket.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A set of addresses that share their first bits. IPv4 when it was written as IPv4 or as mapped IPv4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cidr {
    network: IpAddr,
    prefix_bits: u8,
}

impl Cidr {
    /// Reads `ADDRESS/BITS`, or a bare address as a network of one. The error is a sentence without its full stop.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| "this is not an IP address".to_owned())?;
        let width = width_bits(address);
        let prefix_bits = match bits {
            None => width,
            Some(bits) => bits_parse(bits)
                .filter(|bits| *bits <= width)
                .ok_or_else(|| format!("the part after the slash is not a number from 0 to {width}"))?,
        };
        let network = masked(address, prefix_bits);
        if network != address {
            // Either the length or the address is a slip, and trusting the wrong network is not a small thing.
            return Err(format!(
                "the address has bits beyond the prefix, the network is {network}/{prefix_bits}"
            ));
        }
        Ok(Self { network, prefix_bits }.unmapped())
    }

    /// The network of the address's first `prefix_bits` bits; more than it has count as all.
    pub fn new(address: IpAddr, prefix_bits: u8) -> Self {
        let prefix_bits = prefix_bits.min(width_bits(address));
        Self {
            network: masked(address, prefix_bits),
            prefix_bits,
        }
        .unmapped()
    }

    /// The network of this address alone.
    pub fn of(address: IpAddr) -> Self {
        Self::new(address, u8::MAX)
    }

    /// The first address.
    pub const fn network(&self) -> IpAddr {
        self.network
    }

    /// How many bits all addresses share.
    pub const fn prefix_bits(&self) -> u8 {
        self.prefix_bits
    }

    /// Whether the address lies in this network. A mapped IPv4 address counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        width_bits(address) == width_bits(self.network) && masked(address, self.prefix_bits) == self.network
    }

    /// Whether this is `0.0.0.0/0` or `::/0`.
    pub fn is_everything(&self) -> bool {
        self.prefix_bits == 0
    }

    /// `::ffff:10.0.0.0/104` is `10.0.0.0/8`. Shorter than 96 bits it also holds true IPv6, and stays.
    fn unmapped(self) -> Self {
        match (self.network, self.network.to_canonical()) {
            (IpAddr::V6(_), network @ IpAddr::V4(_)) if self.prefix_bits >= 96 => Self {
                network,
                prefix_bits: self.prefix_bits - 96,
            },
            _ => self,
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix_bits)
    }
}

/// Digits only: `u8::from_str` would also take `+8`.
fn bits_parse(text: &str) -> Option<u8> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn width_bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn masked(address: IpAddr, prefix_bits: u8) -> IpAddr {
    // A shift by the whole width is an overflow in Rust, hence `checked_shl`.
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix_bits)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix_bits)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        Cidr::parse(network).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn a_network_contains_its_addresses_and_no_others() {
        let table = [
            ("127.0.0.0/8", "127.0.0.1", true),
            ("127.0.0.0/8", "127.255.255.255", true),
            ("127.0.0.0/8", "128.0.0.0", false),
            ("127.0.0.0/8", "::ffff:127.0.0.1", true),
            ("127.0.0.0/8", "::ffff:128.0.0.1", false),
            ("127.0.0.0/8", "::1", false),
            ("::1/128", "::1", true),
            ("::1/128", "::2", false),
            ("::1", "::1", true),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("10.1.2.2/31", "10.1.2.3", true),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "203.0.113.9", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::ffff:10.0.0.0/104", "10.9.9.9", true),
            ("::ffff:10.0.0.0/104", "::ffff:10.9.9.9", true),
            ("::ffff:10.0.0.0/104", "11.0.0.0", false),
        ];
        for (network, address, expected) in table {
            assert_eq!(
                contains(network, address),
                expected,
                "{network} contains {address}"
            );
        }
    }

    #[test]
    fn what_is_not_a_network_is_refused_with_a_reason() {
        let table = [
            ("", "not an IP address"),
            ("localhost", "not an IP address"),
            ("10.0.0.0/", "from 0 to 32"),
            ("10.0.0.0/33", "from 0 to 32"),
            ("10.0.0.0/+8", "from 0 to 32"),
            ("10.0.0.0/8/8", "from 0 to 32"),
            ("::/129", "from 0 to 128"),
            ("10.1.0.0/8", "the network is 10.0.0.0/8"),
            ("fe80::1%eth0/64", "not an IP address"),
        ];
        for (text, reason) in table {
            let error = Cidr::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_network_is_written_as_it_is_read() {
        for text in ["127.0.0.0/8", "::1/128", "0.0.0.0/0", "2001:db8::/32"] {
            assert_eq!(Cidr::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            Cidr::parse("::ffff:10.0.0.0/104").unwrap().to_string(),
            "10.0.0.0/8"
        );
    }
}
