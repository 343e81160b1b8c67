//! The mail relay as an operator names it, and the addresses of mail that it is asked about.
//!
//! A password is never part of it: a command line and a URL are read by too many. What would end a command of SMTP, or
//! begin one, cannot be in any of the parts.

use std::fmt;

use percent_encoding::percent_decode_str;

use crate::limits;

/// When a connection to a relay becomes a secure one.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Secured {
    /// `smtp`: it begins in the clear, and STARTTLS secures it (RFC 3207).
    OnDemand,
    /// `smtps`: TLS comes first (RFC 8314).
    AtOnce,
}

/// `smtp://[USER@]HOST[:PORT]` or `smtps://...`. The host is judged when it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// By the scheme.
    pub secured: Secured,
    /// Who signs in, without percent-encoding; nobody if `None`.
    pub user: Option<String>,
    /// As it was written: a name, or an address, of IPv6 in brackets.
    pub host: String,
    /// 587 and 465 filled in.
    pub port: u16,
}

/// Why a text names no relay. It repeats nothing of the text, which may hold a password.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum NoRelay {
    /// Longer than [`limits::RELAY_BYTES_MAX`].
    Long,
    /// Neither `smtp://` nor `smtps://`.
    Scheme,
    /// There is a password in it.
    Password,
    /// The user is empty, too long, no UTF-8, or holds control characters.
    User,
    /// There is no host.
    Host,
    /// The port is no number from 1 to 65535.
    Port,
    /// Something follows host and port.
    Beyond,
}

impl fmt::Display for NoRelay {
    /// A sentence without its full stop.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoRelay::Long => "it is longer than a relay's URL may be",
            NoRelay::Scheme => "it begins neither with smtp:// nor with smtps://",
            NoRelay::Password => "it holds a password",
            NoRelay::User => "the user before the @ is empty, too long, or holds control characters",
            NoRelay::Host => "it has no host",
            NoRelay::Port => "the port is not a number from 1 to 65535",
            NoRelay::Beyond => "something follows the host and the port",
        })
    }
}

impl std::error::Error for NoRelay {}

impl Relay {
    /// Reads the URL of a relay.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, NoRelay> {
        if text.len() > limits::RELAY_BYTES_MAX {
            return Err(NoRelay::Long);
        }
        let (scheme, rest) = text.split_once("://").ok_or(NoRelay::Scheme)?;
        let secured = match scheme.to_ascii_lowercase().as_str() {
            "smtp" => Secured::OnDemand,
            "smtps" => Secured::AtOnce,
            _ => return Err(NoRelay::Scheme),
        };
        // The last one: users of relays are often addresses of mail, and a host has none. Before everything else, so
        // that a password with a slash in it is called a password.
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => return Err(NoRelay::Password),
            Some((user, rest)) => (Some(user_plain(user)?), rest),
            None => (None, rest),
        };
        let (authority, beyond) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if !matches!(beyond, "" | "/") {
            return Err(NoRelay::Beyond);
        }
        // The colons of an IPv6 address are inside of its brackets.
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (authority, None),
        };
        if host.is_empty() {
            return Err(NoRelay::Host);
        }
        let port = match (port, secured) {
            (None, Secured::OnDemand) => 587,
            (None, Secured::AtOnce) => 465,
            (Some(digits), _) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or(NoRelay::Port)?,
            (Some(_), _) => return Err(NoRelay::Port),
        };
        Ok(Relay {
            secured,
            user,
            host: host.to_owned(),
            port,
        })
    }
}

fn user_plain(user: &str) -> Result<String, NoRelay> {
    let plain = percent_decode_str(user)
        .decode_utf8()
        .map_err(|_| NoRelay::User)?;
    let fits = !plain.is_empty() && plain.len() <= limits::RELAY_USER_BYTES_MAX;
    (fits && !plain.chars().any(char::is_control))
        .then(|| plain.into_owned())
        .ok_or(NoRelay::User)
}

/// An address of mail that may stand in a command of SMTP as it is: ASCII without spaces, brackets and quotes. Whether
/// mail arrives there is known only once some was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox(String);

impl Mailbox {
    /// Reads `name@domain`. `None` for everything else.
    pub fn parse(text: &str) -> Option<Self> {
        let plain =
            |c: char| c.is_ascii_graphic() && !matches!(c, '<' | '>' | '"' | '\\' | '(' | ')' | ',' | ';');
        let (name, domain) = text.split_once('@')?;
        let whole = !name.is_empty() && !domain.is_empty() && !domain.contains('@');
        let fits = text.len() <= limits::EMAIL_CHARS_MAX;
        (whole && fits && text.chars().all(plain)).then(|| Mailbox(text.to_owned()))
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_scheme_user_host_and_port() {
        let table = [
            (
                "smtp://relay.example",
                Secured::OnDemand,
                None,
                "relay.example",
                587,
            ),
            (
                "SMTPS://relay.example/",
                Secured::AtOnce,
                None,
                "relay.example",
                465,
            ),
            (
                "smtp://u@relay.example:2525",
                Secured::OnDemand,
                Some("u"),
                "relay.example",
                2525,
            ),
            (
                "smtp://a@b.example@relay.example",
                Secured::OnDemand,
                Some("a@b.example"),
                "relay.example",
                587,
            ),
            (
                "smtp://a%40b%3Ac@[::1]:25",
                Secured::OnDemand,
                Some("a@b:c"),
                "[::1]",
                25,
            ),
            (
                "smtps://[2001:db8::1]",
                Secured::AtOnce,
                None,
                "[2001:db8::1]",
                465,
            ),
        ];
        for (text, secured, user, host, port) in table {
            let relay = Relay {
                secured,
                user: user.map(str::to_owned),
                host: host.to_owned(),
                port,
            };
            assert_eq!(Relay::parse(text), Ok(relay), "{text}");
        }
    }

    #[test]
    fn what_names_no_relay_is_told_without_its_text() {
        let long = format!("smtp://{}", "a".repeat(limits::RELAY_BYTES_MAX));
        let user = format!(
            "smtp://{}@relay.example",
            "u".repeat(limits::RELAY_USER_BYTES_MAX + 1)
        );
        let table = [
            (long.as_str(), NoRelay::Long),
            (user.as_str(), NoRelay::User),
            ("relay.example:587", NoRelay::Scheme),
            ("https://relay.example", NoRelay::Scheme),
            ("smtp:relay.example", NoRelay::Scheme),
            ("smtp://u:hunter2@relay.example", NoRelay::Password),
            ("smtp://u:hun/ter2@relay.example", NoRelay::Password),
            ("smtp://u:@relay.example", NoRelay::Password),
            ("smtp://@relay.example", NoRelay::User),
            ("smtp://a%0d%0ab@relay.example", NoRelay::User),
            ("smtp://a%00b@relay.example", NoRelay::User),
            ("smtp://%ff@relay.example", NoRelay::User),
            ("smtp://", NoRelay::Host),
            ("smtp://:587", NoRelay::Host),
            ("smtp://relay.example:", NoRelay::Port),
            ("smtp://relay.example:0", NoRelay::Port),
            ("smtp://relay.example:65536", NoRelay::Port),
            ("smtp://relay.example:+25", NoRelay::Port),
            ("smtp://relay.example:587/queue", NoRelay::Beyond),
            ("smtp://relay.example?tls=no", NoRelay::Beyond),
        ];
        for (text, why) in table {
            assert_eq!(Relay::parse(text), Err(why), "{text}");
            assert!(!why.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn nothing_in_an_address_ends_its_command() {
        for good in [
            "alice@example.org",
            "a.b+c=d@xn--bcher-kva.example",
            "root@[192.0.2.1]",
        ] {
            assert_eq!(Mailbox::parse(good).unwrap().as_str(), good);
        }
        let long = format!("{}@example.org", "a".repeat(limits::EMAIL_CHARS_MAX));
        for bad in [
            "",
            "alice",
            "@example.org",
            "alice@",
            "a@b@c",
            "a b@c",
            "a@b\r\nDATA",
            "a@b>",
            "a@b> SIZE=0",
            "\"a\"@b",
            "ü@example.org",
            &long,
        ] {
            assert_eq!(Mailbox::parse(bad), None, "{bad}");
        }
    }
}
