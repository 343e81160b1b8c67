//! TLS towards the database: rustls with ring, and as strict as `sslmode` says.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::server::{Server, Tls, TlsMode};
use crate::{Error, Result};

/// What makes TLS of a connection.
#[derive(Clone)]
pub(super) struct Connector(MakeRustlsConnect);

impl<S> MakeTlsConnect<S> for Connector
where
    MakeRustlsConnect: MakeTlsConnect<S>,
{
    type Stream = <MakeRustlsConnect as MakeTlsConnect<S>>::Stream;
    type TlsConnect = <MakeRustlsConnect as MakeTlsConnect<S>>::TlsConnect;
    type Error = <MakeRustlsConnect as MakeTlsConnect<S>>::Error;

    fn make_tls_connect(&mut self, name: &str) -> std::result::Result<Self::TlsConnect, Self::Error> {
        // The driver asks for a socket too, which has no name, and then makes no use of what it gets.
        let name = if name.is_empty() { "localhost" } else { name };
        self.0.make_tls_connect(name)
    }
}

/// What makes TLS of connections to this server. Reads the files; nothing is read when TLS is off.
pub(super) fn connector(server: &Server) -> Result<Connector> {
    let provider = Arc::new(ring::default_provider());
    let tls = &server.tls;
    let mode = server.tls_mode();
    let verifier: Arc<dyn ServerCertVerifier> = match mode {
        TlsMode::VerifyFull | TlsMode::VerifyCa => {
            let full = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(tls)?), provider.clone())
                .build()
                .map_err(|error| unusable("the root certificates", &error))?;
            if mode == TlsMode::VerifyFull {
                full
            } else {
                Arc::new(AnyName(full))
            }
        }
        TlsMode::Disable | TlsMode::Prefer | TlsMode::Require => Arc::new(Anybody(provider.clone())),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable("TLS", &error))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let config = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) if mode != TlsMode::Disable => config
            .with_client_auth_cert(certificates(cert)?, private_key(key)?)
            .map_err(|error| unusable("database.sslcert with database.sslkey", &error))?,
        (None, None) | (Some(_), Some(_)) => config.with_no_client_auth(),
        _ => {
            return Err(Error::Unavailable(
                "database.sslcert and database.sslkey belong together; one of them is missing".to_owned(),
            ));
        }
    };
    Ok(Connector(MakeRustlsConnect::new(config)))
}

impl Server {
    /// Reads the certificates and the key that its settings name, as the first connection does.
    ///
    /// # Errors
    /// [`Error::Unavailable`] with the file that cannot be used.
    pub fn tls_files(&self) -> Result<()> {
        connector(self).map(drop)
    }
}

fn unusable(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::Unavailable(format!("{what}: {error}"))
}

fn roots(tls: &Tls) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match &tls.root {
        Some(path) => {
            for certificate in certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|error| unusable(&path.display().to_string(), &error))?;
            }
        }
        None => {
            // Some of the system's may be unreadable to us; that none is left is found below.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(Error::Unavailable(
            "no root certificate is there to check the database server with; name a file in database.sslrootcert"
                .to_owned(),
        ));
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let shown = path.display().to_string();
    let all: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(&shown, &error))?;
    if all.is_empty() {
        return Err(unusable(&shown, &"no certificate is in it"));
    }
    Ok(all)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| unusable(&path.display().to_string(), &error))
}

/// `verify-ca`: the authority is known, the name is not looked at.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        // The name is compared last, so a wrong name means that all else was right.
        match self
            .0
            .verify_server_cert(end_entity, intermediates, name, ocsp, now)
        {
            Err(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// `prefer` and `require`: encrypted, to whoever answers.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
