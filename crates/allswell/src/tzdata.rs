//! Zone data: bundled, or read from a directory of compiled files at start.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use allswell_core::schedule::Zones;
use anyhow::{Context, Result, bail};

use crate::config::Config;

/// No edition has as many names, or a file as large.
const FILES_MAX: usize = 4_000;
const FILE_BYTES_MAX: u64 = 1024 * 1024;
const DEPTH_MAX: usize = 3;
const MAGIC: &[u8] = b"TZif";
/// Copies of all zones for other purposes, which a zone's name never begins with.
const COPIES: &[&str] = &["posix", "right"];

/// The zones of this configuration.
pub fn zones(config: &Config) -> Result<Zones> {
    let Some(dir) = &config.tzdata.dir else {
        return Ok(Zones::Bundled);
    };
    let mut files = BTreeMap::new();
    collect(dir, "", 0, &mut files)
        .with_context(|| format!("tzdata.dir: could not read {}", dir.display()))?;
    if !files.contains_key("UTC") {
        bail!(
            "tzdata.dir: {} holds no compiled zone files (there is no UTC); on Debian they are in /usr/share/zoneinfo",
            dir.display()
        );
    }
    let zones = Zones::loaded(files.iter().map(|(name, data)| (name.as_str(), data.as_slice())));
    zones.map_err(|name| anyhow::anyhow!("tzdata.dir: {} is damaged", dir.join(name).display()))
}

fn collect(dir: &Path, prefix: &str, depth: usize, files: &mut BTreeMap<String, Vec<u8>>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().map(|name| format!("{prefix}{name}")) else {
            continue;
        };
        // Follows links: many names of a zone are links to one file.
        let Ok(facts) = fs::metadata(entry.path()) else {
            continue;
        };
        if facts.is_dir() {
            if depth < DEPTH_MAX && !COPIES.contains(&name.as_str()) {
                collect(&entry.path(), &format!("{name}/"), depth + 1, files)?;
            }
        } else if facts.len() <= FILE_BYTES_MAX {
            let data = fs::read(entry.path())?;
            // Tables and notes lie beside the zones.
            if data.starts_with(MAGIC) {
                files.insert(name, data);
            }
            if files.len() > FILES_MAX {
                bail!("there are more than {FILES_MAX} zone files");
            }
        }
    }
    Ok(())
}
