//! A canary goes into every folder where a secret may be written, rightly or by mistake, and must come out of
//! none of the ways in which a configuration is printed.

use super::*;
use crate::config::settings::SETTINGS;
use crate::config::{config_check, config_show};

const CANARY: &str = "c4n4ry";

fn everything_printed(result: Result<Loaded, ConfigErrors>) -> String {
    match result {
        Ok(loaded) => {
            let shown = config_show(&loaded, false) + &config_show(&loaded, true) + &config_check(&loaded);
            format!("{shown}{loaded:?}{:#?}", loaded.config)
        }
        Err(errors) => format!("{errors}{errors:?}{errors:#?}"),
    }
}

fn assert_hidden(what: &str, result: Result<Loaded, ConfigErrors>) {
    let printed = everything_printed(result);
    assert!(!printed.to_lowercase().contains(CANARY), "{what}\n{printed}");
}

#[test]
fn a_secret_is_printed_nowhere() {
    let table = [
        "[keys]\nring = 'c4n4ry'",
        "[keys]\nring = '''\nc4n4ry\n'''",
        "[keys]\nring = c4n4ry",
        "[keys]\nring = 'c4n4ry",
        "[keys]\nring = \"c4n4ry\\q\"",
        "[keys]\nring = ['c4n4ry']",
        "[keys]\nring = { a = 'c4n4ry' }",
        "[keys]\nrings = 'c4n4ry'",
        "[keys]\nring 'c4n4ry'",
        "[keys]\nring = 'x' c4n4ry",
        "[keys]\nring = 'c4n4ry'\nring = 'c4n4ry'",
        "[keys]\nring = 'c4n4ry'\nring_file = 'x'",
        "ring = 'c4n4ry'",
        "keys = 'c4n4ry'",
        "[key]\nring = 'c4n4ry'",
        "[database]\nurl = 'c4n4ry'",
        "[database]\nurl = 'postgres://u:c4n4ry@h/d'",
        "[database]\nurl = 'postgres://u@h/d?password=c4n4ry'",
        "[database]\nurl = 'mysql://u:c4n4ry@h/d'",
        "[database]\nurl = 'sqlite://u:c4n4ry@h/d'",
        "[database]\nurl = ['postgres://u:c4n4ry@h/d']",
        "[database]\nurl = 'sqlite:///u:c4n4ry@h/d?password=c4n4ry'",
        "[database]\nuri = 'postgres://u:c4n4ry@h/d'",
    ];
    for text in table {
        assert_hidden(text, Folder::with_config(text).load(&[]));
    }
}

#[test]
fn a_secret_of_the_environment_is_printed_nowhere() {
    let folder = Folder::new();
    for name in [
        "ALLSWELL_KEYS_RING",
        "ALLSWELL_DATABASE_URL",
        "ALLSWELL_KEY_RING",
        "ALLSWELL_DATABASE_PASSWORD",
    ] {
        for value in [
            CANARY.to_owned(),
            format!("postgres://u:{CANARY}@h/d"),
            format!("sqlite::{CANARY}"),
        ] {
            assert_hidden(name, folder.load(&[(name, &value)]));
        }
    }
    let both = [("ALLSWELL_KEYS_RING", CANARY), ("ALLSWELL_KEYS_RING_FILE", "x")];
    assert_hidden("both", folder.load(&both));
}

#[test]
fn what_a_secret_file_holds_is_printed_nowhere_and_its_name_is() {
    let canary_not_utf8 = [CANARY.as_bytes(), b"\xff"].concat();
    let too_large = CANARY.repeat(20_000);
    let cases: [(&[u8], &str); 5] = [
        (CANARY.as_bytes(), "cannot be used: a text (not shown) was given"),
        (b"postgres://u:c4n4ry@h", "the name of the database is missing"),
        (&canary_not_utf8, "is not UTF-8 text"),
        (too_large.as_bytes(), "is larger than 65536 bytes"),
        (b"\n", "is empty"),
    ];
    for (content, expected) in cases {
        let folder = Folder::new();
        let path = folder.write("secret", content);
        let result = folder.load(&[("ALLSWELL_DATABASE_URL_FILE", &path)]);
        let printed = everything_printed(result);
        assert!(printed.contains(&path) && printed.contains(expected), "{printed}");
        assert!(!printed.contains(CANARY), "{printed}");
    }
    let refusal = Folder::new().refusal(&[("ALLSWELL_DATABASE_URL_FILE", "/nonexistent/secret")]);
    let expected = "ALLSWELL_DATABASE_URL_FILE: database.url: the file /nonexistent/secret cannot be read: ";
    assert!(refusal.contains(expected), "{refusal}");
}

#[test]
fn every_secret_can_be_given_by_file_and_nothing_else_can() {
    for setting in SETTINGS {
        assert_eq!(
            setting.file_name().is_some(),
            setting.kind.is_secret(),
            "{}",
            setting.name
        );
    }
    assert_eq!(
        SETTINGS.iter().filter(|setting| setting.kind.is_secret()).count(),
        6
    );
}

#[test]
fn a_secret_that_everybody_can_read_is_warned_of() {
    let folder = Folder::with_config("[keys]\nring = 'c4n4ry'");
    let warned = |loaded: &Loaded, name: &str| {
        loaded
            .warnings
            .iter()
            .any(|warning| warning.contains(name) && warning.contains("every user"))
    };
    assert!(!warned(&folder.loaded(&[]), "allswell.toml"));
    folder.mode_set("allswell.toml", 0o644);
    assert!(warned(&folder.loaded(&[]), "allswell.toml"));

    let url = folder.write("url", "sqlite:a.db");
    let ring = folder.write("ring", CANARY);
    let variables = [
        ("ALLSWELL_DATABASE_URL_FILE", url.as_str()),
        ("ALLSWELL_KEYS_RING_FILE", ring.as_str()),
    ];
    let loaded = folder.loaded(&variables);
    assert!(!warned(&loaded, &url) && !warned(&loaded, &ring));
    folder.mode_set("url", 0o604);
    folder.mode_set("ring", 0o604);
    let loaded = folder.loaded(&variables);
    assert!(
        warned(&loaded, &url) && warned(&loaded, &ring),
        "{:?}",
        loaded.warnings
    );

    // Without a secret in it, the configuration may be read by all.
    let folder = Folder::with_config("[keys]\nring = ''");
    folder.mode_set("allswell.toml", 0o644);
    assert_eq!(folder.loaded(&[]).warnings, Vec::<String>::new());
}

#[test]
fn a_password_in_the_public_address_is_not_repeated() {
    for url in [
        "https://admin:hunter2-\u{e9}@mon.example.org",
        "https://admin:hun/ter2@x@mon.example.org/?a",
        "admin:hunter2@mon.example.org",
    ] {
        let error = Folder::with_config(format!("site_url = '{url}'"))
            .load(&[])
            .expect_err("refused")
            .to_string();
        assert!(error.contains("***@mon.example.org"), "{error}");
        assert!(!error.contains("hun") && !error.contains("admin"), "{error}");
    }
}
