//! Why a call outward is refused: a code for records, a sentence for users, and for administrators what exactly was
//! refused with the setting that would allow it.
//!
//! The two are kept apart on purpose. The sentence says the rule and nothing that a user did not write; the rest may
//! name addresses that only this network knows.

use std::fmt;

/// The rule that was broken.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Longer than a URL may be.
    Length,
    /// A character that parsers read differently: control characters, spaces, backslashes, invisible ones.
    Characters,
    /// It is no absolute URL with a host.
    Syntax,
    /// Neither http nor https.
    Scheme,
    /// http where only https is allowed.
    HttpsOnly,
    /// A user name or password in the URL.
    Credentials,
    /// A name that has no meaning in public: `localhost`, a single label, `*.local`, ...
    Name,
    /// Not on the list of the only hosts allowed.
    NotListed,
    /// A port that speaks another protocol.
    Port,
    /// Not on the list of the only ports allowed.
    PortNotListed,
    /// An address that is not public.
    Address,
    /// An address of cloud metadata.
    Metadata,
    /// An address in a network that the operator denies.
    Denied,
    /// A port on which this server itself listens.
    Ourselves,
    /// A name with more addresses or aliases than are looked at.
    Answers,
    /// The connection came out somewhere else than at the address that was judged.
    Peer,
    /// A header that may not be sent, or that holds what would end it.
    Header,
    /// A body that is too large.
    Body,
    /// A redirect that may not be followed: where it leads, or that there are too many.
    Redirect,
}

impl Rule {
    /// All of them, in the order in which they are asked.
    pub const ALL: [Rule; 19] = [
        Rule::Length,
        Rule::Characters,
        Rule::Syntax,
        Rule::Scheme,
        Rule::HttpsOnly,
        Rule::Credentials,
        Rule::Name,
        Rule::NotListed,
        Rule::Port,
        Rule::PortNotListed,
        Rule::Address,
        Rule::Metadata,
        Rule::Denied,
        Rule::Ourselves,
        Rule::Answers,
        Rule::Peer,
        Rule::Header,
        Rule::Body,
        Rule::Redirect,
    ];

    /// The code for records and the API.
    pub const fn code(self) -> &'static str {
        match self {
            Rule::Length => "length",
            Rule::Characters => "characters",
            Rule::Syntax => "syntax",
            Rule::Scheme => "scheme",
            Rule::HttpsOnly => "https_only",
            Rule::Credentials => "credentials",
            Rule::Name => "name",
            Rule::NotListed => "only_hosts",
            Rule::Port => "port",
            Rule::PortNotListed => "allowed_ports",
            Rule::Address => "address",
            Rule::Metadata => "metadata",
            Rule::Denied => "deny_cidrs",
            Rule::Ourselves => "ourselves",
            Rule::Answers => "answers",
            Rule::Peer => "peer",
            Rule::Header => "header",
            Rule::Body => "body",
            Rule::Redirect => "redirect",
        }
    }

    /// The rule of that code.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.code() == code)
    }

    /// A sentence for the user who wrote the URL.
    pub const fn sentence(self) -> &'static str {
        match self {
            Rule::Length => "The URL is too long.",
            Rule::Characters => {
                "The URL holds control characters, spaces, backslashes or invisible characters."
            }
            Rule::Syntax => "This is not a URL with a host, such as https://example.com/hook.",
            Rule::Scheme => "Only http and https URLs can be called.",
            Rule::HttpsOnly => "Only https URLs can be called.",
            Rule::Credentials => "The URL must not hold a user name or password.",
            Rule::Name => "The host is a local name, which this server does not call.",
            Rule::NotListed => "The host is not on the list of hosts that this server may call.",
            Rule::Port => "The port belongs to another protocol and cannot be called.",
            Rule::PortNotListed => "The port is not on the list of ports that this server may call.",
            Rule::Address => "The address is not a public one, and this server may not call it.",
            Rule::Metadata => "The address is one of cloud metadata, which this server does not call.",
            Rule::Denied => "The address is in a network that this server may not call.",
            Rule::Ourselves => "The address is one of this server itself.",
            Rule::Answers => "The name has too many addresses or aliases.",
            Rule::Peer => "The connection did not reach the address that was asked for.",
            Rule::Header => "A header may not be sent, or holds a line end or another control character.",
            Rule::Body => "The body of the request is too large.",
            Rule::Redirect => "The target redirects to where this server does not follow.",
        }
    }
}

/// A call that the policy does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which rule.
    pub rule: Rule,
    /// For administrators: what was refused, such as `10.1.2.3 (private use)`. May be empty. Never a path or a value.
    pub subject: String,
    /// For administrators: what would allow it, such as ``add 10.1.2.3/32 to `outbound.allow_cidrs` ``. Empty if
    /// nothing would, or nothing should.
    pub remedy: String,
}

impl Refusal {
    /// A refusal that nothing can be added to.
    pub const fn of(rule: Rule) -> Self {
        Refusal {
            rule,
            subject: String::new(),
            remedy: String::new(),
        }
    }

    /// A refusal that says to administrators what was refused.
    pub fn about(rule: Rule, subject: impl Into<String>) -> Self {
        Refusal {
            subject: subject.into(),
            ..Refusal::of(rule)
        }
    }

    /// Adds what would allow it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// The sentence for administrators: rule, what was refused, what would allow it.
    pub fn for_administrators(&self) -> String {
        let mut text = self.rule.sentence().trim_end_matches('.').to_owned();
        if !self.subject.is_empty() {
            text.push_str(": ");
            text.push_str(&self.subject);
        }
        if !self.remedy.is_empty() {
            text.push_str("; to allow it, ");
            text.push_str(&self.remedy);
        }
        text.push('.');
        text
    }
}

impl fmt::Display for Refusal {
    /// The sentence for the user.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.rule.sentence())
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_a_code_of_its_own() {
        for rule in Rule::ALL {
            assert_eq!(Rule::from_code(rule.code()), Some(rule));
        }
    }

    #[test]
    fn only_administrators_learn_the_address() {
        let refusal = Refusal::about(Rule::Address, "10.1.2.3 (private use)")
            .remedy("add 10.1.2.3/32 to `outbound.allow_cidrs`");
        assert!(!refusal.to_string().contains("10.1.2.3"), "{refusal}");
        assert_eq!(
            refusal.for_administrators(),
            "The address is not a public one, and this server may not call it: 10.1.2.3 (private use); \
             to allow it, add 10.1.2.3/32 to `outbound.allow_cidrs`."
        );
        assert_eq!(
            Refusal::of(Rule::Scheme).for_administrators(),
            "Only http and https URLs can be called."
        );
    }
}
