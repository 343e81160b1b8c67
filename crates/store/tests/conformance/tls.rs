//! TLS towards PostgreSQL, with certificates made here: who is believed, and who is not.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use allswell_store::{Error, Place, Server, Store};
use allswell_testkit::{Cluster, Options};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

use crate::kit::{NOW, run};

/// An authority, what it signed, and clusters that show it.
struct World {
    dir: tempfile::TempDir,
    right: Cluster,
    expired: Cluster,
    other_name: Cluster,
    plain: &'static Cluster,
}

impl World {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let (ours, theirs) = (authority("ours"), authority("another"));
        std::fs::write(dir.path().join("ours.pem"), ours.pem()).expect("a file");
        std::fs::write(dir.path().join("theirs.pem"), theirs.pem()).expect("a file");
        let client = signed(&ours, "postgres", false);
        std::fs::write(dir.path().join("client.pem"), &client.0).expect("a file");
        std::fs::write(dir.path().join("client.key"), &client.1).expect("a file");
        let roots = ours.pem();
        World {
            right: cluster(signed(&ours, "localhost", false), &roots),
            expired: cluster(signed(&ours, "localhost", true), &roots),
            other_name: cluster(signed(&ours, "db.example.org", false), &roots),
            plain: Cluster::shared(),
            dir,
        }
    })
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new([]).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}

/// Certificate and key, PEM.
fn signed(by: &CertifiedIssuer<'static, KeyPair>, name: &str, expired: bool) -> (String, String) {
    let mut params = CertificateParams::new([name.to_owned()]).expect("parameters");
    params.distinguished_name.push(DnType::CommonName, name);
    if expired {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    }
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, by).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}

/// A cluster that takes TLS alone, and wants a certificate of the user `postgres` for the database `template1`.
fn cluster((certificate, key): (String, String), roots: &str) -> Cluster {
    Cluster::start(Options {
        settings: vec![
            "ssl = on".to_owned(),
            "ssl_cert_file = 'server.pem'".to_owned(),
            "ssl_key_file = 'server.key'".to_owned(),
            "ssl_ca_file = 'roots.pem'".to_owned(),
        ],
        access: Some(vec![
            "local all all trust".to_owned(),
            "hostssl certified all 127.0.0.1/32 cert".to_owned(),
            "hostssl all all 127.0.0.1/32 trust".to_owned(),
        ]),
        files: vec![
            ("server.pem".to_owned(), certificate),
            ("server.key".to_owned(), key),
            ("roots.pem".to_owned(), roots.to_owned()),
        ],
        durable: false,
    })
}

async fn open(cluster: &Cluster, database: &str, parameters: &str) -> Result<(), Error> {
    // By name, since that is what a certificate is for.
    let url = cluster.url(database).replace("127.0.0.1", "localhost");
    let server = Server::from_url(&format!("{url}?{parameters}")).expect("a URL");
    Store::open(&Place::Postgres(Box::new(server)), NOW)
        .await
        .map(drop)
}

fn root(path: &Path) -> String {
    format!("sslrootcert={}", path.display())
}

fn refused(result: Result<(), Error>, word: &str) {
    let Err(Error::Unavailable(why)) = result else {
        panic!("{result:?}")
    };
    assert!(why.to_lowercase().contains(&word.to_lowercase()), "{word}: {why}");
}

#[test]
fn the_right_certificate_of_a_known_authority_is_believed() {
    run(async {
        let world = world();
        let name = world.right.database().await;
        let root = root(&world.path("ours.pem"));
        for mode in ["verify-full", "verify-ca", "require", "prefer"] {
            let parameters = format!("sslmode={mode}&{root}");
            let opened = open(&world.right, &name, &parameters).await;
            opened.unwrap_or_else(|error| panic!("{mode}: {error}"));
        }
        // The server takes nothing else.
        refused(open(&world.right, &name, "sslmode=disable").await, "pg_hba");
    });
}

#[test]
fn the_socket_of_a_server_is_used_without_tls() {
    run(async {
        let world = world();
        let name = world.right.database().await;
        let url = world.right.socket_url(&name);
        let (dir, port) = (world.right.socket_dir.display(), world.right.port);
        for url in [
            url.clone(),
            format!("{url}?sslmode=verify-full"),
            format!("postgres:///{name}?host={dir}&port={port}&user=postgres"),
        ] {
            let server = Server::from_url(&url).expect("a URL");
            let opened = Store::open(&Place::Postgres(Box::new(server)), NOW).await;
            opened.unwrap_or_else(|error| panic!("{url}: {error}"));
        }
    });
}

#[test]
fn a_certificate_of_an_unknown_authority_is_not_believed() {
    run(async {
        let world = world();
        for mode in ["verify-full", "verify-ca"] {
            let theirs = format!("sslmode={mode}&{}", root(&world.path("theirs.pem")));
            refused(open(&world.right, "postgres", &theirs).await, "UnknownIssuer");
            // Nor does the system know it.
            refused(
                open(&world.right, "postgres", &format!("sslmode={mode}")).await,
                "",
            );
        }
    });
}

#[test]
fn an_expired_certificate_is_not_believed() {
    run(async {
        let world = world();
        for mode in ["verify-full", "verify-ca"] {
            let parameters = format!("sslmode={mode}&{}", root(&world.path("ours.pem")));
            refused(open(&world.expired, "postgres", &parameters).await, "expired");
        }
    });
}

#[test]
fn a_certificate_for_another_name_is_believed_only_where_names_do_not_matter() {
    run(async {
        let world = world();
        let name = world.other_name.database().await;
        let root = root(&world.path("ours.pem"));
        let full = open(&world.other_name, &name, &format!("sslmode=verify-full&{root}")).await;
        refused(full, "name");
        let any = open(&world.other_name, &name, &format!("sslmode=verify-ca&{root}")).await;
        any.expect("the authority is known");
    });
}

#[test]
fn a_server_without_tls_is_refused_by_all_modes_that_want_it() {
    run(async {
        let world = world();
        let root = root(&world.path("ours.pem"));
        for mode in ["verify-full", "verify-ca", "require"] {
            let plain = open(world.plain, "postgres", &format!("sslmode={mode}&{root}")).await;
            refused(plain, "TLS");
        }
        let name = world.plain.database().await;
        for mode in ["prefer", "disable"] {
            let plain = open(world.plain, &name, &format!("sslmode={mode}")).await;
            plain.expect("they take what there is");
        }
        world.plain.remove(&name).await;
    });
}

#[test]
fn a_server_that_asks_for_a_certificate_gets_ours() {
    run(async {
        let world = world();
        world
            .right
            .run("postgres", "drop database if exists certified")
            .await;
        world.right.run("postgres", "create database certified").await;
        let root = root(&world.path("ours.pem"));
        let without = open(&world.right, "certified", &format!("sslmode=verify-full&{root}")).await;
        refused(without, "certificate");
        let (cert, key) = (world.path("client.pem"), world.path("client.key"));
        let parameters = format!(
            "sslmode=verify-full&{root}&sslcert={}&sslkey={}",
            cert.display(),
            key.display()
        );
        let with = open(&world.right, "certified", &parameters).await;
        with.expect("it is the right one");
        let half = open(
            &world.right,
            "certified",
            &format!("{root}&sslcert={}", cert.display()),
        )
        .await;
        refused(half, "sslkey");
    });
}

#[test]
fn files_that_are_not_there_or_hold_nothing_are_named() {
    run(async {
        let world = world();
        std::fs::write(world.path("empty.pem"), "").expect("a file");
        for name in ["missing.pem", "empty.pem"] {
            let parameters = format!("sslmode=verify-full&{}", root(&world.path(name)));
            refused(open(&world.right, "postgres", &parameters).await, name);
        }
    });
}
