//! What operators see: `config show` and `config check`.

use super::*;
use crate::config::settings::SETTINGS;
use crate::config::{config_check, config_show};

#[test]
fn the_text_shows_values_and_sources_in_columns() {
    let folder = Folder::with_config("[limits]\nbatch = 10");
    let shown = config_show(
        &folder.loaded(&[("ALLSWELL_LOG_LEVEL", "debug"), ("ALLSWELL_KEYS_RING", "x")]),
        false,
    );
    let shown = shown.replace(&format!("{}/", folder.directory.path().display()), "");
    for (start, end) in [
        ("listen = \"127.0.0.1:8000\" ", "  # default"),
        (
            "site_url = \"http://127.0.0.1:8000\" ",
            "  # default, from listen",
        ),
        ("ring = \"***\" ", "  # ALLSWELL_KEYS_RING"),
        ("level = \"debug\" ", "  # ALLSWELL_LOG_LEVEL"),
        ("batch = 10 ", "  # allswell.toml:2"),
    ] {
        let line = shown
            .lines()
            .find(|line| line.starts_with(start))
            .unwrap_or_else(|| panic!("{start}\n{shown}"));
        assert!(line.ends_with(end), "{line}");
    }
    let columns: Vec<usize> = shown.lines().filter_map(|line| line.find("  # ")).collect();
    assert!(columns.len() >= SETTINGS.len());
}

#[test]
fn what_is_shown_is_a_configuration_of_the_same_meaning() {
    let text = "data_dir = \"a \\\" \\\\ \\u0001 \\u007f é\"\nsite_url = 'https://up.example.org'\n\
                trusted_proxies = []\nlimits.batch = 1\nmetrics.listen = '127.0.0.1:1'\nkeys.ring_file = 'r'";
    let loaded = Folder::with_config(text).loaded(&[]);
    let again = Folder::with_config(config_show(&loaded, false)).loaded(&[]);
    assert_eq!(format!("{:?}", again.config), format!("{:?}", loaded.config));
}

#[test]
fn the_json_holds_every_setting_with_value_and_source() {
    let loaded = Folder::new().loaded(&[("ALLSWELL_LIMITS_BATCH", "7")]);
    let shown: serde_json::Value = serde_json::from_str(&config_show(&loaded, true)).unwrap();
    for setting in SETTINGS {
        assert!(shown[setting.name]["from"].is_string(), "{}", setting.name);
    }
    assert_eq!(
        shown["limits.batch"],
        serde_json::json!({"value": 7, "from": "ALLSWELL_LIMITS_BATCH"})
    );
    assert_eq!(shown["keys.ring"]["value"], "");
    assert_eq!(shown["keys.ring_file"]["value"], "allswell-data/key-ring");
    assert_eq!(
        shown["trusted_proxies"]["value"],
        serde_json::json!(["127.0.0.0/8", "::1/128"])
    );
}

#[test]
fn a_configuration_without_faults_is_called_valid_and_nothing_more() {
    let checked = config_check(&Folder::new().loaded(&[]));
    assert_eq!(
        checked,
        "configuration is valid\nfile: none, defaults and environment only\n"
    );
    let folder = Folder::with_config("site_url = 'https://up.example.org'\nlisten = '0.0.0.0:8000'");
    let checked = config_check(&folder.loaded(&[]));
    assert!(!checked.contains("warning"), "{checked}");
    assert!(checked.contains("allswell.toml\n"), "{checked}");
}

#[test]
fn what_is_most_likely_not_meant_is_warned_of() {
    let table = [
        ("listen = '0.0.0.0:8000'", "without https"),
        ("listen = '0.0.0.0:8000'", "an address nobody can ask"),
        ("listen = '[::]:8000'", "an address nobody can ask"),
        (
            "site_url = 'http://up.example.org'",
            "site_url is http://up.example.org, without https",
        ),
        (
            "trusted_proxies = ['0.0.0.0/0']",
            "trusted_proxies holds 0.0.0.0/0",
        ),
        ("trusted_proxies = ['::/0']", "trusted_proxies holds ::/0"),
        (
            "metrics.listen = '0.0.0.0:9100'",
            "metrics.listen is 0.0.0.0:9100",
        ),
        ("limits.ping_body_bytes = 1000000", "7812 MiB of memory"),
    ];
    for (text, expected) in table {
        let checked = config_check(&Folder::with_config(text).loaded(&[]));
        let warned = checked
            .lines()
            .any(|line| line.starts_with("warning: ") && line.contains(expected));
        assert!(
            warned && checked.starts_with("configuration is valid\n"),
            "{text}\n{checked}"
        );
    }
}
