//! A proxy that the operator names; one in the environment is never looked at.
//!
//! Either we resolve and judge as ever and ask the proxy for the address (`vetted-ip`), or the proxy gets the name and
//! is responsible for where it leads (`delegated`). There is no default between the two: the second gives the policy of
//! addresses away, and that must be said. Everything goes through a tunnel (CONNECT), also plain http.

use allswell_core::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use url::{Host, Url};

/// Who judges the addresses.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ProxyMode {
    /// We do; the proxy is asked for an address.
    VettedIp,
    /// The proxy does; it is asked for the name.
    Delegated,
}

/// A proxy.
#[derive(Clone, Debug)]
pub struct Proxy {
    pub(crate) host: Host<String>,
    pub(crate) port: u16,
    /// The value of `Proxy-Authorization`.
    authorization: Option<Secret<String>>,
    pub(crate) mode: ProxyMode,
}

const ANSWER_BYTES_MAX: usize = 8_192;

impl Proxy {
    /// Reads `http://USER:PASSWORD@HOST:PORT`; user and password may be missing.
    ///
    /// # Errors
    /// A sentence without its full stop that does not repeat the text.
    pub fn parse(text: &str, mode: ProxyMode) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("this is not a URL: {error}"))?;
        let plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if url.scheme() != "http" || !plain {
            return Err("a proxy is given as http://HOST:PORT".to_owned());
        }
        let host = url.host().ok_or("the URL has no host")?.to_owned();
        let port = url.port_or_known_default().ok_or("the URL has no port")?;
        let authorization = (!url.username().is_empty()).then(|| {
            let decoded = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
            let (user, password) = (
                decoded(url.username()),
                decoded(url.password().unwrap_or_default()),
            );
            let pair = STANDARD.encode([user, b":".to_vec(), password].concat());
            Secret::new(format!("Basic {pair}"))
        });
        Ok(Proxy {
            host,
            port,
            authorization,
            mode,
        })
    }

    /// Who judges the addresses.
    pub const fn mode(&self) -> ProxyMode {
        self.mode
    }

    /// Whether it judges addresses in our place.
    pub(crate) fn is_responsible(&self) -> bool {
        self.mode == ProxyMode::Delegated
    }

    /// Asks for a tunnel to `HOST:PORT`.
    ///
    /// # Errors
    /// What went wrong, for administrators.
    pub(crate) async fn tunnel<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        to: &str,
    ) -> Result<(), String> {
        let mut head = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
        if let Some(authorization) = &self.authorization {
            head.push_str("Proxy-Authorization: ");
            head.push_str(authorization.reveal());
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        let broken = |error: std::io::Error| format!("the proxy: {error}");
        stream.write_all(head.as_bytes()).await.map_err(broken)?;
        let mut answer = Vec::new();
        // Byte by byte, since what follows the head is not ours to read.
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() == ANSWER_BYTES_MAX {
                return Err("the proxy's answer is too large".to_owned());
            }
            answer.push(stream.read_u8().await.map_err(broken)?);
        }
        let status = answer.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        if !answer.starts_with(b"HTTP/1.") || status.first() != Some(&b'2') || status.len() != 3 {
            return Err(format!(
                "the proxy refused the tunnel with status {}",
                String::from_utf8_lossy(status.get(..3).unwrap_or_default()).escape_debug()
            ));
        }
        Ok(())
    }
}
