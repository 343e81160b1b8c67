//! What flags, environment and file mean together.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use clap::Parser;

use super::settings::{Layer, Settings, VARIABLES};
use crate::cli::{Arguments, Command};
use crate::config::Config;

const ID: &str = "5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a70";

fn flags(text: &str) -> Layer {
    let typed = format!("allswell run {text} -- true");
    match Arguments::parse_from(typed.split_whitespace()).command {
        Command::Run(arguments) => Layer::of_flags(arguments.flags),
        _ => panic!("{typed} is no run"),
    }
}

fn variables(given: &[(&str, &str)]) -> BTreeMap<OsString, OsString> {
    given
        .iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect()
}

fn read(typed: &str, given: &[(&str, &str)], file: Option<&Path>) -> (Result<Settings, String>, Vec<String>) {
    Settings::load(flags(typed), file, &variables(given))
}

/// Where the reports go, with the name of the check and without the server.
fn address(typed: &str, given: &[(&str, &str)]) -> String {
    let (settings, complaints) = read(typed, given, None);
    assert_eq!(complaints, [""; 0]);
    settings.unwrap().address.revealed()
}

#[test]
fn a_check_is_named_by_id_by_slug_or_by_a_whole_address() {
    let server = ("ALLSWELL_RUN_SERVER", "https://up.example.org/ping/");
    let key = ("ALLSWELL_RUN_PING_KEY", "Key_1");
    let by_id = format!("https://up.example.org/ping/{ID}");
    assert_eq!(
        address(&format!("--uuid {}", ID.to_uppercase()), &[server]),
        by_id
    );
    assert_eq!(
        address("--slug backup", &[server, key]),
        "https://up.example.org/ping/Key_1/backup"
    );
    assert_eq!(
        address("--server https://hc-ping.com --slug a --ping-key k", &[]),
        "https://hc-ping.com/k/a"
    );
    let whole = address("--url https://hc-ping.com/k/a?create=1", &[]);
    assert_eq!(whole, "https://hc-ping.com/k/a?create=1");
    // What was typed wins, whatever kind it is.
    let elsewhere = [
        server,
        key,
        ("ALLSWELL_RUN_URL", "http://other/x"),
        ("HOME", "/nowhere"),
    ];
    assert_eq!(address(&format!("--uuid {ID}"), &elsewhere), by_id);
    assert_eq!(address("", &elsewhere), "http://other/x");
}

#[test]
fn the_file_says_what_nobody_else_says() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("run.toml");
    let key_file = dir.path().join("key");
    std::fs::write(&key_file, "secret-key\n").unwrap();
    let text = format!(
        "server = \"http://a/ping\"\nslug = \"mine\"\nping_key_file = \"{}\"\ncreate = true\ntail_bytes = 5\nquiet = true\nodd = 1\n",
        key_file.display()
    );
    std::fs::write(&file, text).unwrap();
    let (settings, complaints) = read("--tail-bytes 7", &[("ALLSWELL_RUN_SLUG", "theirs")], Some(&file));
    let settings = settings.unwrap();
    assert_eq!(settings.address.revealed(), "http://a/ping/secret-key/theirs");
    assert!(settings.create && settings.quiet && settings.start && settings.output);
    assert_eq!((settings.tail_bytes, settings.wait_secs), (Some(7), None));
    assert!(complaints[0].starts_with("odd in "), "{complaints:?}");

    // Found by itself in the home, and by its variable.
    let home = dir.path().join(".config/allswell");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::rename(&file, home.join("run.toml")).unwrap();
    let home_dir = dir.path().to_str().unwrap();
    let (settings, _) = read("", &[("HOME", home_dir)], None);
    assert_eq!(
        settings.unwrap().address.revealed(),
        "http://a/ping/secret-key/mine"
    );
    let named = home.join("run.toml").to_str().unwrap().to_owned();
    let (settings, _) = read("", &[("ALLSWELL_RUN_CONFIG", &named)], None);
    assert!(settings.is_ok());
}

#[test]
fn what_cannot_be_meant_is_told_without_repeating_a_key() {
    let server = ("ALLSWELL_RUN_SERVER", "http://a/ping");
    type Given = Vec<(&'static str, &'static str)>;
    let table: [(&str, Given, &str); 9] = [
        ("", vec![], "which check"),
        ("--slug a", vec![server], "ping key"),
        ("--slug a --ping-key k", vec![], "where the server is"),
        (
            "--slug a",
            vec![server, ("ALLSWELL_RUN_PING_KEY", "hunter2/../x")],
            "ALLSWELL_RUN_PING_KEY is not a ping key",
        ),
        (
            "",
            vec![server, ("ALLSWELL_RUN_UUID", "hunter2")],
            "ALLSWELL_RUN_UUID is not the id",
        ),
        (
            "",
            vec![("ALLSWELL_RUN_URL", "hunter2")],
            "ALLSWELL_RUN_URL does not begin",
        ),
        (
            "",
            vec![
                server,
                ("ALLSWELL_RUN_UUID", ID),
                ("ALLSWELL_RUN_SLUG", "hunter2"),
            ],
            "two checks",
        ),
        (
            "--url http://a/b",
            vec![("ALLSWELL_RUN_WAIT_SECS", "hunter2")],
            "a number from 1",
        ),
        (
            "--url http://a/b",
            vec![("ALLSWELL_RUN_CREATE", "hunter2")],
            "true or false",
        ),
    ];
    for (typed, given, why) in table {
        let problem = read(typed, &given, None).0.unwrap_err();
        assert!(
            problem.contains(why) && !problem.contains("hunter2"),
            "{typed}: {problem}"
        );
    }
    let (settings, complaints) = read("--url http://a/b", &[("ALLSWELL_RUN_SLUGG", "x")], None);
    assert!(
        settings.is_ok() && complaints[0].contains("ALLSWELL_RUN_SLUGG"),
        "{complaints:?}"
    );
}

/// The key that goes beside the address, and what is said about it.
fn key_beside(typed: &str, given: &[(&str, &str)]) -> (Option<String>, Vec<String>) {
    let (settings, complaints) = read(typed, given, None);
    let key = settings.unwrap().ping_key;
    (key.map(|key| key.reveal().clone()), complaints)
}

#[test]
fn a_key_goes_beside_an_id_and_beside_an_address_that_it_was_meant_for() {
    let server = ("ALLSWELL_RUN_SERVER", "http://a/ping");
    let key = ("ALLSWELL_RUN_PING_KEY", "mine");
    let by_id = format!("--uuid {ID}");
    let whole = ("ALLSWELL_RUN_URL", "http://a/ping/x");
    for (typed, given, sent) in [
        (by_id.as_str(), vec![server], None),
        (&by_id, vec![server, key], Some("mine")),
        ("--slug a", vec![server, key], None),
        ("--url http://a/ping/x --ping-key k", vec![], Some("k")),
        ("", vec![whole, key], Some("mine")),
        ("--ping-key k", vec![whole], Some("k")),
        // Typed for this job, and on whatever server: the key that lies about is for another.
        ("--url http://a/ping/x", vec![key], None),
        ("--url http://a/ping/x --ping-key-file /nowhere", vec![key], None),
    ] {
        let (key, complaints) = key_beside(typed, &given);
        assert_eq!(key.as_deref(), sent, "{typed} {given:?}");
        assert_eq!(complaints, [""; 0], "{typed} {given:?}");
    }
}

#[test]
fn a_bad_key_beside_an_id_is_told_and_keeps_no_report_back() {
    let server = ("ALLSWELL_RUN_SERVER", "http://a/ping");
    for (typed, given, why) in [
        ("--ping-key-file /nowhere/key", vec![server], "--ping-key-file: "),
        (
            "",
            vec![server, ("ALLSWELL_RUN_PING_KEY", "hunter2/../x")],
            "ALLSWELL_RUN_PING_KEY is not a ping key; no key goes along",
        ),
    ] {
        let (key, complaints) = key_beside(&format!("--uuid {ID} {typed}"), &given);
        assert_eq!(key, None, "{typed}");
        let [told] = complaints.as_slice() else {
            panic!("{typed}: {complaints:?}");
        };
        assert!(told.contains(why) && !told.contains("hunter2"), "{told}");
    }
}

#[test]
fn a_server_beside_it_knows_the_variables() {
    let given = VARIABLES.iter().map(|name| ((*name).into(), "x".into()));
    Config::load(None, given).expect("they are no settings of the server's");
    let wrong = [("ALLSWELL_RUN_SLUGG".into(), "x".into())];
    let told = Config::load(None, wrong.into_iter()).unwrap_err().to_string();
    assert!(told.contains("ALLSWELL_RUN_SLUG?"), "{told}");
}
