//! Addresses as `run` needs them: http or https, host, port, path, query, and a login before the host.
//!
//! Path, query and login may open a check to whoever reads them, so an address is never printed whole: `place` says
//! where it leads and no more.

use std::fmt;

use allswell_core::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const URL_BYTES_MAX: usize = 2_048;
const HOST_BYTES_MAX: usize = 253;

/// An http or https address.
#[derive(Clone)]
pub struct Url {
    https: bool,
    /// Lower case; an IPv6 address without its brackets.
    host: String,
    port: Option<u16>,
    /// Begins with a slash.
    path: Secret<String>,
    query: Option<Secret<String>>,
    /// `name:password`, decoded.
    login: Option<Secret<String>>,
}

impl Url {
    /// Reads an address. The error is the end of a sentence and repeats nothing of the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > URL_BYTES_MAX {
            return Err("is longer than 2048 bytes");
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("holds spaces or letters that an address may not hold");
        }
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("does not begin with http:// or https://"),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (before, query) = match rest.split_once('?') {
            Some((before, query)) => (before, Some(Secret::new(query.to_owned()))),
            None => (rest, None),
        };
        let (authority, path) = before.split_at(before.find('/').unwrap_or(before.len()));
        let (login, host_and_port) = match authority.rsplit_once('@') {
            Some((login, rest)) => (
                Some(decoded(login).ok_or("has a login that cannot be read")?),
                rest,
            ),
            None => (None, authority),
        };
        let (host, port) = host_and_port_of(host_and_port)?;
        Ok(Url {
            https,
            host,
            port,
            path: Secret::new(if path.is_empty() { "/" } else { path }.to_owned()),
            query,
            login: login.map(Secret::new),
        })
    }

    /// Whether what is sent there is encrypted.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// The address with more path behind it, before the query.
    #[must_use]
    pub fn below(&self, suffix: &str) -> Self {
        let path = format!("{}/{suffix}", self.path.reveal().trim_end_matches('/'));
        Url {
            path: Secret::new(path),
            ..self.clone()
        }
    }

    /// The address with one more parameter.
    #[must_use]
    pub fn with_parameter(&self, name: &str, value: &str) -> Self {
        let query = match &self.query {
            Some(query) if !query.reveal().is_empty() => format!("{}&{name}={value}", query.reveal()),
            _ => format!("{name}={value}"),
        };
        Url {
            query: Some(Secret::new(query)),
            ..self.clone()
        }
    }

    /// The address that a `Location` means when this one answered with it. `None` for what we do not follow: other
    /// schemes, relative paths, and from https back to http.
    pub(crate) fn redirected(&self, location: &str) -> Option<Self> {
        let to = if location.starts_with('/') && !location.starts_with("//") {
            let here = format!("{}://{}{location}", self.scheme(), self.authority());
            Url {
                login: self.login.clone(),
                ..Url::parse(&here).ok()?
            }
        } else {
            Url::parse(location).ok()?
        };
        (to.https || !self.https).then_some(to)
    }

    fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.unwrap_or(if self.https { 443 } else { 80 })
    }

    fn host_in_brackets(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        }
    }

    /// Host and port as in a `Host` field.
    pub(crate) fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host_in_brackets()),
            None => self.host_in_brackets(),
        }
    }

    /// Host and port as in a `CONNECT`.
    pub(crate) fn tunnel(&self) -> String {
        format!("{}:{}", self.host_in_brackets(), self.port())
    }

    /// Path and query, for the server itself.
    pub(crate) fn origin_form(&self) -> Secret<String> {
        Secret::new(match &self.query {
            Some(query) => format!("{}?{}", self.path.reveal(), query.reveal()),
            None => self.path.reveal().clone(),
        })
    }

    /// All but the login, for a proxy.
    pub(crate) fn absolute_form(&self) -> Secret<String> {
        let path = self.origin_form();
        Secret::new(format!(
            "{}://{}{}",
            self.scheme(),
            self.authority(),
            path.reveal()
        ))
    }

    /// The value of an `Authorization` field, if the address has a login.
    pub(crate) fn basic(&self) -> Option<Secret<String>> {
        let login = self.login.as_ref()?;
        Some(Secret::new(format!("Basic {}", STANDARD.encode(login.reveal()))))
    }

    /// All of the address but its login. Each call is a place to look at in a review.
    pub fn revealed(&self) -> String {
        self.absolute_form().reveal().clone()
    }

    /// Where the address leads, for people: nothing that opens anything.
    pub fn place(&self) -> String {
        format!("{}://{}", self.scheme(), self.authority())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/***", self.place())
    }
}

fn host_and_port_of(text: &str) -> Result<(String, Option<u16>), &'static str> {
    let (host, after) = match text.strip_prefix('[') {
        Some(inner) => {
            let (host, after) = inner.split_once(']').ok_or("has a [ without its ]")?;
            host.parse::<std::net::Ipv6Addr>()
                .map_err(|_| "has brackets around what is not an IPv6 address")?;
            (host, after)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    if host.is_empty() || host.len() > HOST_BYTES_MAX || !host.bytes().all(plain) {
        return Err("has no host, or one that is no name and no address");
    }
    let port = match after {
        "" => None,
        after => match after.strip_prefix(':').map(str::parse) {
            Some(Ok(port)) if port != 0 => Some(port),
            _ => return Err("has a port that is not a number from 1 to 65535"),
        },
    };
    Ok((host.to_ascii_lowercase(), port))
}

/// Undoes `%40` and its like.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, after @ ..] = rest else {
            return None;
        };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(url: &Url) -> String {
        url.revealed()
    }

    #[test]
    fn addresses_are_read_and_extended() {
        let url = Url::parse("HTTPS://Alice:p%40ss@Up.example.org:8443/ping/x/?a=b#top").unwrap();
        assert_eq!(whole(&url), "https://up.example.org:8443/ping/x/?a=b");
        assert_eq!(url.tunnel(), "up.example.org:8443");
        assert_eq!(url.basic().unwrap().reveal(), "Basic QWxpY2U6cEBzcw==");
        let start = url.below("start").with_parameter("rid", "1");
        assert_eq!(
            whole(&start),
            "https://up.example.org:8443/ping/x/start?a=b&rid=1"
        );
        assert_eq!(format!("{start:?}"), "https://up.example.org:8443/***");

        let url = Url::parse("http://[::1]").unwrap();
        assert_eq!(
            (url.host(), url.port(), url.authority()),
            ("::1", 80, "[::1]".to_owned())
        );
        assert_eq!(
            whole(&url.below("0").with_parameter("create", "1")),
            "http://[::1]/0?create=1"
        );
        assert_eq!(Url::parse("https://a").unwrap().port(), 443);
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_it() {
        for (text, why) in [
            ("", "begin"),
            ("up.example.org/ping", "begin"),
            ("ftp://a/b", "begin"),
            ("http://", "host"),
            ("http:///ping", "host"),
            ("http://a b", "spaces"),
            ("http://a/\r\nx", "spaces"),
            ("http://ä/", "spaces"),
            ("http://a:0/", "port"),
            ("http://a:99999/", "port"),
            ("http://a:/", "port"),
            ("http://[::1", "["),
            ("http://[x]/", "IPv6"),
            ("http://%zz@a/", "login"),
            ("http://a%41/", "host"),
        ] {
            let error = Url::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(Url::parse(&format!("http://a/{}", "b".repeat(3_000))).is_err());
    }

    #[test]
    fn redirects_never_leave_the_encryption() {
        let secure = Url::parse("https://u:p@a/ping").unwrap();
        let plain = Url::parse("http://a/ping").unwrap();
        assert_eq!(
            whole(&plain.redirected("https://a/ping").unwrap()),
            "https://a/ping"
        );
        let here = secure.redirected("/x?y").unwrap();
        assert_eq!(whole(&here), "https://a/x?y");
        assert!(here.basic().is_some());
        // A login is for the one who asked for it.
        assert!(secure.redirected("https://b/x").unwrap().basic().is_none());
        for location in ["http://a/ping", "//b/x", "x", "", "gopher://a"] {
            assert!(secure.redirected(location).is_none(), "{location}");
        }
    }
}
