//! What a setting may be: from what was written to a valid value, or a reason why not.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use allswell_core::policy::{Audience, HostPattern, Nat64};
use allswell_core::quota::Quota;
use allswell_core::retry::Schedule;
use allswell_outbound::{Proxy, ProxyMode};

use super::show::shown;
use super::{Cidr, DatabaseUrl, KeyRingSource, Secret, SiteUrl};

const NETWORKS_MAX: usize = 256;
const NAMESERVERS_MAX: usize = 8;
const PATH_BYTES_MAX: usize = 4096;
const LABEL_CHARS_MAX: usize = 100;
const SECRET_CHARS_MIN: usize = 8;
const SECRET_CHARS_MAX: usize = 256;
/// What a message repeats of a name, a path or a wrong value.
const SHOWN_CHARS_MAX: usize = 256;

/// The kinds of settings.
pub enum Kind {
    Address,
    /// An address, or empty for "off".
    AddressOrOff,
    /// Empty: worked out from the listener.
    SiteUrl,
    Path,
    /// A path, or empty for "none".
    PathOrNone,
    Networks,
    /// Names of hosts, `*.` in front for all under one.
    Hosts,
    /// Ports, 0 not among them.
    Ports,
    /// IP addresses.
    Addresses,
    /// IPv6 networks that hold IPv4 addresses.
    Nat64,
    /// IP addresses with or without a port; 53 is the usual one.
    Nameservers,
    /// Whom the server serves; true and false as Healthchecks' switch says it.
    Audience,
    /// A secret, since it may hold a password. Empty: none.
    ProxyUrl,
    /// A secret, since it may hold a password. Empty: worked out from the data directory.
    Database,
    /// A secret whose file is left to those who make and read key rings.
    KeyRing,
    /// A secret that somebody chose. Empty: none.
    SecretText,
    /// A few words that people read.
    Label,
    /// The name of a header that we add, or empty for "none".
    HeaderNameOrNone,
    Word(&'static [&'static str]),
    /// So many in so long, or empty for no bound.
    RateOrNone,
    /// Waits between tries.
    Waits,
    /// true or false.
    Switch,
    /// true or false, or empty for "as elsewhere".
    SwitchOrNone,
    Number {
        min: u64,
        max: u64,
    },
}

/// A valid value, before the empty ones are worked out.
pub enum Value {
    Address(SocketAddr),
    AddressOrOff(Option<SocketAddr>),
    SiteUrl(Option<SiteUrl>),
    Path(PathBuf),
    PathOrNone(Option<PathBuf>),
    Networks(Vec<Cidr>),
    Hosts(Vec<HostPattern>),
    Ports(Vec<u16>),
    Addresses(Vec<IpAddr>),
    Nat64(Vec<Nat64>),
    Nameservers(Vec<SocketAddr>),
    Audience(Audience),
    ProxyUrl(Option<Secret<String>>),
    Database(Option<DatabaseUrl>),
    KeyRing(Option<KeyRingSource>),
    SecretText(Option<Secret<String>>),
    Label(String),
    Word(&'static str),
    RateOrNone(Option<Quota>),
    Waits(Schedule),
    Switch(bool),
    SwitchOrNone(Option<bool>),
    Number(u64),
}

/// What was written. It may be a secret, so it has no `Debug`.
pub enum Raw {
    /// From the environment: text that may stand for any kind.
    Variable(String),
    Text(String),
    /// `value` is `None` where it exceeds an i128.
    Number {
        text: String,
        value: Option<i128>,
    },
    List(Vec<Raw>),
    Truth(bool),
    /// Anything that no setting takes, by its name in a sentence.
    Other(&'static str),
}

/// Why a value is refused; empty where saying what is allowed is enough.
type Why = Cow<'static, str>;

impl Kind {
    /// Secrets can be given by file and are never repeated.
    pub fn is_secret(&self) -> bool {
        matches!(
            self,
            Self::Database | Self::KeyRing | Self::SecretText | Self::ProxyUrl
        )
    }

    /// The end of the sentence "allowed is …".
    pub fn allowed(&self) -> String {
        match self {
            Self::Address => "an IP address with a port, such as \"127.0.0.1:8000\"".to_owned(),
            Self::AddressOrOff => {
                "an IP address with a port, such as \"127.0.0.1:9000\", or nothing for off".to_owned()
            }
            Self::SiteUrl => "an http or https URL without user, query and fragment".to_owned(),
            Self::Path => format!("a path of 1 to {PATH_BYTES_MAX} bytes"),
            Self::PathOrNone => format!("a path of at most {PATH_BYTES_MAX} bytes, or nothing"),
            Self::Networks => format!("up to {NETWORKS_MAX} networks, such as [\"10.0.0.0/8\", \"::1/128\"]"),
            Self::Database => "\"sqlite:PATH\" or \"postgres://USER:PASSWORD@HOST/DATABASE\"".to_owned(),
            Self::Switch => "true or false".to_owned(),
            Self::RateOrNone => {
                "a rate such as \"1000/hour\" (second, minute, hour, day), or nothing".to_owned()
            }
            Self::Waits => "waits such as \"2s 10s 5m\", each from 1s to 24h, 32 at most".to_owned(),
            Self::SwitchOrNone => "true or false, or nothing".to_owned(),
            Self::Hosts => {
                format!("up to {NETWORKS_MAX} names, such as [\"wiki.example.com\", \"*.corp.example\"]")
            }
            Self::Ports => format!("up to {NETWORKS_MAX} ports from 1 to 65535"),
            Self::Addresses => format!("up to {NETWORKS_MAX} IP addresses"),
            Self::Nat64 => "IPv6 networks, such as [\"64:ff9b::/96\"]".to_owned(),
            Self::Nameservers => {
                "up to 8 IP addresses with or without a port, such as [\"9.9.9.9\", \"127.0.0.1:5300\"]"
                    .to_owned()
            }
            Self::Audience => "\"strangers\" or \"us\"".to_owned(),
            Self::ProxyUrl => {
                "\"http://HOST:PORT\" with USER:PASSWORD@ in front of the host if it asks for one, or nothing"
                    .to_owned()
            }
            Self::KeyRing => "the text of a key ring".to_owned(),
            Self::SecretText => format!(
                "printable ASCII without blanks, {SECRET_CHARS_MIN} to {SECRET_CHARS_MAX} characters, or nothing for none"
            ),
            Self::Label => format!("1 to {LABEL_CHARS_MAX} characters that can be seen"),
            Self::HeaderNameOrNone => {
                format!("the name of a header of at most {LABEL_CHARS_MAX} characters, or nothing for none")
            }
            Self::Word(["", words @ ..]) => format!("{}, or nothing", words.join(", ")),
            Self::Word(words) => words.join(", "),
            Self::Number { min, max } => format!("a whole number from {min} to {max}"),
        }
    }

    /// The error is the whole problem, fit to be shown: a secret is not repeated in it.
    pub fn parse(&self, raw: &Raw) -> Result<Value, String> {
        self.value(raw).map_err(|why| {
            let given = match (self, raw) {
                _ if self.is_secret() => raw.described(),
                (Self::SiteUrl, Raw::Variable(text) | Raw::Text(text)) => {
                    Raw::Text(without_user(text)).shown()
                }
                _ => raw.shown(),
            };
            let colon = if why.is_empty() { "" } else { ": " };
            format!("{given} was given{colon}{why}; allowed is {}", self.allowed())
        })
    }

    fn value(&self, raw: &Raw) -> Result<Value, Why> {
        match self {
            Self::Address => Ok(Value::Address(address(raw.text()?)?)),
            Self::AddressOrOff => match raw.text()? {
                "" => Ok(Value::AddressOrOff(None)),
                text => Ok(Value::AddressOrOff(Some(address(text)?))),
            },
            Self::SiteUrl => match raw.text()? {
                "" => Ok(Value::SiteUrl(None)),
                text => Ok(Value::SiteUrl(Some(SiteUrl::parse(text)?))),
            },
            Self::Path => path(raw.text()?).map(Value::Path),
            Self::PathOrNone => match raw.text()? {
                "" => Ok(Value::PathOrNone(None)),
                text => path(text).map(|path| Value::PathOrNone(Some(path))),
            },
            Self::Networks => list(raw, NETWORKS_MAX, Cidr::parse).map(Value::Networks),
            Self::Hosts => list(raw, NETWORKS_MAX, HostPattern::parse).map(Value::Hosts),
            Self::Ports => ports(raw).map(Value::Ports),
            Self::Addresses => list(raw, NETWORKS_MAX, ip).map(Value::Addresses),
            Self::Nat64 => list(raw, NETWORKS_MAX, |text| Nat64::new(Cidr::parse(text)?)).map(Value::Nat64),
            Self::Nameservers => list(raw, NAMESERVERS_MAX, nameserver).map(Value::Nameservers),
            Self::Audience => audience(raw).map(Value::Audience),
            Self::ProxyUrl => match raw.text()? {
                "" => Ok(Value::ProxyUrl(None)),
                text => {
                    Proxy::parse(text, ProxyMode::VettedIp)?;
                    Ok(Value::ProxyUrl(Some(Secret::new(text.to_owned()))))
                }
            },
            Self::Database => match raw.text()? {
                "" => Ok(Value::Database(None)),
                text => Ok(Value::Database(Some(DatabaseUrl::parse(text)?))),
            },
            Self::KeyRing => match raw.text()? {
                "" => Ok(Value::KeyRing(None)),
                text => Ok(Value::KeyRing(Some(KeyRingSource::Inline(Secret::new(
                    text.to_owned(),
                ))))),
            },
            Self::SecretText => match raw.text()? {
                "" => Ok(Value::SecretText(None)),
                text => secret_text(text).map(|text| Value::SecretText(Some(text))),
            },
            Self::Label => label(raw.text()?).map(Value::Label),
            Self::HeaderNameOrNone => header_name(raw.text()?).map(Value::Label),
            Self::Word(words) => {
                let text = raw.text()?;
                let word = words.iter().find(|word| **word == text);
                word.map(|word| Value::Word(word)).ok_or(Cow::Borrowed(""))
            }
            Self::RateOrNone => match raw.text()? {
                "" => Ok(Value::RateOrNone(None)),
                text => Quota::parse(text)
                    .map(|quota| Value::RateOrNone(Some(quota)))
                    .ok_or(Cow::Borrowed("")),
            },
            Self::Waits => match Schedule::parse(raw.text()?) {
                Ok(schedule) => Ok(Value::Waits(schedule)),
                Err(error) => Err(Cow::Owned(error.to_string())),
            },
            Self::Switch => match raw {
                Raw::Variable(text) if text == "true" => Ok(Value::Switch(true)),
                Raw::Variable(text) if text == "false" => Ok(Value::Switch(false)),
                Raw::Truth(truth) => Ok(Value::Switch(*truth)),
                _ => Err(Cow::Borrowed("")),
            },
            Self::SwitchOrNone if raw.is_empty() => Ok(Value::SwitchOrNone(None)),
            Self::SwitchOrNone => match Kind::Switch.value(raw)? {
                Value::Switch(truth) => Ok(Value::SwitchOrNone(Some(truth))),
                _ => unreachable!("a switch parses to a switch"),
            },
            Self::Number { min, max } => {
                let number = raw.number().and_then(|number| u64::try_from(number).ok());
                let number = number.filter(|number| (*min..=*max).contains(number));
                number.map(Value::Number).ok_or(Cow::Borrowed(""))
            }
        }
    }
}

impl Value {
    /// Whether two values of one setting mean the same.
    pub fn is_same(&self, other: &Value) -> bool {
        match (self, other) {
            // Shown, all secrets are alike.
            (Self::SecretText(one), Self::SecretText(other)) => one == other,
            (Self::ProxyUrl(one), Self::ProxyUrl(other)) => one == other,
            (one, other) => shown(one) == shown(other),
        }
    }
}

impl Raw {
    /// Empty text, which for most settings means "work it out".
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Variable(text) | Self::Text(text) if text.is_empty())
    }

    fn text(&self) -> Result<&str, Why> {
        match self {
            Self::Variable(text) | Self::Text(text) => Ok(text),
            _ => Err(Cow::Borrowed("this is not text in quotes")),
        }
    }

    fn number(&self) -> Option<i128> {
        match self {
            // Digits only: no sign, blank or separator that a shell or template slipped in.
            Self::Variable(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
            Self::Number { value, .. } => *value,
            _ => None,
        }
    }

    /// What was given, for an error about something that is not secret.
    fn shown(&self) -> String {
        match self {
            Self::Variable(text) | Self::Text(text) => format!("\"{}\"", printable(text)),
            Self::Number { text, .. } => printable(text),
            Self::List(items) => {
                let items: Vec<String> = items.iter().take(4).map(Self::shown).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Truth(truth) => truth.to_string(),
            Self::Other(name) => (*name).to_owned(),
        }
    }

    /// The same without the content.
    fn described(&self) -> String {
        match self {
            Self::Variable(_) | Self::Text(_) => "a text (not shown)".to_owned(),
            Self::Number { .. } => "a number".to_owned(),
            Self::List(_) => "a list".to_owned(),
            Self::Truth(truth) => truth.to_string(),
            Self::Other(name) => (*name).to_owned(),
        }
    }
}

/// A URL without what may be a password: all before its last `@` but the scheme.
fn without_user(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    match rest.rsplit_once('@') {
        Some((_, after)) => format!("{scheme}***@{after}"),
        None => url.to_owned(),
    }
}

fn address(text: &str) -> Result<SocketAddr, Why> {
    text.parse().map_err(|_| Cow::Borrowed(""))
}

/// A path that can be opened.
pub fn path(text: &str) -> Result<PathBuf, Why> {
    if text.contains('\0') {
        return Err(Cow::Borrowed("it holds a zero byte"));
    }
    if text.is_empty() || text.len() > PATH_BYTES_MAX {
        return Err(Cow::Borrowed(""));
    }
    Ok(PathBuf::from(text))
}

/// A secret that fits into a header as it is.
fn secret_text(text: &str) -> Result<Secret<String>, Why> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Cow::Borrowed("it holds something else"));
    }
    if !(SECRET_CHARS_MIN..=SECRET_CHARS_MAX).contains(&text.len()) {
        return Err(Cow::Borrowed("it is too short or too long"));
    }
    Ok(Secret::new(text.to_owned()))
}

fn label(text: &str) -> Result<String, Why> {
    let visible = !text.trim().is_empty() && !text.chars().any(char::is_control);
    if !visible || text.chars().count() > LABEL_CHARS_MAX {
        return Err(Cow::Borrowed(""));
    }
    Ok(text.to_owned())
}

/// A name that webhooks may carry beside the headers that say which delivery it is.
fn header_name(text: &str) -> Result<String, Why> {
    if text.is_empty() {
        return Ok(String::new());
    }
    if allswell_core::header::judge_name(text).is_err() || text.len() > LABEL_CHARS_MAX {
        return Err(Cow::Borrowed(""));
    }
    if allswell_integrations::webhook::is_ours(text) {
        return Err(Cow::Borrowed("webhooks carry a header of that name already"));
    }
    Ok(text.to_owned())
}

/// Texts of a list, or of a variable between commas.
fn texts(raw: &Raw, count_max: usize) -> Result<Vec<&str>, Why> {
    let texts: Vec<&str> = match raw {
        Raw::Variable(text) if text.trim().is_empty() => Vec::new(),
        Raw::Variable(text) => text.split(',').map(str::trim).collect(),
        Raw::List(items) => items.iter().map(Raw::text).collect::<Result<_, _>>()?,
        _ => return Err(Cow::Borrowed("this is not a list")),
    };
    if texts.len() > count_max {
        return Err(Cow::Borrowed("these are too many"));
    }
    Ok(texts)
}

fn list<T>(raw: &Raw, count_max: usize, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, Why> {
    let item = |text: &str| parse(text).map_err(|why| Cow::Owned(format!("\"{}\": {why}", printable(text))));
    texts(raw, count_max)?.into_iter().map(item).collect()
}

fn ports(raw: &Raw) -> Result<Vec<u16>, Why> {
    let port = |number: i128| u16::try_from(number).ok().filter(|port| *port != 0);
    let ports: Option<Vec<u16>> = match raw {
        Raw::List(items) if items.len() <= NETWORKS_MAX => {
            items.iter().map(|item| item.number().and_then(port)).collect()
        }
        Raw::Variable(_) => {
            let number = |text: &str| text.parse().ok().and_then(port);
            texts(raw, NETWORKS_MAX)?.into_iter().map(number).collect()
        }
        _ => None,
    };
    ports.ok_or(Cow::Borrowed(""))
}

fn ip(text: &str) -> Result<IpAddr, String> {
    let address: Result<IpAddr, _> = text.parse();
    address
        .map(|address| address.to_canonical())
        .map_err(|_| "this is not an IP address".to_owned())
}

fn nameserver(text: &str) -> Result<SocketAddr, String> {
    let with_port = text.parse().ok();
    let without = || ip(text).map(|address| SocketAddr::new(address, 53));
    with_port.map_or_else(without, Ok)
}

fn audience(raw: &Raw) -> Result<Audience, Why> {
    match raw.text()? {
        "strangers" => Ok(Audience::Strangers),
        "us" => Ok(Audience::Us),
        text if matches!(raw, Raw::Variable(_)) && text.eq_ignore_ascii_case("true") => Ok(Audience::Us),
        text if matches!(raw, Raw::Variable(_)) && text.eq_ignore_ascii_case("false") => {
            Ok(Audience::Strangers)
        }
        _ => Err(Cow::Borrowed("")),
    }
}

/// The text without what could move a terminal's cursor, turn its lines around or flood a log.
pub fn printable(text: &str) -> String {
    let mut shown = String::new();
    for (count, letter) in text.chars().enumerate() {
        if count == SHOWN_CHARS_MAX {
            shown.push('…');
            break;
        }
        let unseen =
            matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if letter.is_control() || unseen {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}
