//! The address under which people and jobs reach this server: ping addresses, links and badges begin with it.
//!
//! It is taken apart once, here, so that nobody later joins a path to an address with a query, or trusts a
//! name with something hidden before an `@`.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

const HOST_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;
const URL_BYTES_MAX: usize = 1024;

/// An http or https URL of scheme, host, port and path; no user, query or fragment, no slash at the end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SiteUrl {
    text: String,
    https: bool,
    host: String,
    path_at: usize,
}

impl SiteUrl {
    /// Reads a URL as the operator wrote it. The error is a sentence without its full stop.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > URL_BYTES_MAX {
            return Err("it is longer than 1024 bytes");
        }
        let (scheme, rest) = text
            .split_once("://")
            .ok_or("it does not begin with http:// or https://")?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("it does not begin with http:// or https://"),
        };
        if rest.contains('?') || rest.contains('#') {
            return Err("it has a query or a fragment");
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("it has a user name or password");
        }
        let (host, port) = authority_split(authority)?;
        let path = path_checked(path)?;

        let mut text = format!("{}://{host}", if https { "https" } else { "http" });
        if let Some(port) = port {
            text.push_str(&format!(":{port}"));
        }
        let path_at = text.len();
        text.push_str(path);
        Ok(Self {
            text,
            https,
            host,
            path_at,
        })
    }

    /// What an empty setting means: plain http at the address we listen on.
    pub fn of_listener(address: SocketAddr) -> Self {
        let text = format!("http://{address}");
        let host = match address {
            SocketAddr::V4(v4) => v4.ip().to_string(),
            SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
        };
        Self {
            path_at: text.len(),
            text,
            https: false,
            host,
        }
    }

    /// The whole URL, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The host in lower case, without its port; an IPv6 address with its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path, empty or beginning with a slash, never ending with one.
    #[cfg(test)]
    pub fn path(&self) -> &str {
        &self.text[self.path_at..]
    }

    /// Whether the host can only mean this machine.
    pub fn is_local(&self) -> bool {
        let host = self.host.trim_matches(['[', ']']);
        host == "localhost"
            || host.ends_with(".localhost")
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.to_canonical().is_loopback())
    }
}

impl fmt::Display for SiteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn authority_split(authority: &str) -> Result<(String, Option<u16>), &'static str> {
    let (host, after) = match authority.strip_prefix('[') {
        Some(inner) => {
            let (inner, after) = inner.split_once(']').ok_or("the host has a [ without its ]")?;
            let address: Ipv6Addr = inner
                .parse()
                .map_err(|_| "the host in brackets is not an IPv6 address")?;
            (format!("[{address}]"), after)
        }
        None => {
            let (host, after) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            (host_checked(host)?, after)
        }
    };
    if after.is_empty() {
        return Ok((host, None));
    }
    let port = after
        .strip_prefix(':')
        .filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    match port.and_then(|port| port.parse().ok()) {
        Some(port) if port != 0 => Ok((host, Some(port))),
        _ => Err("what follows the host is not a port from 1 to 65535"),
    }
}

fn host_checked(host: &str) -> Result<String, &'static str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let labels_good = host
        .split('.')
        .all(|label| !label.is_empty() && label.len() <= LABEL_BYTES_MAX && label.bytes().all(plain));
    if !labels_good || host.len() > HOST_BYTES_MAX {
        return Err(
            "the host is not a name or an address (write a name with other letters in its xn-- form)",
        );
    }
    // Browsers read a name whose last label is a number as an IPv4 address, so it must be one.
    let last = host.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) && host.parse::<Ipv4Addr>().is_err() {
        return Err("the host ends in a number and is not an IPv4 address");
    }
    Ok(host.to_ascii_lowercase())
}

fn path_checked(path: &str) -> Result<&str, &'static str> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let bytes_good = path
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte));
    if !bytes_good {
        return Err("the path holds a character that a path of this kind may not hold");
    }
    let segments_good = path
        .split('/')
        .skip(1)
        .all(|segment| !matches!(segment, "" | "." | ".."));
    if !segments_good {
        return Err("the path has an empty, . or .. segment");
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_kept_in_one_spelling() {
        let table = [
            (
                "https://up.example.org",
                "https://up.example.org",
                "up.example.org",
                "",
            ),
            (
                "https://up.example.org/",
                "https://up.example.org",
                "up.example.org",
                "",
            ),
            (
                "HTTPS://Up.Example.ORG/Base/",
                "https://up.example.org/Base",
                "up.example.org",
                "/Base",
            ),
            (
                "http://10.0.0.1:8000/a/b",
                "http://10.0.0.1:8000/a/b",
                "10.0.0.1",
                "/a/b",
            ),
            ("http://[::1]:8000", "http://[::1]:8000", "[::1]", ""),
            ("http://localhost", "http://localhost", "localhost", ""),
        ];
        for (given, text, host, path) in table {
            let url = SiteUrl::parse(given).unwrap();
            assert_eq!((url.as_str(), url.host(), url.path()), (text, host, path));
            assert_eq!(SiteUrl::parse(url.as_str()).unwrap(), url);
        }
    }

    #[test]
    fn what_links_cannot_begin_with_is_refused() {
        let table = [
            ("up.example.org", "does not begin"),
            ("ftp://up.example.org", "does not begin"),
            ("https://", "not a name"),
            ("https:///path", "not a name"),
            ("https://up.example.org?x=1", "query"),
            ("https://up.example.org/#top", "fragment"),
            ("https://user:password@up.example.org", "user name"),
            ("https://up..example.org", "not a name"),
            ("https://up.example.org.", "not a name"),
            ("https://ü.example.org", "xn--"),
            ("https://up.example.org:0", "port"),
            ("https://up.example.org:65536", "port"),
            ("https://up.example.org:", "port"),
            ("https://[::1]x", "port"),
            ("https://[::1", "["),
            ("https://[::g]", "IPv6"),
            ("https://1.2.3", "IPv4"),
            ("https://300.1.1.1", "IPv4"),
            ("https://up.example.org/a b", "character"),
            ("https://up.example.org/a\\b", "character"),
            ("https://up.example.org//", "segment"),
            ("https://up.example.org/a/../b", "segment"),
        ];
        for (given, reason) in table {
            let error = SiteUrl::parse(given).unwrap_err();
            assert!(error.contains(reason), "{given}: {error}");
        }
        assert!(SiteUrl::parse(&format!("https://a/{}", "b".repeat(2000))).is_err());
    }

    #[test]
    fn the_url_of_a_listener_reads_back_the_same() {
        for address in ["127.0.0.1:8000", "[::1]:80", "0.0.0.0:9"] {
            let url = SiteUrl::of_listener(address.parse().unwrap());
            assert_eq!(url, SiteUrl::parse(&format!("http://{address}")).unwrap());
        }
    }

    #[test]
    fn only_this_machine_is_local() {
        for (url, local) in [
            ("http://localhost", true),
            ("http://a.localhost", true),
            ("http://127.0.0.9:8000", true),
            ("http://[::1]", true),
            ("http://10.0.0.1", false),
            ("http://localhost.example.org", false),
        ] {
            assert_eq!(SiteUrl::parse(url).unwrap().is_local(), local, "{url}");
        }
    }
}
