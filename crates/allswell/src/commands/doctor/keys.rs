//! The key ring: whether it is there, is ours alone to read, and opens what it should.

use std::os::unix::fs::PermissionsExt;

use allswell_core::scope::SystemScope;
use allswell_core::seal::KeyRing;
use allswell_engine::loops::now;
use allswell_store::{Error, Store};

use super::Findings;
use crate::config::{Config, KeyRingSource};
use crate::{keyring, system};

/// The ring's file, without a database to try it on.
pub fn look_at_file(config: &Config, findings: &mut Findings) {
    match &config.keys.ring {
        KeyRingSource::Inline(_) => findings.warn(
            "key ring",
            "it is a setting: whoever sees the configuration or the environment has it",
            "a file is the better place (keys.ring_file), or a systemd credential called allswell.key-ring",
        ),
        KeyRingSource::File { path, .. } => {
            let mode = match std::fs::metadata(path) {
                Ok(facts) => facts.permissions().mode(),
                Err(_) => return,
            };
            let found = format!("{} has mode {:o}", path.display(), mode & 0o7777);
            let close = format!("chmod 600 {}", path.display());
            if mode & 0o007 != 0 {
                findings.fail(
                    "key ring",
                    &format!("{found}: every user of this machine may read it"),
                    &close,
                );
            } else if mode & 0o020 != 0 {
                findings.warn("key ring", &format!("{found}: its group may change it"), &close);
            } else {
                findings.ok("key ring", &found);
            }
            if path.parent() == Some(config.data_dir.as_path()) && super::machine::is_sqlite(config) {
                findings.note(
                    "key ring",
                    "it lies beside the database: a copy of the directory is a copy of every secret",
                    "keep it apart (keys.ring_file), and leave it out of backups of the database; back it up on its own",
                );
            }
        }
    }
}

/// The ring, tried on the database.
pub async fn look(config: &Config, store: Store, findings: &mut Findings) {
    look_at_file(config, findings);
    if let Err(error) = tried(config, &store, findings).await {
        findings.fail(
            "keys",
            &format!("{error:#}"),
            "put the ring back that this database was encrypted with; `allswell keys list` shows what it needs",
        );
    }
}

async fn tried(config: &Config, store: &Store, findings: &mut Findings) -> anyhow::Result<()> {
    // Never make a ring here: to look is not to start.
    if !store.has_data_keys().await? {
        findings.note(
            "keys",
            "the database holds no key yet; the first start makes it",
            "",
        );
        return Ok(());
    }
    let mut dice = system::dice()?;
    let ring = keyring::load_or_make(config, true, &mut dice)?.ring;
    store.unlock(ring.clone(), dice, now()).await?;
    let (failed, used, rotation) = store
        .read(async |reader| {
            let failed = reader.data_keys_try().await?;
            let used = reader.root_keys_in_use().await?;
            let rotation = reader.rotation(SystemScope::operator()).await?;
            Ok::<_, Error>((failed, used, rotation))
        })
        .await?;
    let names: Vec<String> = ring
        .keys()
        .map(|key| format!("{} ({})", key.name, key.fingerprint()))
        .collect();
    if failed.is_empty() {
        let count: i64 = used.iter().map(|used| used.wraps).sum();
        let data_keys = match count {
            1 => "the one data key".to_owned(),
            count => format!("all {count} data keys"),
        };
        let open = if names.len() == 1 { "opens" } else { "open" };
        findings.ok("keys", &format!("{} {open} {data_keys}", names.join(", ")));
    } else {
        findings.fail(
            "keys",
            &format!(
                "data keys do not open that were wrapped with {}",
                failed.join(", ")
            ),
            "put the root keys of these names back into the ring",
        );
    }
    unused(&ring, |name| used.iter().any(|used| used.name == name), findings);
    if let Some(rotation) = rotation {
        if !rotation.is_finished() {
            findings.warn(
                "keys",
                &format!(
                    "the rotation to {} that began at {} is not finished ({})",
                    rotation.root_key,
                    rotation.started_at.to_rfc3339_secs(),
                    rotation.phase.word()
                ),
                "a running server goes on with it; `allswell keys rotate` shows how far it is",
            );
        }
        if rotation.values_unreadable > 0 {
            findings.warn(
                "keys",
                &format!(
                    "{} values do not open; they were damaged or moved",
                    rotation.values_unreadable
                ),
                "restore them from a backup if they matter",
            );
        }
    }
    Ok(())
}

fn unused(ring: &KeyRing, is_used: impl Fn(&str) -> bool, findings: &mut Findings) {
    for name in ring.names().filter(|name| !is_used(name)) {
        findings.note(
            "keys",
            &format!("nothing rests on the root key {name}"),
            &format!("when no backup needs it any more: allswell keys retire {name}"),
        );
    }
}
