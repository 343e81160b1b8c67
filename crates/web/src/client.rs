//! Who is asking: the peer, or whom a trusted proxy speaks for (DECISIONS 15).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use allswell_core::limits;
use http::HeaderMap;

/// Which peers are believed when they say whom they speak for.
#[derive(Clone)]
pub struct Network(Arc<dyn Fn(IpAddr) -> bool + Send + Sync>);

impl Network {
    /// A network whose trusted proxies are those that `trusts` says yes to.
    pub fn new(trusts: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        Network(Arc::new(trusts))
    }

    fn trusts(&self, peer: IpAddr) -> bool {
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
        let first = forwarded.to_str().ok()?.split(',').next()?.trim();
        let address = first.parse::<IpAddr>().ok();
        address
            .or_else(|| first.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
            .map(|ip| ip.to_string())
    }

    /// The scheme the client used: what a trusted proxy says, else `http`.
    pub(crate) fn scheme(&self, peer: SocketAddr, headers: &HeaderMap) -> String {
        let forwarded = headers
            .get("x-forwarded-proto")
            .filter(|_| self.trusts(peer.ip().to_canonical()));
        let scheme = forwarded
            .and_then(|value| value.to_str().ok())
            .map(str::trim)
            .unwrap_or_default();
        let plain = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric());
        if plain && scheme.len() <= limits::SCHEME_BYTES_MAX {
            scheme.to_owned()
        } else {
            "http".to_owned()
        }
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
