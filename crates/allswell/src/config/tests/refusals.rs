//! What is refused, and that the message leads to the folder and to what is allowed.

use proptest::prelude::*;

use super::*;
use crate::config::settings::{SETTINGS, Setting, reserved_variables};
use crate::config::value::Kind;

#[test]
fn an_unknown_key_is_refused_with_its_place_and_the_nearest_name() {
    let table = [
        (
            "lisen = 1",
            "allswell.toml:1:1: lisen is not a known key; did you mean listen?",
        ),
        (
            "\n\n[limits]\n inboxx = 1",
            "allswell.toml:4:2: limits.inboxx is not a known key; did you mean limits.inbox?",
        ),
        (
            "inbox = 1",
            "allswell.toml:1:1: inbox is not a known key; did you mean limits.inbox?",
        ),
        (
            "[keys]\nring_fil = ''",
            "allswell.toml:2:1: keys.ring_fil is not a known key; did you mean keys.ring_file?",
        ),
        (
            "listen_file = ''",
            "allswell.toml:1:1: listen_file is not a known key; ",
        ),
        (
            "[limit]\ninbox = 1",
            "allswell.toml:1:2: [limit] is not a known section; did you mean limits?",
        ),
        (
            "[[limits]]\ninbox = 1",
            "allswell.toml:1:3: limits is a section, write [limits] and its keys below",
        ),
        (
            "log = 'debug'",
            "allswell.toml:1:1: log is a section, write [log] and its keys below",
        ),
        (
            "[listen]\nport = 1",
            "allswell.toml:1:2: listen: a section was given",
        ),
        ("\"a\\u001b[2J\" = 1", "a\\u{1b}[2J is not a known key"),
    ];
    for (text, expected) in table {
        let refusal = Folder::with_config(text).refusal(&[]);
        assert!(refusal.contains(expected), "{text}\n{refusal}");
    }
}

#[test]
fn an_unknown_variable_is_refused_with_the_nearest_name() {
    let table = [
        ("ALLSWELL_LISTNE", "x", "did you mean ALLSWELL_LISTEN?"),
        ("ALLSWELL_LOG__LEVEL", "x", "did you mean ALLSWELL_LOG_LEVEL?"),
        ("ALLSWELL_LISTEN_FILE", "x", "the nearest known name is ALLSWELL_"),
        (
            "ALLSWELL_KEY_RING_FILE",
            "x",
            "did you mean ALLSWELL_KEYS_RING_FILE?",
        ),
        ("ALLSWELL_CONFG", "x", "did you mean ALLSWELL_CONFIG?"),
        ("ALLSWELL_", "x", "ALLSWELL_: this is not a known variable"),
        // Kubernetes always writes a URL here, so a number is somebody's wish for a port.
        (
            "ALLSWELL_PORT",
            "9000",
            "ALLSWELL_PORT: this is not a known variable",
        ),
        (
            "ALLSWELL_PORT_HTTP",
            "9000",
            "ALLSWELL_PORT_HTTP: this is not a known variable",
        ),
    ];
    for (name, value, expected) in table {
        let refusal = Folder::new().refusal(&[(name, value)]);
        assert!(refusal.contains(expected), "{name}\n{refusal}");
    }
}

#[test]
fn a_wrong_value_is_refused_with_what_was_given_and_what_is_allowed() {
    let table = [
        (
            "listen = 8000",
            "listen: 8000 was given: this is not text in quotes; allowed is an IP address with a port",
        ),
        (
            "listen = 'localhost:8000'",
            "\"localhost:8000\" was given; allowed is an IP address",
        ),
        ("listen = ''", "\"\" was given; allowed is an IP address"),
        ("listen = ':8000'", "allowed is an IP address"),
        (
            "site_url = 'up.example.org'",
            "it does not begin with http:// or https://; allowed is an http or https URL",
        ),
        ("data_dir = ''", "allowed is a path of 1 to 4096 bytes"),
        ("data_dir = \"a\\u0000b\"", "it holds a zero byte"),
        ("trusted_proxies = '10.0.0.0/8'", "this is not a list"),
        ("trusted_proxies = [10]", "this is not text in quotes"),
        (
            "trusted_proxies = ['10.0.0.1/8']",
            "\"10.0.0.1/8\": the address has bits beyond the prefix",
        ),
        (
            "log.level = 'INFO'",
            "\"INFO\" was given; allowed is error, warn, info, debug, trace",
        ),
        ("log.format = true", "true was given"),
        (
            "metrics.listen = 'on'",
            "\"on\" was given; allowed is an IP address",
        ),
        (
            "limits.inbox = 0",
            "0 was given; allowed is a whole number from 1 to 1000000",
        ),
        ("limits.inbox = -1", "-1 was given"),
        ("limits.inbox = 1.5", "1.5 was given"),
        (
            "limits.inbox = '10'",
            "\"10\" was given; allowed is a whole number",
        ),
        (
            "limits.inbox = 99999999999999999999999999999999999999999999",
            "was given; allowed is a whole number",
        ),
        ("limits.inbox = 1979-05-27", "a date or time was given"),
        ("limits.header_bytes = 8191", "from 8192 to"),
    ];
    for (text, expected) in table {
        let refusal = Folder::with_config(text).refusal(&[]);
        assert!(refusal.contains("allswell.toml:1:"), "{text}\n{refusal}");
        assert!(refusal.contains(expected), "{text}\n{refusal}");
    }
}

#[test]
fn a_wrong_value_in_the_environment_names_its_variable() {
    for value in [
        "",
        " 10",
        "+10",
        "1e3",
        "10 MB",
        "1_000",
        "١",
        "99999999999999999999999999999999999999999",
    ] {
        let refusal = Folder::new().refusal(&[("ALLSWELL_LIMITS_INBOX", value)]);
        let expected = format!("ALLSWELL_LIMITS_INBOX: limits.inbox: \"{value}\" was given; allowed is");
        assert!(refusal.contains(&expected), "{refusal}");
    }
}

#[test]
fn the_bounds_themselves_are_allowed_and_what_lies_beyond_is_not() {
    for setting in SETTINGS {
        let Kind::Number { min, max } = setting.kind else {
            continue;
        };
        let load = |number: String| Folder::new().load(&[(&setting.variable(), &number)]);
        assert!(
            load(min.to_string()).is_ok() && load(max.to_string()).is_ok(),
            "{}",
            setting.name
        );
        assert!(load((max + 1).to_string()).is_err(), "{}", setting.name);
        assert!(
            min == 0 || load((min - 1).to_string()).is_err(),
            "{}",
            setting.name
        );
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once_and_in_order() {
    let folder = Folder::with_config("listne = 1\n[log]\nlevel = 'loud'\n[limits]\nbatch = 0\n");
    let refusal = folder.refusal(&[("ALLSWELL_X", "1"), ("ALLSWELL_LIMITS_BATCH", "0")]);
    let lines: Vec<&str> = refusal.lines().map(str::trim).collect();
    assert_eq!(lines[0], "the configuration has 5 errors:");
    let starts = [
        "allswell.toml:1:1: listne",
        "allswell.toml:3:1: log.level",
        "allswell.toml:5:1: limits.batch",
        "ALLSWELL_LIMITS_BATCH: ",
        "ALLSWELL_X: ",
    ];
    for (line, start) in lines[1..].iter().zip(starts) {
        assert!(line.starts_with(start), "{line}\n{start}");
    }
}

#[test]
fn what_is_not_toml_is_refused_with_its_place_and_beside_the_rest() {
    let refusal = Folder::with_config("listen = \n[log\nlevel = 'info'\n").refusal(&[("ALLSWELL_X", "1")]);
    assert!(
        refusal.contains("allswell.toml:1:10: this is not TOML: "),
        "{refusal}"
    );
    assert!(refusal.contains("allswell.toml:2:"), "{refusal}");
    assert!(refusal.contains("ALLSWELL_X: "), "{refusal}");
    let refusal = Folder::with_config("listen = '127.0.0.1:1'\nlisten = '127.0.0.1:2'").refusal(&[]);
    assert!(
        refusal.contains("allswell.toml:2:1: this is not TOML: duplicate key"),
        "{refusal}"
    );
}

#[test]
fn text_that_is_not_utf8_is_refused_where_it_begins() {
    let refusal = Folder::with_config(b"# good\nlisten = \"\xff\"").refusal(&[]);
    assert!(
        refusal.contains("allswell.toml:2:11: the file is not UTF-8 text"),
        "{refusal}"
    );

    use std::os::unix::ffi::OsStringExt;
    let broken = |text: &[u8]| OsString::from_vec(text.to_vec());
    let variables = vec![
        (broken(b"ALLSWELL_LISTEN"), broken(b"\xff")),
        (broken(b"ALLSWELL_\xff"), broken(b"1")),
        (broken(b"PING_BODY_LIMIT"), broken(b"\xff")),
        (broken(b"OTHER\xff"), broken(b"\xff")),
    ];
    let errors = Config::load_in(Folder::new().directory.path(), None, variables.into_iter()).unwrap_err();
    let errors = errors.to_string();
    assert!(errors.contains("has 3 errors"), "{errors}");
    assert!(
        errors.contains("ALLSWELL_LISTEN: the value of this variable is not UTF-8 text"),
        "{errors}"
    );
    assert!(
        errors.contains("PING_BODY_LIMIT: the value of this variable is not UTF-8 text"),
        "{errors}"
    );
    assert!(
        errors.contains("the name of this variable is not UTF-8 text"),
        "{errors}"
    );
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let folder = Folder::new();
    let missing = folder.path("missing.toml");
    let errors = load_file(&missing, &[]).unwrap_err().to_string();
    assert!(
        errors.contains("missing.toml: the file cannot be read: "),
        "{errors}"
    );
    let refusal = folder.refusal(&[("ALLSWELL_CONFIG", missing.to_str().unwrap())]);
    assert!(
        refusal.contains("missing.toml: the file cannot be read: "),
        "{refusal}"
    );
    let errors = load_file(folder.directory.path(), &[]).unwrap_err().to_string();
    assert!(errors.contains("the file cannot be read: "), "{errors}");
}

#[test]
fn a_file_is_read_up_to_its_bound() {
    let comment = |bytes: usize| format!("#{}", "x".repeat(bytes - 1));
    assert!(Folder::with_config(comment(1 << 20)).load(&[]).is_ok());
    let refusal = Folder::with_config(comment((1 << 20) + 1)).refusal(&[]);
    assert!(
        refusal.contains("allswell.toml: the file is larger than 1048576 bytes"),
        "{refusal}"
    );
}

#[test]
fn a_flood_of_errors_is_cut_and_counted() {
    let text: String = (0..90_000).map(|number| format!("x{number}=1\n")).collect();
    let refusal = Folder::with_config(text).refusal(&[("ALLSWELL_X", "1")]);
    assert!(refusal.contains("has 90001 errors"), "{}", &refusal[..200]);
    assert!(refusal.ends_with("\n  and 89951 more"), "{refusal}");
    assert_eq!(refusal.lines().count(), 52);
}

#[test]
fn an_alias_and_the_real_name_must_agree() {
    let both = [
        ("PING_BODY_LIMIT", "100"),
        ("ALLSWELL_LIMITS_PING_BODY_BYTES", "101"),
    ];
    let refusal = Folder::new().refusal(&both);
    let expected =
        "PING_BODY_LIMIT: limits.ping_body_bytes has another value in ALLSWELL_LIMITS_PING_BODY_BYTES";
    assert!(refusal.contains(expected), "{refusal}");
    let refusal = Folder::new().refusal(&[("PING_BODY_LIMIT", "None")]);
    assert!(
        refusal.contains("PING_BODY_LIMIT: limits.ping_body_bytes: \"None\" was given"),
        "{refusal}"
    );
}

#[test]
fn a_value_and_its_file_cannot_both_be_given() {
    let refusal = Folder::with_config("[keys]\nring = 'a'\nring_file = 'b'").refusal(&[]);
    assert!(
        refusal.contains("allswell.toml:3:1: keys.ring is given here and at "),
        "{refusal}"
    );
    let both = [
        ("ALLSWELL_DATABASE_URL", "sqlite:a.db"),
        ("ALLSWELL_DATABASE_URL_FILE", "b"),
    ];
    let refusal = Folder::new().refusal(&both);
    assert!(
        refusal.contains("database.url is given here and at ALLSWELL_DATABASE_URL"),
        "{refusal}"
    );
    let one_empty = [
        ("ALLSWELL_DATABASE_URL", "sqlite:a.db"),
        ("ALLSWELL_DATABASE_URL_FILE", ""),
    ];
    assert!(Folder::new().load(&one_empty).is_ok());
}

#[test]
fn a_postgresql_url_says_which_database_it_means() {
    let refusal = Folder::new().refusal(&[("ALLSWELL_DATABASE_URL", "postgres://u:p@h")]);
    let expected = "database.url: a text (not shown) was given: the name of the database is missing";
    assert!(refusal.contains(expected), "{refusal}");
}

#[test]
fn metrics_cannot_share_the_address_of_the_pages() {
    let refusal = Folder::with_config("[metrics]\nlisten = '127.0.0.1:8000'").refusal(&[]);
    assert!(
        refusal.contains("allswell.toml:2:1: metrics.listen: 127.0.0.1:8000 is the address of"),
        "{refusal}"
    );
}

fn known_variable() -> impl Strategy<Value = String> {
    let mut names: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
    names.extend(SETTINGS.iter().filter_map(Setting::file_variable));
    names.push("PING_BODY_LIMIT".to_owned());
    names.retain(|name| !reserved_variables().any(|reserved| reserved == name));
    proptest::sample::select(names)
}

/// Lines that come close to being right, to reach further than arbitrary bytes do.
fn almost_config() -> impl Strategy<Value = String> {
    let names: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
    let line = (
        proptest::sample::select(names),
        "[-+0-9a-z'\"\\[\\]{}:/.,?#@%_ \u{e9}]{0,24}",
    );
    let lines = proptest::collection::vec(line, 0..6);
    lines.prop_map(|lines| {
        lines
            .iter()
            .map(|(name, value)| format!("{name} = {value}\n"))
            .collect()
    })
}

proptest! {
    #[test]
    fn no_file_makes_us_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Err(errors) = Folder::with_config(bytes).load(&[]) {
            prop_assert!(!errors.to_string().is_empty());
        }
    }

    #[test]
    fn no_text_makes_us_panic(text in "\\PC{0,200}", almost in almost_config()) {
        for text in [text, almost] {
            if let Err(errors) = Folder::with_config(text).load(&[]) {
                prop_assert!(!errors.to_string().is_empty());
            }
        }
    }

    #[test]
    fn no_environment_makes_us_panic(name in known_variable(), tail in "[A-Z_]{0,12}", value in "\\PC{0,60}") {
        let unknown = format!("ALLSWELL_{tail}");
        for name in [name, unknown] {
            if let Err(errors) = Folder::new().load(&[(&name, &value)]) {
                prop_assert!(errors.to_string().contains(&name));
            }
        }
    }
}
