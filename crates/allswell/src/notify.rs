//! Words to systemd: that we are ready, that we live, that we end. A datagram to the socket it names (sd_notify(3)); where
//! it names none, nothing happens. Children never hear of the socket: we start none.

use std::os::unix::net::UnixDatagram;

/// The socket; a name that begins with @ is one without a file.
const SOCKET: &str = "NOTIFY_SOCKET";
/// Set where systemd wants to hear that we live, and starts us again when it does not.
const WATCHDOG: &str = "WATCHDOG_USEC";

/// Pings are taken from now on.
pub fn ready() {
    say("READY=1");
}

/// The end has begun.
pub fn stopping() {
    say("STOPPING=1");
}

/// A round of our own check came back.
#[expect(
    clippy::disallowed_methods,
    reason = "what systemd says to its services is no setting of ours"
)]
pub fn lives() {
    if std::env::var_os(WATCHDOG).is_some() {
        say("WATCHDOG=1");
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "what systemd says to its services is no setting of ours"
)]
fn say(word: &str) {
    let Some(socket) = std::env::var_os(SOCKET).filter(|name| !name.is_empty()) else {
        return;
    };
    if let Err(error) = send(&socket, word) {
        tracing::warn!("systemd did not hear {word}: {error}");
    }
}

fn send(socket: &std::ffi::OsStr, word: &str) -> std::io::Result<()> {
    let datagram = UnixDatagram::unbound()?;
    #[cfg(target_os = "linux")]
    if let Some(name) = socket.as_encoded_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::SocketAddr;
        let address = SocketAddr::from_abstract_name(name)?;
        return datagram.send_to_addr(word.as_bytes(), &address).map(drop);
    }
    datagram.send_to(word.as_bytes(), socket).map(drop)
}
