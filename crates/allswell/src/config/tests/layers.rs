//! Which value wins, and what is known about where it came from.

use super::*;
use crate::config::settings::SETTINGS;
use crate::config::{KeyRingSource, LogLevel};

fn source(loaded: &Loaded, name: &str, folder: &Folder) -> String {
    loaded.sources[name]
        .to_string()
        .replace(&format!("{}/", folder.directory.path().display()), "")
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_default() {
    let folder = Folder::with_config("[limits]\ninbox = 100\nbatch = 10\n");
    let loaded = folder.loaded(&[("ALLSWELL_LIMITS_BATCH", "20"), ("OTHER", "x")]);
    let limits = loaded.config.limits;
    assert_eq!((limits.inbox, limits.batch, limits.inbox_wait_ms), (100, 20, 250));
    assert_eq!(source(&loaded, "limits.inbox", &folder), "allswell.toml:2");
    assert_eq!(source(&loaded, "limits.batch", &folder), "ALLSWELL_LIMITS_BATCH");
    assert_eq!(source(&loaded, "limits.inbox_wait_ms", &folder), "default");
}

#[test]
fn every_setting_has_a_source() {
    let loaded = Folder::new().loaded(&[]);
    let named: Vec<&str> = loaded.sources.keys().copied().collect();
    let mut settings: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
    settings.sort();
    assert_eq!(named, settings);
}

#[test]
fn every_setting_can_be_given_in_the_environment_and_in_the_file() {
    for setting in SETTINGS {
        let folder = Folder::with_config(format!("{} = {}\n", setting.name, setting.default));
        let loaded = folder.loaded(&[]);
        assert_same(&loaded.config, &Config::default());

        let in_environment = setting.default.trim_matches(['"', '[', ']']).replace('"', "");
        let loaded = Folder::new().loaded(&[(&setting.variable(), &in_environment)]);
        assert_same(&loaded.config, &Config::default());
    }
}

#[test]
fn values_reach_the_fields_of_their_names() {
    let text = r#"
listen = "[::]:9000"
site_url = "https://Up.example.org/base/"
data_dir = "/srv/a b"
trusted_proxies = ["10.0.0.0/8"]
[log]
level = "debug"
format = "json"
[metrics]
listen = "127.0.0.1:9100"
[limits]
connections = 1
connections_per_address = 2
header_secs = 3
header_bytes = 8_192
idle_secs = 5
body_secs = 6
ping_body_bytes = 7
ping_drain_bytes = 0x8
api_body_bytes = 1024
inbox = 10
inbox_wait_ms = 11
batch = 12
[retention]
pings_per_check = 13
body_bytes_per_check = 14
history_days = 15
audit_days = 16
undo_days = 17
"#;
    let config = Folder::with_config(text).loaded(&[]).config;
    assert_eq!(config.listen.to_string(), "[::]:9000");
    assert_eq!(config.site_url.as_str(), "https://up.example.org/base");
    assert_eq!(
        config.database.url.sqlite_path(),
        Path::new("/srv/a b/allswell.db")
    );
    assert!(config.trusted_proxies[0].contains("10.1.1.1".parse().unwrap()));
    assert_eq!(config.log.level, LogLevel::Debug);
    assert_eq!(config.metrics.listen.map(|listen| listen.port()), Some(9100));
    let limits = config.limits;
    assert_eq!(
        (
            limits.connections,
            limits.connections_per_address,
            limits.header_secs
        ),
        (1, 2, 3)
    );
    assert_eq!(
        (limits.header_bytes, limits.idle_secs, limits.body_secs),
        (8192, 5, 6)
    );
    assert_eq!(
        (
            limits.ping_body_bytes,
            limits.ping_drain_bytes,
            limits.api_body_bytes
        ),
        (7, 8, 1024)
    );
    assert_eq!((limits.inbox, limits.inbox_wait_ms, limits.batch), (10, 11, 12));
    let retention = config.retention;
    assert_eq!(
        (retention.pings_per_check, retention.body_bytes_per_check),
        (13, 14)
    );
    assert_eq!(
        (retention.history_days, retention.audit_days, retention.undo_days),
        (15, 16, 17)
    );
}

#[test]
fn the_file_is_the_one_named_first_by_argument_then_by_variable_then_by_default() {
    let folder = Folder::with_config("limits.batch = 1");
    let by_variable = folder.write("variable.toml", "limits.batch = 2");
    let by_argument = folder.path("argument.toml");
    folder.write("argument.toml", "limits.batch = 3");

    assert_eq!(folder.loaded(&[]).config.limits.batch, 1);
    assert_eq!(folder.loaded(&[("ALLSWELL_CONFIG", "")]).config.limits.batch, 1);
    let variables = [("ALLSWELL_CONFIG", by_variable.as_str())];
    assert_eq!(folder.loaded(&variables).config.limits.batch, 2);
    let loaded = load_file(&by_argument, &variables).unwrap();
    assert_eq!((loaded.config.limits.batch, loaded.file), (3, Some(by_argument)));
    assert_eq!(Folder::new().loaded(&[]).file, None);
}

#[test]
fn a_list_in_the_environment_is_separated_by_commas() {
    let networks = |text: &str| {
        let config = Folder::new().loaded(&[("ALLSWELL_TRUSTED_PROXIES", text)]).config;
        config
            .trusted_proxies
            .iter()
            .map(|network| network.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(networks("10.0.0.0/8, ::1"), ["10.0.0.0/8", "::1/128"]);
    assert_eq!(networks(""), Vec::<String>::new());
}

#[test]
fn an_empty_value_is_worked_out_from_others() {
    let variables = [
        ("ALLSWELL_LISTEN", "127.0.0.1:8001"),
        ("ALLSWELL_DATA_DIR", "/srv/x"),
        ("ALLSWELL_SITE_URL", ""),
    ];
    let folder = Folder::with_config("site_url = \"https://up.example.org\"");
    let loaded = folder.loaded(&variables);
    assert_eq!(loaded.config.site_url.as_str(), "http://127.0.0.1:8001");
    assert_eq!(
        loaded.config.database.url.sqlite_path(),
        Path::new("/srv/x/allswell.db")
    );
    assert_eq!(source(&loaded, "site_url", &folder), "default, from listen");
    assert_eq!(source(&loaded, "keys.ring", &folder), "default, from data_dir");
}

#[test]
fn the_key_ring_file_is_named_and_not_read() {
    let folder = Folder::with_config("[keys]\nring_file = \"/nonexistent/ring\"");
    let loaded = folder.loaded(&[]);
    let KeyRingSource::File {
        path,
        is_default: false,
    } = &loaded.config.keys.ring
    else {
        panic!("{:?}", loaded.config.keys.ring)
    };
    assert_eq!(path, Path::new("/nonexistent/ring"));
    assert_eq!(source(&loaded, "keys.ring", &folder), "allswell.toml:2");

    let loaded = folder.loaded(&[("ALLSWELL_KEYS_RING", "canary")]);
    let KeyRingSource::Inline(ring) = &loaded.config.keys.ring else {
        panic!("{:?}", loaded.config.keys.ring)
    };
    assert_eq!(ring.reveal(), "canary");
    assert_eq!(source(&loaded, "keys.ring", &folder), "ALLSWELL_KEYS_RING");
}

#[test]
fn a_secret_is_read_from_the_file_that_is_named() {
    for ending in ["", "\n", "\r\n"] {
        let folder = Folder::new();
        let path = folder.write("secret", format!("sqlite:a.db{ending}"));
        let loaded = folder.loaded(&[("ALLSWELL_DATABASE_URL_FILE", &path)]);
        assert_eq!(loaded.config.database.url.sqlite_path(), Path::new("a.db"));
        let expected = "file secret, named by ALLSWELL_DATABASE_URL_FILE";
        assert_eq!(source(&loaded, "database.url", &folder), expected);
        assert_eq!(loaded.warnings, Vec::<String>::new());
    }
}

#[test]
fn a_weaker_secret_file_is_not_even_read() {
    let folder = Folder::with_config("[database]\nurl_file = \"/nonexistent/secret\"");
    let loaded = folder.loaded(&[("ALLSWELL_DATABASE_URL", "sqlite:a.db")]);
    assert_eq!(loaded.config.database.url.sqlite_path(), Path::new("a.db"));
}

#[test]
fn an_alias_of_the_environment_sets_the_real_setting() {
    let folder = Folder::with_config("limits.ping_body_bytes = 1");
    let loaded = folder.loaded(&[("PING_BODY_LIMIT", "100")]);
    assert_eq!(loaded.config.limits.ping_body_bytes, 100);
    assert_eq!(
        source(&loaded, "limits.ping_body_bytes", &folder),
        "PING_BODY_LIMIT"
    );

    let both = [
        ("PING_BODY_LIMIT", "0100"),
        ("ALLSWELL_LIMITS_PING_BODY_BYTES", "100"),
    ];
    let loaded = folder.loaded(&both);
    assert_eq!(
        source(&loaded, "limits.ping_body_bytes", &folder),
        "ALLSWELL_LIMITS_PING_BODY_BYTES"
    );
}

#[test]
fn what_kubernetes_makes_is_left_alone() {
    let variables = [
        ("ALLSWELL_SERVICE_HOST", "10.96.0.7"),
        ("ALLSWELL_SERVICE_PORT", "8000"),
        ("ALLSWELL_SERVICE_PORT_HTTP", "8000"),
        ("ALLSWELL_PORT", "tcp://10.96.0.7:8000"),
        ("ALLSWELL_PORT_8000_TCP", "tcp://10.96.0.7:8000"),
        ("ALLSWELL_PORT_8000_TCP_PROTO", "tcp"),
        ("ALLSWELL_PORT_8000_TCP_PORT", "8000"),
        ("ALLSWELL_PORT_8000_TCP_ADDR", "10.96.0.7"),
        ("ALLSWELL_POSTGRESQL_SERVICE_HOST", "10.96.0.8"),
        ("ALLSWELL_POSTGRESQL_PORT_5432_TCP_ADDR", "10.96.0.8"),
    ];
    assert_same(&Folder::new().loaded(&variables).config, &Config::default());
}
