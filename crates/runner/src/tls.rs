//! TLS as the system trusts it: rustls with ring, and the system's root certificates (`SSL_CERT_FILE` and
//! `SSL_CERT_DIR` name others).

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};

/// Reads the roots anew each time: a job may run for days, and certificates change. Takes a few milliseconds.
///
/// # Errors
///
/// A sentence.
pub(crate) fn config() -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    // Some of the system's may be unreadable to us; that none is left is found below.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(
            "this system has no root certificates (Debian's package ca-certificates), and SSL_CERT_FILE names none"
                .to_owned(),
        );
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
