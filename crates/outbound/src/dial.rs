//! From an endpoint to a connection: resolve, judge every address, connect to judged ones in turn, look at the other end
//! again. The only way to a stream in this crate.

use std::net::{IpAddr, SocketAddr};

use allswell_core::exchange::{End, Phase};
use allswell_core::limits;
use allswell_core::policy::Policy;
use allswell_core::refusal::{Refusal, Rule};
use allswell_core::target::Endpoint;
use tokio::time::timeout_at;
use url::Host;

use crate::proxy::{Proxy, ProxyMode};
use crate::watch::{Failure, Watch};
use crate::wire::{Found, Unresolved, Wire};

/// The addresses of an endpoint, all of them judged: one that is refused refuses all, since a name that leads to a good
/// and a bad address is an attack or a mistake, and must not work sometimes.
async fn addresses<W: Wire>(
    wire: &W,
    policy: &Policy,
    endpoint: &Endpoint,
    watch: &mut Watch,
) -> Result<Vec<IpAddr>, Failure> {
    let found = found(wire, endpoint, watch).await?;
    judge(wire, policy, endpoint, &found)?;
    Ok(found)
}

/// The addresses of an endpoint, not judged yet.
pub async fn found<W: Wire>(
    wire: &W,
    endpoint: &Endpoint,
    watch: &mut Watch,
) -> Result<Vec<IpAddr>, Failure> {
    match (endpoint.address(), endpoint.name()) {
        (Some(address), _) => Ok(vec![address]),
        (None, name) => {
            let name = name.unwrap_or_default();
            resolved(watch.within(Phase::Dns, None, wire.addresses(name)).await?)
        }
    }
}

/// Judges each address, and whether it is this very server.
pub fn judge<W: Wire>(
    wire: &W,
    policy: &Policy,
    endpoint: &Endpoint,
    addresses: &[IpAddr],
) -> Result<(), Refusal> {
    for address in addresses {
        policy.judge_address(*address, endpoint.name())?;
    }
    if endpoint.may_be_ourselves(policy)
        && let Some(ours) = addresses.iter().find(|address| wire.is_local(**address))
    {
        return Err(Refusal::about(
            Rule::Ourselves,
            format!("{ours} is this machine, and port {} is ours", endpoint.port()),
        ));
    }
    Ok(())
}

fn resolved(found: Result<Found, Unresolved>) -> Result<Vec<IpAddr>, Failure> {
    match found {
        Ok(found) if found.addresses.len() > limits::ADDRESSES_MAX => {
            let subject = format!("{} addresses", found.addresses.len());
            Err(Refusal::about(Rule::Answers, subject).into())
        }
        Ok(found) if found.aliases > limits::CNAME_DEPTH_MAX => {
            let subject = format!("{} aliases", found.aliases);
            Err(Refusal::about(Rule::Answers, subject).into())
        }
        Ok(found) if found.addresses.is_empty() => Err(Failure::new(End::NoAddress, "no address")),
        Ok(found) => Ok(found.addresses),
        Err(Unresolved::Nothing(why)) => Err(Failure::new(End::NoAddress, why)),
        Err(Unresolved::TimedOut) => Err(Failure::new(
            End::TimedOut {
                phase: Phase::Dns,
                status: None,
            },
            "no name server answered",
        )),
    }
}

/// A connection to the endpoint, by the proxy if there is one.
pub async fn connect<W: Wire>(
    wire: &W,
    policy: &Policy,
    proxy: Option<&Proxy>,
    endpoint: &Endpoint,
    watch: &mut Watch,
) -> Result<W::Stream, Failure> {
    let Some(proxy) = proxy else {
        let judged = addresses(wire, policy, endpoint, watch).await?;
        let sockets: Vec<SocketAddr> = judged
            .iter()
            .map(|ip| SocketAddr::new(*ip, endpoint.port()))
            .collect();
        let deadline = watch.connect_deadline();
        let (stream, peer) = watch
            .within(Phase::Connect, None, in_turn(wire, &sockets, deadline))
            .await??;
        judge_peer(policy, endpoint, &sockets, peer)?;
        watch.peer = Some(peer);
        return Ok(stream);
    };
    let tos = match proxy.mode {
        ProxyMode::Delegated => vec![endpoint.to_string()],
        ProxyMode::VettedIp => {
            let judged = addresses(wire, policy, endpoint, watch).await?;
            let socket = |ip: &IpAddr| SocketAddr::new(*ip, endpoint.port()).to_string();
            judged.iter().map(socket).collect()
        }
    };
    // Where the proxy is, is the operator's word: nothing to judge.
    let sockets = proxy_addresses(wire, proxy, watch).await?;
    let deadline = watch.connect_deadline();
    let tunnelled = tunnelled(wire, proxy, &sockets, &tos, deadline);
    let (stream, peer) = watch.within(Phase::Connect, None, tunnelled).await??;
    watch.peer = Some(peer);
    Ok(stream)
}

/// The first tunnel that stands, each over a connection of its own: who has two addresses may be reached at one of them.
async fn tunnelled<W: Wire>(
    wire: &W,
    proxy: &Proxy,
    sockets: &[SocketAddr],
    tos: &[String],
    deadline: tokio::time::Instant,
) -> Result<(W::Stream, SocketAddr), Failure> {
    let mut whys = Vec::new();
    let mut timed_out = true;
    for (at, to) in tos.iter().enumerate() {
        let one = async {
            let (mut stream, peer) = in_turn(wire, sockets, deadline).await?;
            Ok::<_, Failure>(proxy.tunnel(&mut stream, to).await.map(|()| (stream, peer)))
        };
        match timeout_at(Watch::share(deadline, tos.len() - at), one).await {
            Ok(Ok(Ok(connection))) => return Ok(connection),
            // Without the proxy there is no way to the others either.
            Ok(Err(failure)) => return Err(failure),
            Ok(Ok(Err(why))) => {
                timed_out = false;
                whys.push(format!("{to}: {why}"));
            }
            Err(_) => whys.push(format!("{to}: no answer through the proxy")),
        }
    }
    Err(Failure::new(unreached(timed_out), whys.join("; ")))
}

/// How it ends if none of several stood.
const fn unreached(timed_out: bool) -> End {
    if timed_out {
        End::TimedOut {
            phase: Phase::Connect,
            status: None,
        }
    } else {
        End::NoConnection
    }
}

async fn proxy_addresses<W: Wire>(
    wire: &W,
    proxy: &Proxy,
    watch: &mut Watch,
) -> Result<Vec<SocketAddr>, Failure> {
    let ips = match &proxy.host {
        Host::Ipv4(v4) => vec![IpAddr::V4(*v4)],
        Host::Ipv6(v6) => vec![IpAddr::V6(*v6)],
        Host::Domain(name) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            let found = watch.within(Phase::Dns, None, wire.addresses(name)).await?;
            resolved(found).map_err(|failure| {
                Failure::new(End::NoConnection, format!("the proxy: {}", failure.detail))
            })?
        }
    };
    Ok(ips
        .into_iter()
        .map(|ip| SocketAddr::new(ip, proxy.port))
        .collect())
}

/// The first connection that stands. Each address gets its part of the time that is left, so that one that swallows
/// everything does not use it up.
async fn in_turn<W: Wire>(
    wire: &W,
    sockets: &[SocketAddr],
    deadline: tokio::time::Instant,
) -> Result<(W::Stream, SocketAddr), Failure> {
    let mut whys = Vec::new();
    let mut timed_out = true;
    for (at, socket) in sockets.iter().enumerate() {
        let until = Watch::share(deadline, sockets.len() - at);
        match timeout_at(until, wire.connect(*socket)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => {
                timed_out = false;
                whys.push(format!("{socket}: {error}"));
            }
            Err(_) => whys.push(format!("{socket}: no answer")),
        }
    }
    Err(Failure::new(unreached(timed_out), whys.join("; ")))
}

/// The other end must be one of the addresses asked for, and is judged once more: a rule of the host's firewall, or a
/// mistake of ours, may have led elsewhere.
fn judge_peer(
    policy: &Policy,
    endpoint: &Endpoint,
    asked: &[SocketAddr],
    peer: SocketAddr,
) -> Result<(), Failure> {
    let ip = peer.ip().to_canonical();
    let known = asked
        .iter()
        .any(|socket| socket.ip().to_canonical() == ip && socket.port() == peer.port());
    if !known {
        return Err(Refusal::about(Rule::Peer, format!("it reached {peer}")).into());
    }
    Ok(policy.judge_address(ip, endpoint.name())?)
}
