//! The example file is the documentation; these tests hold it, the table and the defaults together.

use std::path::{Path, PathBuf};

use super::*;
use crate::config::settings::{ALIASES, SECTIONS, SETTINGS, Setting, reserved_variables, setting};
use crate::config::{KeyRingSource, LogFormat, LogLevel, config_example};

fn example_path() -> PathBuf {
    let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let found =
        above.find_map(|folder| Some(folder.join("allswell.example.toml")).filter(|path| path.exists()));
    found.expect("allswell.example.toml is at the root of the repository")
}

#[test]
fn the_example_file_is_what_the_table_says() {
    let file = std::fs::read_to_string(example_path()).unwrap();
    assert!(
        file == config_example(),
        "run `allswell config example > allswell.example.toml` and look at the change"
    );
}

#[test]
fn the_example_means_the_defaults() {
    let loaded = load_file(&example_path(), &[]).unwrap();
    assert_eq!(
        format!("{:?}", loaded.config.site_url),
        format!("{:?}", Config::default().site_url)
    );
    assert_same(&loaded.config, &Config::default());
}

#[test]
fn the_example_holds_every_key_once() {
    let example = config_example();
    let count = |key: &str| {
        example
            .lines()
            .filter(|line| line.starts_with(&format!("{key} = ")))
            .count()
    };
    for setting in SETTINGS {
        let (_, key) = setting.section_and_key();
        let homonyms = SETTINGS
            .iter()
            .filter(|other| other.section_and_key().1 == key)
            .count();
        assert_eq!(count(key), homonyms, "{}", setting.name);
        assert!(!setting.doc.is_empty(), "{} is documented", setting.name);
    }
    for file_name in SETTINGS.iter().filter_map(Setting::file_name) {
        let key = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
        let names = SETTINGS.iter().filter_map(Setting::file_name);
        let homonyms = names.filter(|other| key(other) == key(&file_name)).count();
        assert_eq!(count(&key(&file_name)), homonyms, "{file_name}");
    }
}

#[test]
fn the_defaults_are_those_agreed() {
    let config = Config::default();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8000");
    assert_eq!(config.site_url.as_str(), "http://127.0.0.1:8000");
    assert_eq!(config.data_dir, Path::new("allswell-data"));
    let networks: Vec<String> = config
        .trusted_proxies
        .iter()
        .map(|network| network.to_string())
        .collect();
    assert_eq!(networks, ["127.0.0.0/8", "::1/128"]);
    assert_eq!(
        config.database.url.sqlite_path(),
        Path::new("allswell-data/allswell.db")
    );
    let KeyRingSource::File {
        path,
        is_default: true,
    } = &config.keys.ring
    else {
        panic!("the ring is a file of our own making: {:?}", config.keys.ring)
    };
    assert_eq!(path, Path::new("allswell-data/key-ring"));
    assert_eq!(
        (config.log.level, config.log.format),
        (LogLevel::Info, LogFormat::Text)
    );
    assert_eq!(config.metrics.listen, None);
    let limits = config.limits;
    assert_eq!((limits.connections, limits.connections_per_address), (8192, 512));
    assert_eq!((limits.header_secs, limits.header_bytes), (10, 16384));
    assert_eq!((limits.idle_secs, limits.body_secs), (75, 30));
    assert_eq!(
        (limits.ping_body_bytes, limits.ping_drain_bytes),
        (10_000, 64 << 20)
    );
    assert_eq!((limits.api_body_bytes, limits.inbox), (2_621_440, 8192));
    assert_eq!((limits.inbox_wait_ms, limits.batch), (250, 1024));
    let retention = config.retention;
    assert_eq!(
        (retention.pings_per_check, retention.body_bytes_per_check),
        (1000, 1 << 20)
    );
    assert_eq!(
        (retention.history_days, retention.audit_days, retention.undo_days),
        (93, 365, 7)
    );
}

#[test]
fn names_in_the_table_are_distinct_and_complete() {
    let mut variables: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
    variables.extend(SETTINGS.iter().filter_map(Setting::file_variable));
    variables.extend(reserved_variables().map(str::to_owned));
    let count = variables.len();
    variables.sort();
    variables.dedup();
    assert_eq!(variables.len(), count, "no two settings share a variable");

    for setting in SETTINGS {
        let (section, _) = setting.section_and_key();
        assert!(
            section.is_empty() || SECTIONS.iter().any(|(name, _)| *name == section),
            "{}",
            setting.name
        );
    }
    for (section, _) in SECTIONS {
        assert!(
            SETTINGS
                .iter()
                .any(|setting| setting.section_and_key().0 == *section),
            "{section} is used"
        );
    }
    for (alias, target) in ALIASES {
        // Panics if there is no such setting.
        assert_eq!(setting(target).name, *target, "{alias}");
    }
}
