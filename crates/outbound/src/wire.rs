//! What the door asks of the world: addresses of a name, a connection to an address, whether an address is ours.
//!
//! A seam, so that tests can tell where a connection would have gone without there being such an address. Everything
//! that judges lies above it.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::resolve::Resolver;

/// What a name server said of a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// All addresses, of both families, in the order in which they should be tried.
    pub addresses: Vec<IpAddr>,
    /// Names that were passed on the way to them.
    pub aliases: usize,
}

/// Why a name has no addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// It has none, or the name server refused; for administrators.
    Nothing(String),
    /// Nobody answered in time.
    TimedOut,
}

/// The world.
pub trait Wire: Send + Sync + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// All addresses of a name, which has no final dot.
    fn addresses(&self, name: &str) -> impl Future<Output = Result<Found, Unresolved>> + Send;

    /// A connection, and the address it really came out at.
    fn connect(&self, to: SocketAddr) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;

    /// Whether an address belongs to this machine.
    fn is_local(&self, address: IpAddr) -> bool;
}

/// The real world.
pub struct System {
    resolver: Resolver,
}

impl System {
    /// Asks these name servers.
    pub(crate) fn new(nameservers: &[SocketAddr]) -> Result<Self, String> {
        Ok(System {
            resolver: Resolver::new(nameservers)?,
        })
    }
}

impl Wire for System {
    type Stream = TcpStream;

    async fn addresses(&self, name: &str) -> Result<Found, Unresolved> {
        self.resolver.addresses(name).await
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the home of connections outward"
    )]
    async fn connect(&self, to: SocketAddr) -> io::Result<(TcpStream, SocketAddr)> {
        let stream = TcpStream::connect(to).await?;
        // A request is one write; waiting for more to send with it gains nothing.
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr()?;
        Ok((stream, peer))
    }

    /// By asking the system for a socket there, which it gives for addresses of this machine alone. Where it gives
    /// them for all (`net.ipv4.ip_nonlocal_bind`), all are taken for ours: calls to a port of ours are then refused.
    fn is_local(&self, address: IpAddr) -> bool {
        address.is_unspecified() || address.is_loopback() || std::net::UdpSocket::bind((address, 0)).is_ok()
    }
}
