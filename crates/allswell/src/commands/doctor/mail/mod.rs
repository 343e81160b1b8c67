//! Whether a mail relay would take our mail: the way to it, TLS, sign-in, and on demand sender and recipient. No message
//! is ever sent.
//!
//! It is an argument and no setting, since this version sends no mail: a setting that only doctor reads would promise
//! what nobody keeps. What the relay says is a stranger's text, bounded and escaped by the door.

mod wanted;
mod way;

use allswell_core::limits;
use allswell_outbound::{Client, Mechanism, Offers, Reply, Session, SignIn, SmtpEnd};

use super::Findings;
use crate::cli::MailArguments;
use crate::config::Config;
use wanted::{Letter, Login, Wanted};
use way::{Way, millis};

const AREA: &str = "mail";
const POLICY: &str = "mail policy";
const CONNECT: &str = "mail connect";
const GREETING: &str = "mail greeting";
const TLS: &str = "mail tls";
const OFFERS: &str = "mail offers";
const SIGN_IN: &str = "mail sign-in";
const SENDER: &str = "mail sender";
const RECIPIENT: &str = "mail recipient";

const LATER: &str = "try again later; if it stays so, ask who runs the relay";

pub async fn look(
    config: &Config,
    client: &Client,
    url: &str,
    typed: &MailArguments,
    findings: &mut Findings,
) {
    findings.note(
        AREA,
        "this version sends no mail yet: this is whether the relay would take some",
        "",
    );
    let Some(wanted) = Wanted::read(url, typed, findings) else {
        return;
    };
    let way = Way {
        client,
        relay: &wanted.relay,
    };
    let Some(session) = way.reach(config, findings).await else {
        return;
    };
    let host = config.site_url.host();
    let name = name_of(host);
    let mut visit = Visit {
        way,
        wanted: &wanted,
        known_outside: !config.site_url.is_local() && host.contains(['.', ':']),
        name,
        session,
        findings,
    };
    // Each step has told why it is the last.
    let _ = visit.steps().await;
    let _ = visit.session.quit().await;
}

/// What we say who we are: the host of the public address, an address as RFC 5321 section 4.1.3 writes it.
fn name_of(host: &str) -> String {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => format!("[IPv6:{v6}]"),
        None if host.parse::<std::net::Ipv4Addr>().is_ok() => format!("[{host}]"),
        None => host.to_owned(),
    }
}

fn words(reply: &Reply) -> String {
    reply.words(limits::SMTP_REPLY_CHARS_SHOWN_MAX)
}

/// Whether the relay closes the connection after this (RFC 5321 section 3.8).
const fn says_goodbye(reply: &Reply) -> bool {
    reply.code == 421
}

/// A dialogue under way. A step that gives `None` has told why, and is the last.
struct Visit<'a> {
    way: Way<'a>,
    wanted: &'a Wanted,
    /// Ours.
    name: String,
    /// It may mean something to who is not on this machine.
    known_outside: bool,
    session: Session,
    findings: &'a mut Findings,
}

impl Visit<'_> {
    async fn steps(&mut self) -> Option<()> {
        self.greeting().await?;
        let offers = self.secured().await?;
        self.offers(&offers);
        if let Some(login) = &self.wanted.login {
            self.sign_in(&offers, login).await?;
        }
        if let Some(letter) = &self.wanted.letter {
            self.letter(letter).await?;
        }
        Some(())
    }

    async fn greeting(&mut self) -> Option<()> {
        let greeting = self.greeted().await?;
        let took = self.session.phases().first_byte.map_or(String::new(), millis);
        let found = format!("after {took}: {}", words(&greeting));
        self.findings.ok(GREETING, &found);
        Some(())
    }

    async fn greeted(&mut self) -> Option<Reply> {
        let greeting = self.session.greeting().await;
        let mut advice = "look whether a mail relay is behind that port".to_owned();
        if self.session.secured().is_none() {
            advice.push_str("; if it is one that begins with TLS (465), write smtps:// instead of smtp://");
        }
        if matches!(greeting, Err(SmtpEnd::TimedOut)) {
            advice.push_str(&format!(
                "; or it is one that lets strangers wait longer than {} s",
                limits::RELAY_SECS_MAX
            ));
        }
        let greeting = self.said(GREETING, "the greeting", &advice, greeting)?;
        if greeting.code != 220 {
            let found = format!("the relay takes no commands: {}", words(&greeting));
            let advice = if greeting.is_for_now() {
                LATER
            } else {
                "ask who runs the relay: it does not want to hear from this machine's address"
            };
            self.findings.fail(GREETING, &found, advice);
            return None;
        }
        Some(greeting)
    }

    /// TLS, if it does not stand yet; and what the relay offers once it does.
    async fn secured(&mut self) -> Option<Offers> {
        if self.session.secured().is_none() {
            let offers = self.ehlo().await?;
            if !offers.starttls {
                return self.in_the_clear().then_some(offers);
            }
            if let Err(broken) = self.starttls().await? {
                return self.without_tls_after_all(&broken).await;
            }
        }
        let version = self.session.secured().unwrap_or_default();
        let took = self.session.phases().tls.map_or(String::new(), millis);
        let found = format!(
            "{version} in {took}; the certificate is one for {}",
            self.wanted.relay.host
        );
        self.findings.ok(TLS, &found);
        self.ehlo().await
    }

    async fn ehlo(&mut self) -> Option<Offers> {
        let ehlo = self.session.ehlo(&self.name).await;
        let asked = format!("the answer to EHLO {}", self.name);
        let reply = self.said(OFFERS, &asked, LATER, ehlo)?;
        if reply.code == 250 {
            return Some(Offers::of(&reply));
        }
        let found = format!("the relay refuses EHLO {}: {}", self.name, words(&reply));
        let advice = if reply.is_for_now() {
            LATER
        } else {
            "it may want the name of a host that is known outside: set site_url to the public address"
        };
        self.findings.fail(OFFERS, &found, advice);
        None
    }

    /// Whether to go on without TLS: only where nobody is between, and with nothing to hide.
    fn in_the_clear(&mut self) -> bool {
        let found = "the relay does not offer STARTTLS";
        let advice = "switch TLS on at the relay; if it begins with TLS on another port (465), write smtps:// with that";
        if self.wanted.login.is_some() {
            let found = format!("{found}: the password would go unencrypted, and was not sent");
            self.findings.fail(TLS, &found, advice);
            return false;
        }
        if !self.session.is_local() {
            let found = format!("{found}: everybody in between could read the mail, and change it");
            self.findings.fail(TLS, &found, advice);
            return false;
        }
        let found = format!("{found}; it is on this machine and nobody signs in, so it can be used as it is");
        self.findings.warn(TLS, &found, advice);
        true
    }

    /// Begins anew and in the clear with a relay whose TLS is broken: as with one that has none, nobody is between and
    /// there is nothing to hide. Whoever listens to it does not look at its certificate.
    async fn without_tls_after_all(&mut self, why: &str) -> Option<Offers> {
        if self.wanted.login.is_some() || !self.session.is_local() {
            self.way.no_tls(why, self.findings);
            return None;
        }
        let found = format!(
            "no secure connection: {why}; the relay is on this machine and nobody signs in, so it can be used without"
        );
        let advice = format!(
            "programs that look at certificates, as this one does, cannot use the relay's STARTTLS: give it a certificate for \
             {} that `outbound.extra_ca_file` believes, or switch STARTTLS off for this machine",
            self.wanted.relay.host
        );
        self.findings.warn(TLS, &found, &advice);
        self.session = self.way.again(self.findings).await?;
        if !self.session.is_local() {
            self.way.no_tls(why, self.findings);
            return None;
        }
        self.greeted().await?;
        self.ehlo().await
    }

    /// The inner error: TLS could not be agreed on, and why.
    async fn starttls(&mut self) -> Option<Result<(), String>> {
        let reply = match self.session.starttls().await {
            Err(SmtpEnd::NoTls(why)) => return Some(Err(why)),
            Err(SmtpEnd::Unasked) => {
                self.findings.fail(
                    TLS,
                    "something was said between the answer to STARTTLS and the handshake: the relay mixes what is in the \
                     clear into what is secure, or somebody between puts words into its mouth",
                    "nothing was believed and nothing sent; bring the relay up to date, or use TLS at once (smtps://, 465)",
                );
                return None;
            }
            reply => self.said(TLS, "the answer to STARTTLS", LATER, reply)?,
        };
        if reply.code == 220 {
            return Some(Ok(()));
        }
        let found = format!("the relay offers STARTTLS and refuses it: {}", words(&reply));
        self.findings.fail(
            TLS,
            &found,
            "look at the relay's certificate and its log; nothing goes on without TLS",
        );
        None
    }

    fn offers(&mut self, offers: &Offers) {
        let size = match offers.size_bytes {
            Some(bytes) => format!("messages of at most {bytes} bytes"),
            None => "messages of any size".to_owned(),
        };
        let sign_in = if offers.mechanisms.is_empty() {
            "no sign-in".to_owned()
        } else {
            format!("sign-in by {}", offers.mechanisms.join(", "))
        };
        self.findings
            .ok(OFFERS, &format!("to {}: {size}, {sign_in}", self.name));
        if !self.known_outside && !self.session.is_local() {
            let found = format!(
                "we call ourselves {}, and the relay is elsewhere: many refuse mail from such a name, some only once the \
                 sender or the recipient is named",
                self.name
            );
            self.findings
                .warn(OFFERS, &found, "set site_url to the public address");
        }
    }

    async fn sign_in(&mut self, offers: &Offers, login: &Login) -> Option<()> {
        let known = |mechanism: &Mechanism| offers.mechanisms.iter().any(|word| word == mechanism.word());
        let Some(mechanism) = Mechanism::ALL.into_iter().find(known) else {
            self.findings.fail(
                SIGN_IN,
                "the relay offers no sign-in by PLAIN or LOGIN, and there is no other here",
                "take the user out of the URL if the relay knows this machine by its address; else use a port for users \
                 (587, 465), or switch one of the two on at the relay",
            );
            return None;
        };
        let said = self
            .session
            .sign_in(mechanism, &login.user, &login.password)
            .await;
        let came = self.said(SIGN_IN, "the answer to the sign-in", LATER, said)?;
        let who = format!(
            "{:?} by {} with the password of {}",
            login.user,
            mechanism.word(),
            login.source
        );
        let (reply, told) = match came {
            SignIn::Believed => {
                self.findings.ok(SIGN_IN, &format!("signed in as {who}"));
                return Some(());
            }
            SignIn::Unproven => {
                let found = format!(
                    "the relay believes {:?} before it was told the password: whether that is right is not known",
                    login.user
                );
                let advice = "a relay that signs everybody in has to be closed; if it knows this machine by its address, take \
                              the user out of the URL";
                self.findings.warn(SIGN_IN, &found, advice);
                return Some(());
            }
            SignIn::MoreAsked => {
                let found = format!("the relay was told {who}, and asks for more than this mechanism has");
                let advice = "ask who runs the relay: it may want a second proof, which is not known here, and have a password \
                              for applications";
                self.findings.fail(SIGN_IN, &found, advice);
                return None;
            }
            SignIn::Refused { reply, told } => (reply, told),
        };
        // The session leaves no more of it.
        let code = words(&reply);
        let (found, advice) = if told {
            (
                format!(
                    "the relay refuses {who}: {code} (its words are not shown: some relays repeat the password in them)"
                ),
                "look at user and password: some relays want a whole address as the user, or a password for applications",
            )
        } else {
            (
                format!(
                    "the relay refuses the sign-in of {:?} by {} before it was told the password: {code} (its words are not shown)",
                    login.user,
                    mechanism.word()
                ),
                "look at the user, since some relays want a whole address; or ask who runs the relay whether users may sign \
                 in from this machine",
            )
        };
        let advice = if reply.is_for_now() { LATER } else { advice };
        self.findings.fail(SIGN_IN, &found, advice);
        None
    }

    /// Asks for both and takes it back: DATA, which would make a message of it, is never said.
    async fn letter(&mut self, letter: &Letter) -> Option<()> {
        let said = self.session.mail_from(&letter.from).await;
        let reply = self.said(SENDER, "the answer to MAIL FROM", LATER, said)?;
        let advice = if reply.code == 530 {
            "the relay wants a sign-in first: name a user in the URL, smtp://USER@HOST".to_owned()
        } else {
            format!(
                "use an address that the relay lets this user, or this machine, write from; or {}",
                self.about_name()
            )
        };
        let mut ends = says_goodbye(&reply);
        if self.taken(SENDER, &format!("mail from {}", letter.from), &reply, &advice) {
            let said = self.session.rcpt_to(&letter.to).await;
            let reply = self.said(RECIPIENT, "the answer to RCPT TO", LATER, said)?;
            ends = says_goodbye(&reply);
            self.taken(
                RECIPIENT,
                &format!("mail for {}", letter.to),
                &reply,
                &format!(
                    "the relay has to take mail from this machine for others: sign in (a user in the URL), or let it in at \
                     the relay; or the address is wrong, or {}",
                    self.about_name()
                ),
            );
        }
        if !ends {
            // Everything was told: a relay that does not know what to say to this, or leaves, is none the worse.
            let _ = self.session.reset().await;
        }
        Some(())
    }

    fn about_name(&self) -> String {
        format!(
            "the relay dislikes the name that it was told, {}, which comes from site_url",
            self.name
        )
    }

    fn taken(&mut self, area: &'static str, what: &str, reply: &Reply, advice: &str) -> bool {
        let words = words(reply);
        if reply.is_done() {
            self.findings
                .ok(area, &format!("the relay would take {what}: {words}"));
        } else if reply.is_for_now() {
            // Greylisting is how many greet whom they do not know.
            self.findings.warn(
                area,
                &format!("the relay does not take {what} for now: {words}"),
                LATER,
            );
        } else {
            self.findings
                .fail(area, &format!("the relay refuses {what}: {words}"), advice);
        }
        reply.is_done()
    }

    /// What came of it, or the end of the dialogue as a failure.
    fn said<T>(
        &mut self,
        area: &'static str,
        awaited: &str,
        advice: &str,
        said: Result<T, SmtpEnd>,
    ) -> Option<T> {
        said.map_err(|end| {
            self.findings
                .fail(area, &format!("instead of {awaited}: {end}"), advice)
        })
        .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_call_ourselves_a_host_or_an_address_in_brackets() {
        for (host, name) in [
            ("allswell.example.org", "allswell.example.org"),
            ("127.0.0.1", "[127.0.0.1]"),
            ("[2001:db8::1]", "[IPv6:2001:db8::1]"),
        ] {
            assert_eq!(name_of(host), name);
        }
    }
}
