//! The door itself: a request in, an outcome out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use allswell_core::exchange::{Budget, Class, End, Outcome, Request};
use allswell_core::limits;
use allswell_core::policy::{Policies, Policy};
use allswell_core::refusal::{Refusal, Rule};
use allswell_core::relay::{Relay, Secured};
use allswell_core::target::{self, Endpoint, Target};
use bytes::Bytes;
use rustls::ClientConfig;

use crate::answer::{self, Sent};
use crate::dial;
use crate::hop;
use crate::proxy::Proxy;
use crate::smtp::{Opened, Session, Stream};
use crate::tls::{self, TlsError};
use crate::watch::{Failure, Watch};
use crate::wire::{System, Wire};

/// What the door is told at the start.
pub struct Settings {
    /// What each class may reach.
    pub policies: Policies,
    /// Name servers, asked in the order that serves best; must not be empty.
    pub nameservers: Vec<SocketAddr>,
    /// Certificates of authorities that are believed beside the usual ones, PEM.
    pub extra_ca_pem: Option<Vec<u8>>,
    /// A proxy that all calls take.
    pub proxy: Option<Proxy>,
}

/// The door. Cheap to clone; a clone shares the resolver and the settings.
pub struct Client<W: Wire = System> {
    inner: Arc<Inner<W>>,
}

impl<W: Wire> Clone for Client<W> {
    fn clone(&self) -> Self {
        Client {
            inner: self.inner.clone(),
        }
    }
}

struct Inner<W> {
    wire: W,
    policies: Policies,
    proxy: Option<Proxy>,
    tls: Arc<ClientConfig>,
    tls_without_http: Arc<ClientConfig>,
}

/// What can be said of a URL without calling it.
#[derive(Debug)]
pub struct Looked {
    /// The URL as it would be stored and sent.
    pub target: Target,
    /// Every address with its verdict. Empty if the name was not asked for, since a proxy does that.
    pub addresses: Vec<(IpAddr, Result<(), Refusal>)>,
    /// Why the addresses are not known, for administrators.
    pub unresolved: Option<String>,
}

impl Client<System> {
    /// A door to the real world.
    ///
    /// # Errors
    /// Certificates that cannot be used, or a resolver that cannot be made.
    pub fn new(settings: Settings) -> Result<Self, TlsError> {
        let wire = System::new(&settings.nameservers).map_err(TlsError::new)?;
        Self::with_wire(wire, settings)
    }
}

impl<W: Wire> Client<W> {
    /// A door to another world, for tests.
    ///
    /// # Errors
    /// Certificates that cannot be used.
    pub fn with_wire(wire: W, settings: Settings) -> Result<Self, TlsError> {
        let tls = tls::config(settings.extra_ca_pem.as_deref())?;
        Ok(Client {
            inner: Arc::new(Inner {
                wire,
                policies: settings.policies,
                proxy: settings.proxy,
                tls_without_http: tls::without_http(&tls),
                tls,
            }),
        })
    }

    /// The policy of a class, for judging a URL when it is saved.
    pub fn policy(&self, class: Class) -> &Policy {
        self.inner.policies.of(class)
    }

    /// Carries out a call. It never fails otherwise than by its outcome, takes no longer than its budget, holds nothing
    /// of the database, and may be dropped at any time: the connection is closed with it.
    pub async fn send(&self, request: Request) -> Outcome {
        let mut watch = Watch::start(request.budget);
        // On the heap: the state of a handshake is large, and most of an attempt is waiting after it.
        let ended = Box::pin(self.attempt(request, &mut watch)).await;
        watch.outcome(ended)
    }

    /// Judges a URL and, unless a proxy does that, asks for its addresses and judges each. Calls nobody but a name
    /// server.
    ///
    /// # Errors
    /// The rule that the URL itself breaks.
    pub async fn look(&self, class: Class, url: &str) -> Result<Looked, Refusal> {
        let policy = self.policy(class);
        let target = target::judge(policy, url)?;
        let mut looked = Looked {
            target,
            addresses: Vec::new(),
            unresolved: None,
        };
        if self.inner.proxy.as_ref().is_some_and(Proxy::is_responsible) {
            return Ok(looked);
        }
        let mut watch = Watch::start(Budget::default());
        let target = looked.target.endpoint();
        match dial::found(&self.inner.wire, target, &mut watch).await {
            Ok(found) => {
                let verdict = |ip: &IpAddr| (*ip, dial::judge(&self.inner.wire, policy, target, &[*ip]));
                looked.addresses = found.iter().map(verdict).collect();
            }
            Err(failure) => looked.unresolved = Some(failure.detail),
        }
        Ok(looked)
    }

    /// A connection to a relay, judged like any other, and secured if it is to be at once. Nothing was said yet. All of
    /// the dialogue has to fit into `budget`.
    ///
    /// # Errors
    /// How it ended, which is never [`End::Answered`], with the parts of it that were reached.
    pub async fn relay(&self, class: Class, relay: &Relay, budget: Budget) -> Result<Session, Box<Outcome>> {
        let mut watch = Watch::start(budget);
        match Box::pin(self.reach(class, relay, &mut watch)).await {
            Ok((stream, endpoint, secured)) => Ok(Session::new(Opened {
                stream,
                endpoint,
                tls: self.inner.tls_without_http.clone(),
                secured,
                local: self.inner.proxy.is_none()
                    && watch
                        .peer
                        .is_some_and(|peer| on_this_machine(&self.inner.wire, peer.ip())),
                watch,
            })),
            Err(failure) => Err(Box::new(watch.outcome(Err(failure)))),
        }
    }

    async fn reach(
        &self,
        class: Class,
        relay: &Relay,
        watch: &mut Watch,
    ) -> Result<(Box<dyn Stream>, Endpoint, Option<&'static str>), Failure> {
        let inner = &self.inner;
        let policy = self.policy(class);
        let endpoint = Endpoint::judge(policy, &relay.host, relay.port)?;
        let stream = dial::connect(&inner.wire, policy, inner.proxy.as_ref(), &endpoint, watch).await?;
        match relay.secured {
            Secured::OnDemand => Ok((Box::new(stream), endpoint, None)),
            Secured::AtOnce => {
                let (stream, version) =
                    tls::handshake(&inner.tls_without_http, &endpoint, stream, watch).await?;
                Ok((Box::new(stream), endpoint, Some(version)))
            }
        }
    }

    async fn attempt(&self, request: Request, watch: &mut Watch) -> Result<End, Failure> {
        let policy = self.policy(request.class);
        judge_size(&request)?;
        let mut target = target::judge(policy, request.url.reveal())?;
        let (mut method, mut headers) = (request.method, request.headers);
        let mut body = Bytes::from(request.body);
        let mut hops_left = request.redirects_max;
        loop {
            let sent = Sent {
                method,
                headers: &headers,
                body: body.clone(),
                take: request.take,
            };
            let answer = self.call(policy, &target, &sent, watch).await?;
            if hops_left == 0 {
                return Ok(End::Answered(answer));
            }
            let Some(next) = hop::next(policy, &target, &answer, method, &headers, &body)? else {
                return Ok(End::Answered(answer));
            };
            hops_left -= 1;
            watch.next_hop();
            (target, method, headers, body) = (next.target, next.method, next.headers, next.body);
        }
    }

    async fn call(
        &self,
        policy: &Policy,
        target: &Target,
        sent: &Sent<'_>,
        watch: &mut Watch,
    ) -> Result<allswell_core::exchange::Answer, Failure> {
        let inner = &self.inner;
        answer::judge_headers(sent.headers)?;
        let stream = dial::connect(
            &inner.wire,
            policy,
            inner.proxy.as_ref(),
            target.endpoint(),
            watch,
        )
        .await?;
        if !target.is_tls() {
            return answer::exchange(stream, target, sent, watch).await;
        }
        let (stream, _) = tls::handshake(&inner.tls, target.endpoint(), stream, watch).await?;
        answer::exchange(stream, target, sent, watch).await
    }
}

/// Whether nobody is between this machine and that address, as far as can be known for sure.
fn on_this_machine(wire: &impl Wire, address: IpAddr) -> bool {
    // One that is nobody's (RFC 5737, 3849). Where even this seems to be ours, the answer says nothing.
    let nobody: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    address.to_canonical().is_loopback() || wire.is_local(address) && !wire.is_local(nobody)
}

/// What makes a request unfit for any target.
fn judge_size(request: &Request) -> Result<(), Refusal> {
    if request.body.len() > limits::REQUEST_BODY_BYTES_MAX {
        let subject = format!("{} bytes", request.body.len());
        return Err(Refusal::about(Rule::Body, subject));
    }
    let header_bytes: usize = request
        .headers
        .iter()
        .map(|header| header.name.len() + header.value.reveal().len())
        .sum();
    if request.headers.len() > limits::REQUEST_HEADERS_MAX || header_bytes > limits::REQUEST_HEADER_BYTES_MAX
    {
        return Err(Refusal::about(
            Rule::Header,
            "the headers are too many or too large",
        ));
    }
    let hops_max = match request.class {
        Class::Probe => limits::REDIRECTS_MAX,
        _ => 0,
    };
    if request.redirects_max > hops_max {
        return Err(Refusal::about(Rule::Redirect, "this class follows no redirects"));
    }
    Ok(())
}
