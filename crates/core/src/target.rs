//! Where a call goes: URL and name rules (`outbound.md` section 3), without asking anybody.
//!
//! There is one parser, that of the `url` crate, and it is asked once: scheme, host, port and path of the call are
//! parts of the same [`url::Url`]. What it would silently repair (line ends, backslashes, invisible letters) is refused
//! before, since another program may repair it differently. What is stored, shown and sent is the normalised URL.

mod endpoint;

use url::{Host, Position, Url};

pub use self::endpoint::Endpoint;
use crate::limits;
use crate::policy::{HostPattern, Policy};
use crate::refusal::{Refusal, Rule};

/// A URL that may be called, as far as can be said without a name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    url: Url,
    endpoint: Endpoint,
}

/// Ports of other protocols, which take a request for a command: the list of the fetch standard ("bad port").
pub const PORTS_BLOCKED: &[u16] = &[
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103,
    104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514,
    515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723,
    2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

/// Names that mean something only to one machine or network (RFC 6761, 6762, 8375), and all under them.
const NAMES_LOCAL: &[&str] = &[
    "localhost",
    "local",
    "internal",
    "localdomain",
    "home.arpa",
    "svc",
];

/// Names that are nobody's, or that no name server may be asked for (RFC 6761, 7686), and those by which clouds give away
/// credentials: a proxy that looks for addresses itself would find these. And all under them.
const NAMES_NEVER: &[&str] = &[
    "invalid",
    "onion",
    "metadata",
    "metadata.google.internal",
    "instance-data",
    "instance-data.ec2.internal",
];

const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// Judges a URL by all rules that need no name server: form, scheme, name, port, and an address in it.
///
/// The addresses of a name are judged when it is called, each time anew.
///
/// # Errors
/// The first rule that it breaks.
pub fn judge(policy: &Policy, text: &str) -> Result<Target, Refusal> {
    judge_raw(text)?;
    let url = Url::parse(text).map_err(|error| Refusal::about(Rule::Syntax, error.to_string()))?;
    judge_url(policy, url)
}

/// What parsers repair or read differently, looked at before the one parser sees it. Nothing is decided *for* a URL
/// here.
fn judge_raw(text: &str) -> Result<(), Refusal> {
    if text.len() > limits::URL_BYTES_MAX {
        return Err(Refusal::of(Rule::Length));
    }
    if text
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || c == '\\')
    {
        return Err(Refusal::of(Rule::Characters));
    }
    let (scheme, rest) = text.split_once(':').ok_or(Refusal::of(Rule::Syntax))?;
    let mut letters = scheme.chars();
    let begins = letters.next().is_some_and(|c| c.is_ascii_alphabetic());
    if !begins || !letters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')) {
        return Err(Refusal::of(Rule::Syntax));
    }
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(Refusal::of(Rule::Scheme));
    }
    // `http:host` and `http:////host` are the parser's kindness, and nobody means them.
    let rest = rest.strip_prefix("//").ok_or(Refusal::of(Rule::Syntax))?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.is_empty() {
        return Err(Refusal::of(Rule::Syntax));
    }
    if authority.contains('@') {
        return Err(Refusal::of(Rule::Credentials));
    }
    if authority.chars().any(|c| c == '%' || vanishes(c)) {
        return Err(Refusal::of(Rule::Characters));
    }
    Ok(())
}

/// Whether a letter is dropped from a host name, so that two names that look different, or alike, are one.
fn vanishes(c: char) -> bool {
    !c.is_ascii() && Host::parse(&format!("a{c}b")) == Ok(Host::Domain("ab".to_owned()))
}

fn judge_url(policy: &Policy, mut url: Url) -> Result<Target, Refusal> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Refusal::of(Rule::Scheme));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Refusal::of(Rule::Credentials));
    }
    if policy.https_only && url.scheme() != "https" {
        let remedy = format!("set {} to false", policy.setting("https_only"));
        return Err(Refusal::of(Rule::HttpsOnly).remedy(remedy));
    }
    // Never sent, so it is not kept either.
    url.set_fragment(None);
    let host = match url.host() {
        Some(Host::Domain(name)) => Host::Domain(name_plain(name)?),
        Some(Host::Ipv4(v4)) => Host::Ipv4(v4),
        Some(Host::Ipv6(v6)) => Host::Ipv6(v6),
        None => return Err(Refusal::of(Rule::Syntax)),
    };
    if let Host::Domain(name) = &host {
        url.set_host(Some(name)).map_err(|_| Refusal::of(Rule::Syntax))?;
    }
    let port = url.port_or_known_default().ok_or(Refusal::of(Rule::Port))?;
    judge_host(policy, &host)?;
    judge_port(policy, port)?;
    let endpoint = Endpoint { host, port };
    endpoint.judge_own_address(policy)?;
    Ok(Target { url, endpoint })
}

/// A name without its final dot.
fn name_plain(name: &str) -> Result<String, Refusal> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let labels = || name.split('.');
    if name.len() > NAME_BYTES_MAX || labels().any(|label| label.is_empty() || label.len() > LABEL_BYTES_MAX)
    {
        return Err(Refusal::about(
            Rule::Syntax,
            "a name has an empty or too long part",
        ));
    }
    Ok(name.to_ascii_lowercase())
}

fn judge_host(policy: &Policy, host: &Host<String>) -> Result<(), Refusal> {
    let listed = |list: &[HostPattern]| match host {
        Host::Domain(name) => list.iter().any(|pattern| pattern.names(name)),
        Host::Ipv4(_) | Host::Ipv6(_) => false,
    };
    if !policy.only_hosts.is_empty() && !listed(&policy.only_hosts) {
        let remedy = match host {
            Host::Domain(name) => format!("add {name} to {}", policy.setting("only_hosts")),
            _ => format!("call it by a name in {}", policy.setting("only_hosts")),
        };
        return Err(Refusal::about(Rule::NotListed, host.to_string()).remedy(remedy));
    }
    let Host::Domain(name) = host else { return Ok(()) };
    let under = |local: &&str| {
        name.strip_suffix(*local)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let local = !name.contains('.') || NAMES_LOCAL.iter().any(under);
    let refused = local && !policy.local_names || NAMES_NEVER.iter().any(under);
    if refused && !listed(&policy.allow_hosts) {
        return Err(Refusal::about(Rule::Name, name.clone())
            .remedy(format!("add {name} to {}", policy.setting("allow_hosts"))));
    }
    Ok(())
}

fn judge_port(policy: &Policy, port: u16) -> Result<(), Refusal> {
    let setting = || policy.setting("allowed_ports");
    if port != 0 && policy.ports.contains(&port) {
        return Ok(());
    }
    if PORTS_BLOCKED.contains(&port) {
        return Err(Refusal::about(Rule::Port, port.to_string()));
    }
    if !policy.ports.is_empty() {
        return Err(Refusal::about(Rule::PortNotListed, port.to_string())
            .remedy(format!("add {port} to {}", setting())));
    }
    Ok(())
}

impl Target {
    /// The normalised URL, without fragment: what is stored and shown.
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// Whether the call is encrypted.
    pub fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Host and port, 80 and 443 filled in.
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Host and, if it is not the usual one, port: what the `Host` header says.
    pub fn authority(&self) -> &str {
        &self.url[Position::BeforeHost..Position::AfterPort]
    }

    /// Path and query, as on the request line.
    pub fn path_and_query(&self) -> &str {
        &self.url[Position::BeforePath..Position::AfterQuery]
    }

    /// Scheme, host and port: what a breaker and a limit are keyed by, and what a log may say.
    pub fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// Judges where an answer redirects to, like a first URL and beyond: from https there is no way to http.
    ///
    /// # Errors
    /// The rule it breaks. One that is no fault of the location itself is [`Rule::Redirect`].
    pub fn hop(&self, policy: &Policy, location: &str) -> Result<Target, Refusal> {
        if location.len() > limits::URL_BYTES_MAX {
            return Err(Refusal::of(Rule::Length));
        }
        if !location.bytes().all(|byte| byte.is_ascii_graphic()) || location.contains('\\') {
            return Err(Refusal::of(Rule::Characters));
        }
        let url = self
            .url
            .join(location)
            .map_err(|error| Refusal::about(Rule::Syntax, error.to_string()))?;
        let next = judge_url(policy, url)?;
        if self.is_tls() && !next.is_tls() {
            return Err(Refusal::about(Rule::Redirect, "from https to http"));
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests;
