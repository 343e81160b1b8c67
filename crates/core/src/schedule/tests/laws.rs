//! Laws, against a slow definition that walks minute by minute.
//!
//! The oracle knows nothing of grids or turns: it asks the zone what the clock shows at each minute, and the
//! minutes' hour, minute and weekday are compared with sets. Random starts lie around changes of the clock.

use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use proptest::prelude::*;

use super::*;

const ZONES: [&str; 20] = [
    "Europe/Riga",
    "America/New_York",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
    "America/Havana",
    "Asia/Beirut",
    "Asia/Gaza",
    "America/St_Johns",
    "Pacific/Apia",
    "Africa/Casablanca",
    "America/Sao_Paulo",
    "Asia/Pyongyang",
    "Antarctica/Casey",
    "Antarctica/Macquarie",
    "America/Nuuk",
    "Pacific/Norfolk",
    "Asia/Tehran",
    "Africa/Cairo",
    "America/Caracas",
    "UTC",
];

/// How far the oracle walks.
const WALK_MINUTES: i64 = 3 * 24 * 60;

/// Hours and minutes as lists, and whether stars lead them.
#[derive(Clone, Debug)]
struct Pattern {
    minutes: Vec<i8>,
    hours: Vec<i8>,
    star: bool,
}

impl Pattern {
    fn cron(&self) -> String {
        let list = |numbers: &[i8]| numbers.iter().map(i8::to_string).collect::<Vec<_>>().join(",");
        // A star with a step that only reaches 0 adds the value 0, which the list then has too.
        let star = if self.star { "*/60," } else { "" };
        format!("{star}{} {} * * *", list(&self.minutes), list(&self.hours))
    }

    fn calendar(&self) -> String {
        let list = |numbers: &[i8]| numbers.iter().map(i8::to_string).collect::<Vec<_>>().join(",");
        format!("{}:{}", list(&self.hours), list(&self.minutes))
    }

    fn matches(&self, wall: DateTime) -> bool {
        self.minutes.contains(&wall.minute()) && self.hours.contains(&wall.hour())
    }
}

fn patterns() -> impl Strategy<Value = Pattern> {
    let minutes = prop::collection::btree_set(0i8..60, 1..5);
    let hours = prop_oneof![
        Just((0..24).collect()),
        prop::collection::btree_set(0i8..24, 1..8),
        prop::collection::btree_set(0i8..5, 1..4),
    ];
    (minutes, hours, any::<bool>()).prop_map(|(mut minutes, hours, star)| {
        if star {
            minutes.insert(0);
        }
        Pattern {
            minutes: minutes.into_iter().collect(),
            hours: hours.into_iter().collect(),
            star,
        }
    })
}

/// A zone and a second near one of its changes between 1990 and 2050.
fn starts() -> impl Strategy<Value = (&'static str, i64)> {
    (0..ZONES.len(), 631_152_000i64..2_524_608_000, -200_000i64..10_000).prop_map(|(zone, around, before)| {
        let rules = rules(ZONES[zone]);
        let around = jiff::Timestamp::from_second(around).expect("in range");
        let change = rules
            .following(around)
            .next()
            .map_or(around, |transition| transition.timestamp());
        (ZONES[zone], change.as_second() + before)
    })
}

fn rules(zone: &str) -> TimeZone {
    TimeZoneDatabase::bundled().get(zone).expect("a zone")
}

fn second(at: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(at).expect("in range")
}

/// Every minute after `after`, with what the clock shows and what it showed a minute earlier.
fn walk(rules: &TimeZone, after: i64) -> impl Iterator<Item = (i64, DateTime, DateTime)> {
    let first = after.div_euclid(60) * 60 + 60;
    (0..WALK_MINUTES).map(move |minute| {
        let at = first + minute * 60;
        (
            at,
            rules.to_datetime(second(at - 60)),
            rules.to_datetime(second(at)),
        )
    })
}

/// Whether the clock had shown `wall` before, in the last two days.
fn shown_before(rules: &TimeZone, at: i64, wall: DateTime) -> bool {
    (1..2 * 24 * 60).any(|minutes| rules.to_datetime(second(at - minutes * 60)) == wall)
}

fn next(expression: &str, zone: &str, after: i64) -> Option<i64> {
    let next = schedule(expression, zone).next_after(Timestamp::from_micros(after * MICROS));
    next.map(|at| at.as_micros() / MICROS)
}

fn soon(found: Option<i64>, after: i64) -> Option<i64> {
    found.filter(|at| *at < after.div_euclid(60) * 60 + 60 + WALK_MINUTES * 60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_wildcard_job_runs_whenever_the_clock_matches(pattern in patterns(), (zone, after) in starts()) {
        let rules = rules(zone);
        let pattern = Pattern { star: true, minutes: [&[0], pattern.minutes.as_slice()].concat(), ..pattern };
        let expected = walk(&rules, after).find(|(_, _, wall)| pattern.matches(*wall)).map(|(at, ..)| at);
        prop_assert_eq!(soon(next(&pattern.cron(), zone, after), after), expected);
    }

    #[test]
    fn a_fixed_job_runs_once_for_each_time_of_the_wall(pattern in patterns(), (zone, after) in starts()) {
        let rules = rules(zone);
        let pattern = Pattern { star: false, ..pattern };
        let expected = walk(&rules, after).find(|(at, before, wall)| {
            // What the clock jumped over counts as shown now.
            let mut skipped = before.saturating_add(jiff::Span::new().minutes(1));
            while skipped < *wall {
                if pattern.matches(skipped) {
                    return true;
                }
                skipped = skipped.saturating_add(jiff::Span::new().minutes(1));
            }
            pattern.matches(*wall) && !shown_before(&rules, *at, *wall)
        });
        prop_assert_eq!(soon(next(&pattern.cron(), zone, after), after), expected.map(|(at, ..)| at));
    }

    #[test]
    fn oncalendar_runs_when_the_clock_first_matches(pattern in patterns(), (zone, after) in starts()) {
        let rules = rules(zone);
        let expected = walk(&rules, after)
            .find(|(at, _, wall)| pattern.matches(*wall) && !shown_before(&rules, *at, *wall));
        prop_assert_eq!(soon(next(&pattern.calendar(), zone, after), after), expected.map(|(at, ..)| at));
    }

    #[test]
    fn between_now_and_the_next_time_the_next_time_stays_the_same(
        pattern in patterns(),
        (zone, after) in starts(),
        part in 0.0..1.0f64,
    ) {
        for expression in [pattern.cron(), pattern.calendar()] {
            let found = next(&expression, zone, after).expect("without end");
            prop_assert!(found > after);
            let between = after + ((found - after - 1) as f64 * part) as i64;
            prop_assert_eq!(next(&expression, zone, between), Some(found), "{} after {}", expression, between);
        }
    }
}
