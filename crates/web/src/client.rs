//! Who is asking: the peer, or whom a trusted proxy speaks for (DECISIONS 15).

use std::borrow::Cow;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use allswell_core::limits;
use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};

use crate::serve::Peer;
use crate::state::App;

/// Which peers are believed when they say whom they speak for.
#[derive(Clone)]
pub struct Network(Arc<dyn Fn(IpAddr) -> bool + Send + Sync>);

impl Network {
    /// A network whose trusted proxies are those that `trusts` says yes to.
    pub fn new(trusts: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        Network(Arc::new(trusts))
    }

    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        (self.0)(peer)
    }

    /// What is recorded with a ping as its origin: from a trusted peer the left-most of `X-Forwarded-For`, as
    /// Healthchecks does; `None` if that is no address. For people to read: a client can write there what it likes.
    pub(crate) fn claimed_address(&self, peer: SocketAddr, headers: &HeaderMap) -> Option<String> {
        let peer = peer.ip().to_canonical();
        let forwarded = headers.get("x-forwarded-for").filter(|_| self.trusts(peer));
        let Some(forwarded) = forwarded else {
            return Some(peer.to_string());
        };
        let first = forwarded.to_str().ok()?.split(',').next()?;
        address_of(first).map(|ip| ip.to_string())
    }

    /// Who asks, for limits and for keys bound to networks: the right-most hop that is not a trusted proxy. What a
    /// client wrote further left counts for nothing. `None` if a proxy of ours names something that is no address.
    pub(crate) fn client_address(&self, peer: SocketAddr, headers: &HeaderMap) -> Option<IpAddr> {
        let mut client = peer.ip().to_canonical();
        let lines: Vec<&HeaderValue> = headers.get_all("x-forwarded-for").iter().collect();
        for line in lines.into_iter().rev() {
            for hop in line.to_str().ok()?.rsplit(',') {
                if !self.trusts(client) {
                    return Some(client);
                }
                client = address_of(hop)?.to_canonical();
            }
        }
        Some(client)
    }

    /// The scheme the client used: what a trusted proxy says, else `http`.
    pub(crate) fn scheme(&self, peer: SocketAddr, headers: &HeaderMap) -> Cow<'static, str> {
        let forwarded = headers
            .get("x-forwarded-proto")
            .filter(|_| self.trusts(peer.ip().to_canonical()));
        let scheme = forwarded
            .and_then(|value| value.to_str().ok())
            .map(str::trim)
            .unwrap_or_default();
        let plain = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric());
        if plain && scheme.len() <= limits::SCHEME_BYTES_MAX {
            match ["https", "http"].iter().find(|known| scheme == **known) {
                Some(known) => Cow::Borrowed(known),
                None => Cow::Owned(scheme.to_owned()),
            }
        } else {
            Cow::Borrowed("http")
        }
    }
}

/// A hop of `X-Forwarded-For`: an address, perhaps with a port.
fn address_of(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let address = hop.parse::<IpAddr>().ok();
    address.or_else(|| hop.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
}

/// The network of an address, coarse enough to keep: its first 24 bits, or 48 of an IPv6 address.
pub(crate) fn network_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => format!("{}/24", Ipv4Addr::from_bits(v4.to_bits() & !0xff)),
        IpAddr::V6(v6) => format!("{}/48", Ipv6Addr::from_bits(v6.to_bits() & !((1 << 80) - 1))),
    }
}

/// Who asks, where the application knows it.
pub(crate) struct Client(pub(crate) Option<IpAddr>);

impl Client {
    pub(crate) fn of(parts: &Parts, app: &App) -> Self {
        let peer = parts.extensions.get::<Peer>();
        Client(peer.and_then(|peer| app.network().client_address(peer.0, &parts.headers)))
    }
}

impl FromRequestParts<App> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        Ok(Client::of(parts, app))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
            .collect()
    }

    fn loopback_is_trusted() -> Network {
        Network::new(|ip| ip.is_loopback())
    }

    #[test]
    fn a_trusted_proxy_tells_whom_it_speaks_for() {
        let peer = "127.0.0.1:5000".parse().expect("a socket");
        for (given, expected) in [
            ("192.0.2.10", Some("192.0.2.10")),
            ("192.0.2.10, 198.51.100.7", Some("192.0.2.10")),
            (" 192.0.2.10:54321 ,x", Some("192.0.2.10")),
            ("2001:db8::7", Some("2001:db8::7")),
            ("[2001:db8::7]:443", Some("2001:db8::7")),
            ("unknown", None),
            ("", None),
            ("'; drop table pings", None),
        ] {
            let claimed =
                loopback_is_trusted().claimed_address(peer, &headers(&[("x-forwarded-for", given)]));
            assert_eq!(claimed.as_deref(), expected, "{given}");
        }
    }

    #[test]
    fn who_asks_is_the_last_hop_that_we_do_not_trust() {
        for (peer, forwarded, expected) in [
            ("203.0.113.9:1", &["127.0.0.1"][..], Some("203.0.113.9")),
            ("127.0.0.1:1", &[], Some("127.0.0.1")),
            ("127.0.0.1:1", &["198.51.100.7"], Some("198.51.100.7")),
            ("127.0.0.1:1", &["10.0.0.1, 198.51.100.7"], Some("198.51.100.7")),
            (
                "127.0.0.1:1",
                &["10.0.0.1", "198.51.100.7, 127.0.0.2"],
                Some("198.51.100.7"),
            ),
            ("127.0.0.1:1", &["198.51.100.7:443"], Some("198.51.100.7")),
            (
                "[::ffff:127.0.0.1]:1",
                &["::ffff:198.51.100.7"],
                Some("198.51.100.7"),
            ),
            ("127.0.0.1:1", &["10.0.0.1, nonsense"], None),
            ("127.0.0.1:1", &["10.0.0.1,"], None),
            ("127.0.0.1:1", &["nonsense, 198.51.100.7"], Some("198.51.100.7")),
        ] {
            let mut given = HeaderMap::new();
            for line in forwarded {
                given.append("x-forwarded-for", line.parse().expect("a value"));
            }
            let peer = peer.parse().expect("a socket");
            let client = loopback_is_trusted().client_address(peer, &given);
            assert_eq!(
                client.map(|ip| ip.to_string()).as_deref(),
                expected,
                "{forwarded:?}"
            );
        }
    }

    #[test]
    fn a_network_tells_less_than_the_address() {
        for (address, network) in [
            ("203.0.113.9", "203.0.113.0/24"),
            ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ] {
            assert_eq!(network_of(address.parse().expect("an address")), network);
        }
    }

    #[test]
    fn a_stranger_speaks_only_for_itself() {
        let peer = "203.0.113.9:5000".parse().expect("a socket");
        let lies = headers(&[("x-forwarded-for", "192.0.2.10"), ("x-forwarded-proto", "https")]);
        assert_eq!(
            loopback_is_trusted().claimed_address(peer, &lies).as_deref(),
            Some("203.0.113.9")
        );
        assert_eq!(loopback_is_trusted().scheme(peer, &lies), "http");
    }

    #[test]
    fn a_scheme_is_a_short_word() {
        let peer = "[::1]:5000".parse().expect("a socket");
        for (given, expected) in [
            ("https", "https"),
            ("", "http"),
            ("a b", "http"),
            ("averylongscheme", "http"),
        ] {
            assert_eq!(
                loopback_is_trusted().scheme(peer, &headers(&[("x-forwarded-proto", given)])),
                expected
            );
        }
    }
}
