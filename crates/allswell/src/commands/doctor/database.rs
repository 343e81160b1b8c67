//! The database: whether it can be had, keeps what it was given, and tells the same time as we do.

use allswell_core::scope::SystemScope;
use allswell_core::time::Span;
use allswell_engine::loops::now;
use allswell_store::{CONNECTIONS_APART, Durability, Error, PostgresFacts, Store};

use super::disk::millis;
use super::{Findings, machine};
use crate::config::{Config, Target};
use crate::house;

/// Clocks that differ by more make one server take another's time for its own.
const CLOCKS_WARN: Span = Span::from_secs(1);
/// By more, an absence is seen that was none.
const CLOCKS_FAIL: Span = Span::from_secs(30);
/// The oldest PostgreSQL that is tried.
const POSTGRES_MIN: u32 = 15;

/// Looks; gives the store where there is one to look into.
pub async fn look(config: &Config, findings: &mut Findings) -> Option<Store> {
    let url = config.database.url.masked();
    if let Target::Sqlite(path) = config.database.url.target()
        && !path.exists()
    {
        let found = format!("{url} is not there");
        findings.warn(
            "database",
            &found,
            "`allswell serve` makes it at its first start; else set database.url",
        );
        return None;
    }
    let store = match house::open_as_it_is(config).await {
        Ok(store) => store,
        Err(error) => {
            findings.fail("database", &format!("{error:#}"), advice_for(&error));
            return None;
        }
    };
    serving(config, &store, findings).await;
    match store.schema_version().await {
        Ok(version) => findings.ok("schema", &format!("version {version}, as this program needs it")),
        Err(error) => findings.fail("schema", &error.to_string(), look_further(config)),
    }
    match store.durability().await {
        Ok(durability) => durability_told(&durability, findings),
        Err(error) => findings.fail("durability", &error.to_string(), look_further(config)),
    }
    match store.flush_time(now).await {
        Ok(took) => findings.ok(
            "commit",
            &format!("a small write takes {} ms, the median of 9", millis(took)),
        ),
        Err(error) => findings.fail("commit", &error.to_string(), look_further(config)),
    }
    untold(config, &store, findings).await;
    match store.postgres_facts(now).await {
        Ok(None) => {}
        Ok(Some(facts)) => postgres(config, &facts, findings),
        Err(error) => findings.fail("postgres", &error.to_string(), look_further(config)),
    }
    Some(store)
}

/// Checks that go down unheard. Some may be meant so: a board on a wall looks for itself.
async fn untold(config: &Config, store: &Store, findings: &mut Findings) {
    let counted = store
        .read(async |reader| {
            let system = SystemScope::operator();
            let silent = reader.check_count_telling_nobody(system).await?;
            Ok::<_, Error>((silent, reader.check_count(system).await?))
        })
        .await;
    match counted {
        Ok((0, _)) => {}
        Ok((silent, all)) => {
            let (tell, they) = if silent == 1 {
                ("tells", "it goes")
            } else {
                ("tell", "they go")
            };
            findings.note(
                "alerts",
                &format!("{silent} of {all} checks {tell} nobody when {they} down: no channel, or none that is switched on"),
                "`allswell check update --add-channel` attaches one; `allswell channel edit --enable` switches one on",
            );
        }
        Err(error) => findings.fail("alerts", &error.to_string(), look_further(config)),
    }
}

/// Where more is said of a database that answers with an error. A file has no log of its own.
fn look_further(config: &Config) -> &'static str {
    if machine::is_sqlite(config) {
        "look whether the disk is full or read-only (df, mount), what the kernel says of it (dmesg), and whose the file is"
    } else {
        "look at the log of PostgreSQL, and what is free on its disk"
    }
}

fn advice_for(error: &anyhow::Error) -> &'static str {
    match error.downcast_ref::<Error>() {
        Some(Error::Corrupt(_)) => "start the program that made it, or restore a backup",
        Some(Error::Unavailable(why)) if why.contains("schema") => {
            "run `allswell migrate`, or start the server"
        }
        _ => "look whether the database runs, whether database.url is right, and what the role may",
    }
}

async fn serving(config: &Config, store: &Store, findings: &mut Findings) {
    if machine::is_sqlite(config) {
        let found = if house::Probe::new(config).is_served() {
            "a server runs on this database"
        } else {
            "no server runs on this database"
        };
        return findings.ok("server", found);
    }
    let system = allswell_core::scope::SystemScope::operator();
    let since = now() - Span::from_secs(45);
    match store
        .read(async move |reader| reader.nodes_keys(system, since).await)
        .await
    {
        Ok(nodes) => {
            let servers = if nodes.len() == 1 {
                "server was"
            } else {
                "servers were"
            };
            findings.ok(
                "server",
                &format!("{} {servers} seen in the last 45 s", nodes.len()),
            );
        }
        Err(error) => findings.fail("server", &error.to_string(), look_further(config)),
    }
}

fn durability_told(durability: &Durability, findings: &mut Findings) {
    match durability {
        Durability::Sqlite { .. } if durability.is_kept() => {
            findings.ok("durability", "each commit is flushed before it is answered (WAL, synchronous FULL)");
        }
        Durability::Sqlite {
            journal_mode,
            synchronous,
        } => findings.fail(
            "durability",
            &format!("journal_mode is {journal_mode} and synchronous {synchronous}; a power cut can lose answered pings"),
            "the file system may not know how to share memory between programs: use a local one",
        ),
        Durability::Postgres {
            fsync,
            synchronous_commit,
            full_page_writes,
        } => {
            let found = format!(
                "fsync is {fsync}, synchronous_commit {synchronous_commit}, full_page_writes {full_page_writes}"
            );
            if durability.is_kept() {
                findings.ok("durability", &found);
            } else {
                findings.fail(
                    "durability",
                    &format!("{found}: a crash of its machine can lose answered pings"),
                    "turn them on in postgresql.conf, or for this role: alter role NAME set synchronous_commit = on",
                );
            }
        }
    }
}

fn postgres(config: &Config, facts: &PostgresFacts, findings: &mut Findings) {
    let major: u32 = facts
        .version
        .split(['.', ' '])
        .next()
        .and_then(|major| major.parse().ok())
        .unwrap_or(0);
    let found = format!("PostgreSQL {}, encoding {}", facts.version, facts.encoding);
    if facts.is_standby {
        findings.fail(
            "postgres",
            &format!("{found}: a standby, which takes no writes"),
            "point database.url at the primary",
        );
    } else if major < POSTGRES_MIN {
        findings.warn("postgres", &found, "versions before 15 are not tried");
    } else if facts.encoding != "UTF8" {
        findings.fail(
            "postgres",
            &format!("{found}: it cannot hold every name"),
            "make the database with encoding UTF8",
        );
    } else {
        findings.ok("postgres", &found);
    }
    tls(config, facts, findings);
    role(config, facts, findings);
    connections(config, facts, findings);
    let (ahead, error) = (facts.clock_ahead, facts.asking_took);
    let found = format!(
        "the database's clock is {} ms {} ours (± {} ms)",
        millis(distance(ahead)),
        if ahead < Span::ZERO { "behind" } else { "ahead of" },
        millis(Span::from_micros(error.as_micros() / 2))
    );
    let advice = "see that NTP runs on both machines";
    match distance(ahead) {
        far if far > CLOCKS_FAIL => findings.fail("clocks", &found, advice),
        far if far > CLOCKS_WARN => findings.warn("clocks", &found, advice),
        _ => findings.ok("clocks", &found),
    }
}

fn distance(span: Span) -> Span {
    Span::from_micros(span.as_micros().abs())
}

fn tls(config: &Config, facts: &PostgresFacts, findings: &mut Findings) {
    let Target::Postgres(server) = config.database.url.target() else {
        return;
    };
    match (&facts.tls, house::server_of(&config.database, server).is_local()) {
        (Some(version), _) => findings.ok("tls", &format!("the way to the database is {version}")),
        (None, true) => findings.ok("tls", "the database is on this machine, without TLS"),
        (None, false) => findings.warn(
            "tls",
            "the way to the database is not encrypted",
            "turn ssl on at the server, and set database.sslmode to verify-full",
        ),
    }
}

fn role(config: &Config, facts: &PostgresFacts, findings: &mut Findings) {
    let advice = "make a role of its own: create role allswell login; grant it the database";
    if facts.is_superuser {
        findings.warn(
            "role",
            "our role is a superuser: whoever takes it over has the whole server",
            advice,
        );
    } else if facts.makes_others {
        findings.warn(
            "role",
            "our role may make databases or roles, which it never needs",
            advice,
        );
    } else if facts.may_change_schema && !config.database.migrate {
        findings.note(
            "role",
            "our role may change the schema, though database.migrate is off",
            "a role without that right is enough: revoke create on schema public from it",
        );
    } else {
        findings.ok("role", "our role has no more rights than it needs");
    }
}

fn connections(config: &Config, facts: &PostgresFacts, findings: &mut Findings) {
    let ours = (config.database.connections + CONNECTIONS_APART) as i64;
    let for_all = facts.connections_max - facts.connections_reserved;
    let found = format!(
        "{} of {for_all} connections are in use; a server of ours takes up to {ours}",
        facts.connections
    );
    if ours > for_all {
        findings.fail(
            "connections",
            &found,
            "raise max_connections, or lower database.connections",
        );
    } else if facts.connections + ours > for_all {
        findings.warn(
            "connections",
            &found,
            "raise max_connections, or lower database.connections",
        );
    } else {
        findings.ok("connections", &found);
    }
}
