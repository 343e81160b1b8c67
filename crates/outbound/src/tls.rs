//! TLS towards others: rustls with ring, 1.2 or newer, certificates and names always verified.

use std::fmt;
use std::sync::Arc;

use allswell_core::exchange::{End, Phase, cut, escaped_line};
use allswell_core::limits;
use allswell_core::target::Endpoint;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::answer::chain;
use crate::watch::{Failure, Watch};

/// The certificates that an operator adds cannot be used.
#[derive(Debug)]
pub struct TlsError(String);

impl TlsError {
    pub(crate) fn new(why: String) -> Self {
        TlsError(why)
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

/// The configuration of all connections: the authorities of the system, or, where it has none, those that come with
/// this program; and `extra_pem` beside them.
pub fn config(extra_pem: Option<&[u8]>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    if let Some(pem) = extra_pem {
        let mut added = 0;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate =
                certificate.map_err(|error| TlsError(format!("this is no certificate in PEM: {error}")))?;
            roots
                .add(certificate)
                .map_err(|error| TlsError(format!("a certificate cannot be used: {error}")))?;
            added += 1;
        }
        if added == 0 {
            return Err(TlsError("there is no certificate in it".to_owned()));
        }
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError(format!("TLS cannot be used: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Nothing of one call is remembered for the next.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The same for what is no HTTP: a server that insists on a protocol of its own would end the handshake otherwise.
pub fn without_http(config: &ClientConfig) -> Arc<ClientConfig> {
    let mut config = config.clone();
    config.alpn_protocols.clear();
    Arc::new(config)
}

/// Certificates bear whatever was written into them, and errors repeat it.
fn why(text: &str) -> String {
    cut(&escaped_line(text.as_bytes()), limits::TLS_DETAIL_CHARS_MAX)
}

/// Shakes hands with who must be `endpoint`; gives the version as well.
#[expect(clippy::disallowed_methods, reason = "this is the home of TLS to others")]
pub async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    config: &Arc<ClientConfig>,
    endpoint: &Endpoint,
    stream: S,
    watch: &mut Watch,
) -> Result<(TlsStream<S>, &'static str), Failure> {
    let name = match (endpoint.name(), endpoint.address()) {
        (Some(name), _) => ServerName::try_from(name.to_owned()).ok(),
        (None, address) => address.map(ServerName::from),
    };
    let name = name.ok_or_else(|| Failure::new(End::NoTls, "no certificate can bear this name"))?;
    let handshake = TlsConnector::from(config.clone()).connect(name, stream);
    let stream = watch
        .within(Phase::Tls, None, handshake)
        .await?
        .map_err(|error| Failure::new(End::NoTls, why(&chain(&error))))?;
    let version = match stream.get_ref().1.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
        _ => "TLS 1.2",
    };
    Ok((stream, version))
}
