//! The way to a relay: what the policy says, the connection, and TLS where it comes first.

use std::net::SocketAddr;

use allswell_core::exchange::{Budget, Class, End, Outcome, Phase, Phases};
use allswell_core::limits;
use allswell_core::relay::{Relay, Secured};
use allswell_core::time::Span;
use allswell_outbound::{Client, Proxy, ProxyMode, Session};

use super::super::Findings;
use super::{CONNECT, POLICY, TLS};
use crate::config::Config;

pub struct Way<'a> {
    pub client: &'a Client,
    pub relay: &'a Relay,
}

impl Way<'_> {
    /// The connection, and the way to it as findings.
    pub async fn reach(&self, config: &Config, findings: &mut Findings) -> Option<Session> {
        let at = self.at();
        let proxy = config.outbound.proxy.as_ref().map(Proxy::mode);
        let reached = self.call().await;
        let (peer, phases) = match &reached {
            Ok(session) => (session.peer(), session.phases()),
            Err(outcome) => (outcome.peer, &outcome.phases),
        };
        let blocked = matches!(&reached, Err(outcome) if matches!(outcome.end, End::Blocked(_)));
        if phases.connect.is_some() && !blocked {
            allowed(&at, proxy, findings);
        }
        if let Some(peer) = peer.filter(|_| !blocked) {
            findings.ok(CONNECT, &connected(peer, proxy, phases));
        }
        reached.map_err(|outcome| self.unreached(&outcome, findings)).ok()
    }

    /// Another connection, of which only a failure is told.
    pub async fn again(&self, findings: &mut Findings) -> Option<Session> {
        let reached = self.call().await;
        reached.map_err(|outcome| self.unreached(&outcome, findings)).ok()
    }

    async fn call(&self) -> Result<Session, Box<Outcome>> {
        let budget = Budget {
            total: Span::from_secs(limits::RELAY_SECS_MAX),
            ..Budget::default()
        };
        self.client.relay(Class::Operator, self.relay, budget).await
    }

    fn at(&self) -> String {
        format!("{}:{}", self.relay.host, self.relay.port)
    }

    fn unreached(&self, outcome: &Outcome, findings: &mut Findings) {
        let (at, why) = (self.at(), &outcome.detail);
        match &outcome.end {
        End::Blocked(refusal) => findings.fail(
            POLICY,
            &format!("an operator's call may not go to {at}: {refusal}"),
            &refusal.for_administrators(),
        ),
        End::NoAddress | End::TimedOut { phase: Phase::Dns, .. } => findings.fail(
            CONNECT,
            &format!("{at} has no address: {why}"),
            "look at the name, and at the name servers (dns.nameservers); what only /etc/hosts knows is not known here: \
             write the address",
        ),
        End::NoTls | End::TimedOut { phase: Phase::Tls, .. } => self.no_tls(why, findings),
        _ => findings.fail(
            CONNECT,
            &format!("no connection to {at}: {why}"),
            "look whether the relay listens on that port, and whether a firewall is between: many networks let nobody out \
             to port 25, and relays take mail of their users on 587 or 465",
        ),
    }
    }

    /// A handshake that failed, on the way or after STARTTLS.
    pub fn no_tls(&self, why: &str, findings: &mut Findings) {
        let other = match self.relay.secured {
            Secured::AtOnce => {
                "; if the port is one for STARTTLS (587, 25), write smtp:// instead of smtps://"
            }
            Secured::OnDemand => "",
        };
        findings.fail(
        TLS,
        &format!("no secure connection: {why}"),
        &format!(
            "the relay needs TLS 1.2 or newer, and a certificate for {} by an authority that this machine believes; \
             `outbound.extra_ca_file` adds one of your own{other}",
            self.relay.host
        ),
    );
    }
}

fn allowed(at: &str, proxy: Option<ProxyMode>, findings: &mut Findings) {
    match proxy {
        Some(ProxyMode::Delegated) => findings.note(
            POLICY,
            &format!("the proxy is asked for {at}, and looks for its addresses"),
            "the proxy has to refuse by itself what may not be called",
        ),
        Some(ProxyMode::VettedIp) | None => findings.ok(
            POLICY,
            &format!("an operator's call may go to {at}, by all of its addresses"),
        ),
    }
}

fn connected(peer: SocketAddr, proxy: Option<ProxyMode>, phases: &Phases) -> String {
    let by = if proxy.is_some() { "the proxy at " } else { "" };
    let took = |part: Option<Span>, before: &str, after: &str| {
        part.map_or(String::new(), |took| format!("{before}{}{after}", millis(took)))
    };
    let connect = took(phases.connect, " in ", "");
    let name = took(phases.dns, ", after ", " for its name");
    format!("connected to {by}{peer}{connect}{name}")
}

pub fn millis(took: Span) -> String {
    format!("{:.1} ms", took.as_micros() as f64 / 1_000.0)
}
