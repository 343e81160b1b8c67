//! The disk beneath the data directory: how long a flush takes, whether that can be, what is free, and who may look.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use allswell_core::time::Span;
use allswell_engine::loops::now;

use super::Findings;
use crate::config::{Config, Target};

const ROUNDS: usize = 21;
const BYTES: [u8; 4096] = [0x5a; 4096];
/// Slower, and each ping is felt to wait.
const SLOW: Span = Span::from_millis(50);
const FREE_MIN: u64 = 100 << 20;
const FREE_LOW: u64 = 1 << 30;
/// A write-ahead log that long is not written back in time.
const WAL_LONG: u64 = 256 << 20;

/// What lies beneath a directory, as far as the system tells.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Device {
    /// A file system in memory.
    Memory,
    /// Platters: a flush waits for a turn of several milliseconds, unless a controller keeps it in a protected cache.
    Turning,
    /// Of a virtual machine: a flush is what the host makes of it.
    Virtual,
    /// Flash, or nobody tells.
    Other,
}

/// What a time for a flush says about a device.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Gone,
    TooGood,
    Fine,
    Slow,
}

fn verdict(device: Device, flush: Span) -> Verdict {
    // The shortest that is believed without a protected cache: a platter at 15,000 turns a minute needs 2 ms for half a
    // turn, flash and hosts some tens of microseconds for the way there and back.
    let least = match device {
        Device::Memory => return Verdict::Gone,
        Device::Turning => Span::from_millis(1),
        Device::Virtual => Span::from_micros(40),
        Device::Other => Span::from_micros(15),
    };
    if flush < least {
        Verdict::TooGood
    } else if flush > SLOW {
        Verdict::Slow
    } else {
        Verdict::Fine
    }
}

pub fn look(config: &Config, findings: &mut Findings) {
    let dir = &config.data_dir;
    let facts = match std::fs::metadata(dir) {
        Ok(facts) if facts.is_dir() => facts,
        Ok(_) => {
            findings.fail("data", &format!("{} is no directory", dir.display()), "set data_dir to a directory");
            return;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let found = format!("{} is not there", dir.display());
            findings.warn("data", &found, "`allswell serve` makes it at its first start; else set data_dir");
            return;
        }
        Err(error) => {
            let found = format!("{} cannot be looked at: {error}", dir.display());
            findings.fail("data", &found, "run this as the user of the service");
            return;
        }
    };
    permissions(dir, facts.mode(), facts.uid(), findings);
    flush(config, dir, findings);
    free(dir, findings);
    if let Target::Sqlite(path) = config.database.url.target() {
        wal(path, findings);
    }
}

fn permissions(dir: &Path, mode: u32, owner: u32, findings: &mut Findings) {
    let close = format!("chmod 700 {}", dir.display());
    let found = format!("{} has mode {:o}", dir.display(), mode & 0o7777);
    if mode & 0o002 != 0 {
        findings.fail("data", &format!("{found}: every user of this machine may change it"), &close);
    } else if mode & 0o077 != 0 {
        findings.warn("data", &format!("{found}: others may look into it"), &close);
    } else {
        findings.ok("data", &format!("{found}, owner {owner}"));
    }
}

/// The median of several flushes of one block, in a file that is removed at once.
fn measure(dir: &Path) -> std::io::Result<Span> {
    let path = dir.join(format!(".doctor.{}", std::process::id()));
    let file = File::options().write(true).create_new(true).mode(0o600).open(&path);
    let result = file.and_then(|mut file| {
        let mut spans = Vec::new();
        for _ in 0..ROUNDS {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&BYTES)?;
            let begun = now();
            file.sync_data()?;
            spans.push(now() - begun);
        }
        spans.sort();
        Ok(spans[spans.len() / 2])
    });
    // Of a directory that we may not write there is nothing to remove.
    let _ = std::fs::remove_file(&path);
    result
}

fn flush(config: &Config, dir: &Path, findings: &mut Findings) {
    let flush = match measure(dir) {
        Ok(flush) => flush,
        Err(error) => {
            let found = format!("nothing can be written and flushed in {}: {error}", dir.display());
            findings.fail("disk", &found, "look at its owner, its mode, and what is free");
            return;
        }
    };
    let device = device(dir);
    let found = format!("a flush takes {} ms, the median of {ROUNDS}", millis(flush));
    let matters = matches!(config.database.url.target(), Target::Sqlite(_));
    match verdict(device, flush) {
        Verdict::Gone if matters => findings.fail(
            "disk",
            &format!("{} is in memory: all is gone when the machine stops", dir.display()),
            "set data_dir to a directory on a disk",
        ),
        Verdict::Gone => findings.warn(
            "disk",
            &format!("{} is in memory: what is in it is gone when the machine stops", dir.display()),
            "keep the key ring elsewhere (keys.ring_file)",
        ),
        Verdict::TooGood => findings.warn(
            "disk",
            &format!("{found}: too good for {}", kind(device)),
            "either a cache that a battery protects answers, or this disk lies: it says done before the data is safe, and a \
             power cut can lose answered pings. Find out which; if it lies, turn its write cache off",
        ),
        Verdict::Slow => findings.warn(
            "disk",
            &format!("{found}: each ping waits at least as long for its answer"),
            "use a faster disk, or look what else writes to it",
        ),
        Verdict::Fine => findings.ok("disk", &format!("{found}, on {}", kind(device))),
    }
}

fn kind(device: Device) -> &'static str {
    match device {
        Device::Memory => "memory",
        Device::Turning => "a disk that turns",
        Device::Virtual => "the disk of a virtual machine",
        Device::Other => "flash, or a disk that does not say what it is",
    }
}

/// Of tmpfs and ramfs, from Linux' magic.h.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

fn device(dir: &Path) -> Device {
    let in_memory = rustix::fs::statfs(dir).is_ok_and(|fs| IN_MEMORY.contains(&(fs.f_type as u64 & 0xffff_ffff)));
    if in_memory {
        return Device::Memory;
    }
    let Some(block) = std::fs::metadata(dir).ok().and_then(|facts| block_device(facts.dev())) else {
        return Device::Other;
    };
    let name = block.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    if ["vd", "xvd"].iter().any(|prefix| name.starts_with(prefix)) {
        return Device::Virtual;
    }
    let turns = std::fs::read_to_string(block.join("queue/rotational"));
    if turns.is_ok_and(|text| text.trim() == "1") { Device::Turning } else { Device::Other }
}

/// Where the system tells of a whole disk: partitions lie within it.
fn block_device(dev: u64) -> Option<PathBuf> {
    let (major, minor) = (rustix::fs::major(dev), rustix::fs::minor(dev));
    let link = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    let path = link.canonicalize().ok()?;
    if path.join("queue").exists() {
        return Some(path);
    }
    path.parent().filter(|parent| parent.join("queue").exists()).map(Path::to_owned)
}

fn free(dir: &Path, findings: &mut Findings) {
    let Ok(fs) = rustix::fs::statvfs(dir) else {
        findings.note("space", "the system does not tell what is free", "");
        return;
    };
    let (free, all) = (fs.f_bavail * fs.f_frsize, fs.f_blocks * fs.f_frsize);
    let share = if all == 0 { 100 } else { free * 100 / all };
    let found = format!("{} of {} free ({share} %)", bytes(free), bytes(all));
    let advice = "make room, or keep less: retention.pings_per_check, retention.body_bytes_per_check";
    if free < FREE_MIN {
        findings.fail("space", &format!("{found}: pings are refused when it is full"), advice);
    } else if free < FREE_LOW || share < 5 {
        findings.warn("space", &found, advice);
    } else {
        findings.ok("space", &found);
    }
}

fn wal(database: &Path, findings: &mut Findings) {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    let long = std::fs::metadata(name).map_or(0, |facts| facts.len());
    if long > WAL_LONG {
        findings.warn(
            "journal",
            &format!("the write-ahead log has grown to {}", bytes(long)),
            "something keeps the database open for reading: a backup, a shell; end it",
        );
    }
    let mode = std::fs::metadata(database).map_or(0, |facts| facts.permissions().mode());
    if mode & 0o077 != 0 {
        findings.warn(
            "data",
            &format!("{} has mode {:o}: others may read it", database.display(), mode & 0o7777),
            &format!("chmod 600 {}", database.display()),
        );
    }
}

pub fn millis(span: Span) -> String {
    format!("{:.2}", span.as_micros() as f64 / 1_000.0)
}

fn bytes(count: u64) -> String {
    match count {
        0..=1_048_575 => format!("{} KiB", count >> 10),
        1_048_576..=1_073_741_823 => format!("{} MiB", count >> 20),
        _ => format!("{:.1} GiB", count as f64 / (1u64 << 30) as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_too_good_is_told_from_one_that_is_fast() {
        let micros = Span::from_micros;
        for (device, flush, expected) in [
            (Device::Turning, micros(200), Verdict::TooGood),
            (Device::Turning, micros(8_000), Verdict::Fine),
            (Device::Turning, micros(60_000), Verdict::Slow),
            (Device::Other, micros(3), Verdict::TooGood),
            (Device::Other, micros(30), Verdict::Fine),
            (Device::Virtual, micros(30), Verdict::TooGood),
            (Device::Virtual, micros(900), Verdict::Fine),
            (Device::Memory, micros(1), Verdict::Gone),
        ] {
            assert_eq!(verdict(device, flush), expected, "{device:?} {flush:?}");
        }
    }

    #[test]
    fn sizes_are_read_at_a_glance() {
        assert_eq!([bytes(5 << 10), bytes(7 << 20), bytes(3 << 29)], ["5 KiB", "7 MiB", "1.5 GiB"]);
    }

    #[test]
    fn a_flush_is_measured_and_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        measure(dir.path()).expect("a flush");
        assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 0);
        assert!(measure(&dir.path().join("none")).is_err());
    }
}
