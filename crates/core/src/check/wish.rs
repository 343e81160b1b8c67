//! What a ping may wish of the check that is made for it: the parameters beside `create=1`.
//!
//! They are judged as a whole. A check with another schedule than was meant would wake people wrongly, or nobody, so one
//! that cannot be understood makes no check at all, and says which.

use super::{Settings, TimingKind};
use crate::limits;
use crate::schedule::{Schedule, Zones};
use crate::time::Span;

/// A check as it is wished for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Its settings.
    pub settings: Settings,
    /// The channels it tells.
    pub channels: WishedChannels,
}

/// Channels that are wished for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WishedChannels {
    /// Those of the project.
    All,
    /// Those of these names or ids.
    Named(Vec<String>),
}

/// A parameter that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which.
    pub parameter: &'static str,
    /// What it would have to be, for people, as it goes on behind "it".
    pub sentence: String,
}

fn fault(parameter: &'static str, sentence: impl Into<String>) -> Fault {
    Fault {
        parameter,
        sentence: sentence.into(),
    }
}

impl Wish {
    /// What Healthchecks makes of a slug alone.
    pub fn plain(slug: &str) -> Self {
        Wish {
            settings: Settings {
                name: slug.to_owned(),
                slug: slug.to_owned(),
                ..Settings::default()
            },
            channels: WishedChannels::All,
        }
    }

    /// Judges the parameters; `given` tells each by its name. What is not given is as without a wish.
    ///
    /// # Errors
    /// The first parameter that cannot be understood.
    pub fn judge<'p>(
        slug: &str,
        given: impl Fn(&str) -> Option<&'p str>,
        zones: &Zones,
    ) -> Result<Self, Fault> {
        let mut wish = Wish::plain(slug);
        let settings = &mut wish.settings;
        if let Some(name) = text("name", limits::NAME_CHARS_MAX, &given)? {
            name.clone_into(&mut settings.name);
        }
        if let Some(tags) = text("tags", limits::TAGS_CHARS_MAX, &given)? {
            tags.clone_into(&mut settings.tags);
        }
        if let Some(grace) = secs("grace", &given)? {
            settings.grace = grace;
        }
        let (period, expression) = (
            secs("timeout", &given)?,
            text("schedule", limits::EXPRESSION_CHARS_MAX, &given)?,
        );
        let timing = &mut settings.timing;
        match (period, expression, given("tz")) {
            (Some(_), Some(_), _) => {
                return Err(fault(
                    "schedule",
                    "cannot stand beside timeout: a check has one of them",
                ));
            }
            (_, None, Some(_)) => {
                return Err(fault("tz", "is the time zone of a schedule, and none is given"));
            }
            (Some(period), None, None) => timing.period = period,
            (None, None, None) => {}
            (None, Some(expression), zone) => {
                let zone = zones
                    .canonical(zone.unwrap_or("UTC"))
                    .ok_or_else(|| fault("tz", "is the name of a time zone, like Europe/Riga"))?;
                Schedule::parse_with(expression, &zone, zones)
                    .map_err(|error| fault("schedule", format!("cannot be read: {error}")))?;
                timing.kind = TimingKind::Expression;
                expression.clone_into(&mut timing.expression);
                timing.zone = zone.to_string();
            }
        }
        wish.channels = match given("channels") {
            None | Some("*") => WishedChannels::All,
            Some("") => WishedChannels::Named(Vec::new()),
            Some(list) => WishedChannels::Named(list.split(',').map(|name| name.trim().to_owned()).collect()),
        };
        Ok(wish)
    }
}

fn text<'p>(
    parameter: &'static str,
    chars_max: usize,
    given: impl Fn(&str) -> Option<&'p str>,
) -> Result<Option<&'p str>, Fault> {
    match given(parameter) {
        Some(text) if text.chars().count() > chars_max => {
            Err(fault(parameter, format!("may have {chars_max} characters")))
        }
        Some(text) if text.contains('\0') => Err(fault(parameter, "may not hold a zero byte")),
        text => Ok(text),
    }
}

fn secs<'p>(parameter: &'static str, given: impl Fn(&str) -> Option<&'p str>) -> Result<Option<Span>, Fault> {
    let Some(text) = given(parameter) else {
        return Ok(None);
    };
    let (min, max) = (limits::PERIOD_SECS_MIN, limits::PERIOD_SECS_MAX);
    let number = text.parse::<i64>().ok();
    let number = number.filter(|secs| (min..=max).contains(secs) && text.bytes().all(|b| b.is_ascii_digit()));
    number
        .map(|secs| Some(Span::from_secs(secs)))
        .ok_or_else(|| fault(parameter, format!("is a number of seconds from {min} to {max}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(parameters: &[(&str, &'static str)]) -> Result<Wish, Fault> {
        let given = |name: &str| {
            parameters
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| *value)
        };
        Wish::judge("backup", given, &Zones::Bundled)
    }

    #[test]
    fn what_is_wished_is_what_the_check_will_be() {
        assert_eq!(judged(&[]), Ok(Wish::plain("backup")));
        let wish = judged(&[
            ("name", "Nightly backup"),
            ("tags", "prod db"),
            ("schedule", "5 3 * * *"),
            ("tz", "Europe/Riga"),
            ("grace", "900"),
            ("channels", "ops, mail"),
        ])
        .expect("a wish");
        let Settings {
            name,
            slug,
            tags,
            timing,
            grace,
            ..
        } = wish.settings;
        assert_eq!(
            (name.as_str(), slug.as_str(), tags.as_str()),
            ("Nightly backup", "backup", "prod db")
        );
        assert_eq!(
            (timing.kind, timing.expression.as_str(), timing.zone.as_str()),
            (TimingKind::Expression, "5 3 * * *", "Europe/Riga")
        );
        assert_eq!(grace, Span::from_secs(900));
        assert_eq!(
            wish.channels,
            WishedChannels::Named(vec!["ops".to_owned(), "mail".to_owned()])
        );
        let period = judged(&[("timeout", "300"), ("channels", "")]).expect("a wish");
        assert_eq!(period.settings.timing.period, Span::from_secs(300));
        assert_eq!(period.channels, WishedChannels::Named(Vec::new()));
        assert_eq!(judged(&[("channels", "*")]), Ok(Wish::plain("backup")));
    }

    #[test]
    fn what_cannot_be_understood_is_named() {
        for (parameters, named) in [
            (&[("timeout", "59")][..], "timeout"),
            (&[("timeout", "5m")], "timeout"),
            (&[("grace", "+60")], "grace"),
            (&[("grace", "")], "grace"),
            (&[("schedule", "61 * * * *")], "schedule"),
            (&[("schedule", "")], "schedule"),
            (&[("schedule", "* * * * *"), ("timeout", "60")], "schedule"),
            (&[("schedule", "* * * * *"), ("tz", "Moon")], "tz"),
            (&[("tz", "UTC")], "tz"),
            (&[("name", "a\0b")], "name"),
        ] {
            let fault = judged(parameters).expect_err("a fault");
            assert_eq!(fault.parameter, named, "{parameters:?}");
            // It stands behind the parameter's name and "it".
            let verb = fault.sentence.split(' ').next();
            let verbs = ["is", "may", "cannot"];
            assert!(
                verb.is_some_and(|verb| verbs.contains(&verb)),
                "{}",
                fault.sentence
            );
        }
    }
}
