//! TLS: who is believed, and who is not.

use std::sync::Arc;

use allswell_core::exchange::{End, ErrorClass, Outcome, Phase};
use allswell_core::limits;
use allswell_core::policy::Policy;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsAcceptor;

use crate::world::{World, get, request};

/// The certificate of an authority of our own, PEM.
fn pem(params: CertificateParams, key: &KeyPair) -> Vec<u8> {
    params.self_signed(key).unwrap().pem().into_bytes()
}

/// Whoever has a certificate for `names`, and the authority that signed it.
pub fn acceptor(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (TlsAcceptor, Vec<u8>) {
    let mut ca = CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca_pem = pem(ca.clone(), &ca_key);
    let issuer = Issuer::new(ca, ca_key);
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), ca_pem)
}

/// A world of TLS servers with a certificate for `names`, and the authority that signed it.
fn server(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (World, Vec<u8>) {
    let (acceptor, ca_pem) = acceptor(names, change);
    let world = World::new(move |_, stream| {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            let name = stream.get_ref().1.server_name().unwrap_or("none").to_owned();
            let Ok(_) = request(&mut stream).await else { return };
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        });
    })
    .addresses("hooks.example.com", &["1.1.1.1"]);
    (world, ca_pem)
}

async fn call(world: &World, ca: Option<Vec<u8>>, url: &str) -> Outcome {
    world
        .client_with(Policy::default(), None, ca)
        .send(get(url))
        .await
}

#[tokio::test]
async fn a_known_authority_and_the_right_name_are_believed() {
    let (world, ca) = server(&["hooks.example.com", "1.1.1.1"], |_| {});
    let outcome = call(&world, Some(ca.clone()), "https://hooks.example.com/").await;
    let End::Answered(answer) = &outcome.end else {
        panic!("{outcome:?}")
    };
    assert_eq!(
        answer.excerpt, b"hooks.example.com",
        "the name of the URL is what the server is asked for"
    );
    assert!(outcome.phases.tls.is_some());
    let outcome = call(&world, Some(ca), "https://1.1.1.1/").await;
    assert_eq!(outcome.error_class(), None, "{outcome:?}");
}

#[tokio::test]
async fn an_unknown_authority_a_wrong_name_and_an_old_certificate_are_not() {
    let (world, _) = server(&["hooks.example.com"], |_| {});
    let (wrong, wrong_ca) = server(&["other.example.com"], |_| {});
    let (old, old_ca) = server(&["hooks.example.com"], |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    let foreign = {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        pem(params, &key)
    };
    let table = [
        (&world, None),
        (&world, Some(foreign)),
        (&wrong, Some(wrong_ca)),
        (&old, Some(old_ca)),
    ];
    for (world, ca) in table {
        let outcome = call(world, ca, "https://hooks.example.com/").await;
        assert_eq!(outcome.end, End::NoTls, "{outcome:?}");
        assert_eq!(outcome.error_class(), Some(ErrorClass::Tls));
        assert!(!outcome.detail.is_empty());
    }
}

#[tokio::test]
async fn the_names_of_a_certificate_are_told_within_bounds() {
    let many: Vec<String> = (0..300)
        .map(|at| format!("a-name-that-is-long-{at}.example.com"))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let (long, long_ca) = server(&many, |_| {});
    let hostile = "\u{1b}[2J\n.example.com".to_owned();
    let (odd, odd_ca) = server(&[], |params| {
        params
            .subject_alt_names
            .push(SanType::DnsName(hostile.try_into().unwrap()));
    });
    for (world, ca) in [(&long, long_ca), (&odd, odd_ca)] {
        let outcome = call(world, Some(ca), "https://hooks.example.com/").await;
        assert_eq!(outcome.end, End::NoTls);
        assert!(
            outcome.detail.contains("certificate") && !outcome.detail.chars().any(char::is_control),
            "{outcome:?}"
        );
        assert!(
            outcome.detail.chars().count() <= limits::TLS_DETAIL_CHARS_MAX + 3,
            "{outcome:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_never_ends_has_five_seconds() {
    let world = World::new(|_, stream| {
        tokio::spawn(async move {
            let _held = stream;
            std::future::pending::<()>().await;
        });
    });
    let outcome = call(&world, None, "https://1.1.1.1/").await;
    let phase = Phase::Tls;
    assert_eq!(outcome.end, End::TimedOut { phase, status: None });
    assert_eq!(outcome.phases.total.as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_server_without_tls_gets_nothing_in_the_clear() {
    let world = World::answering("HTTP/1.1 200 OK\r\n\r\n");
    let outcome = call(&world, None, "https://1.1.1.1/").await;
    assert!(
        matches!(
            outcome.end,
            End::NoTls
                | End::TimedOut {
                    phase: Phase::Tls,
                    ..
                }
        ),
        "{outcome:?}"
    );
}

#[test]
fn certificates_that_are_none_are_refused_at_the_start() {
    let world = World::answering("");
    for bad in [
        "",
        "hello",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        let settings = allswell_outbound::Settings {
            policies: Default::default(),
            nameservers: Vec::new(),
            extra_ca_pem: Some(bad.into()),
            proxy: None,
        };
        assert!(
            allswell_outbound::Client::with_wire(world.clone(), settings).is_err(),
            "{bad:?}"
        );
    }
}
