//! TLS towards others: rustls with ring, 1.2 or newer, certificates and names always verified.

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

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
