//! The fields of a check as a request sends them: judged in alphabetical order, the first error told
//! (`healthchecks.md` section 3.4).

use allswell_core::check::{Settings, TimingKind};
use allswell_core::limits;
use allswell_core::schedule::{Schedule, Zones};
use allswell_core::slug;
use allswell_core::time::Span;
use serde_json::{Map, Number, Value};

use super::Version;

/// What a request wants changed. `None` is unchanged.
#[derive(Clone, Default, Debug)]
pub(crate) struct Wanted {
    pub(crate) channels: Option<String>,
    desc: Option<String>,
    failure_kw: Option<String>,
    filter_body: Option<bool>,
    filter_default_fail: Option<bool>,
    filter_http_body: Option<bool>,
    filter_subject: Option<bool>,
    grace: Option<i64>,
    manual_resume: Option<bool>,
    post_only: Option<bool>,
    name: Option<String>,
    schedule: Option<String>,
    slug: Option<String>,
    start_kw: Option<String>,
    subject: Option<String>,
    subject_fail: Option<String>,
    success_kw: Option<String>,
    tags: Option<String>,
    timeout: Option<i64>,
    tz: Option<String>,
    pub(crate) unique: Vec<Unique>,
}

/// A field by which a request finds the check it means.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unique {
    Grace,
    Name,
    Slug,
    Tags,
    Timeout,
}

type Judged<T> = Result<T, String>;

/// A string with a rule of its own, which refuses a zero byte among others.
fn word(fields: &Map<String, Value>, name: &str, chars_max: usize) -> Judged<Option<String>> {
    let Some(value) = fields.get(name) else {
        return Ok(None);
    };
    let text = value.as_str().ok_or_else(|| format!("{name} is not a string"))?;
    if text.chars().count() > chars_max {
        return Err(format!("{name} is too long"));
    }
    Ok(Some(text.to_owned()))
}

/// Any string but for one with a zero byte, which PostgreSQL does not take.
fn text(fields: &Map<String, Value>, name: &str, chars_max: usize) -> Judged<Option<String>> {
    match word(fields, name, chars_max)? {
        Some(text) if text.contains('\0') => Err(format!("{name} holds a zero byte")),
        text => Ok(text),
    }
}

fn truth(fields: &Map<String, Value>, name: &str) -> Judged<Option<bool>> {
    let Some(value) = fields.get(name) else {
        return Ok(None);
    };
    value
        .as_bool()
        .map(Some)
        .ok_or_else(|| format!("{name} is not a boolean"))
}

/// A whole number; one beyond 64 bits is as good as the last one within them. `60.0` is not whole here, as it is not
/// for Healthchecks.
fn whole(number: &Number) -> Option<i64> {
    if let Some(small) = number.as_i64() {
        return Some(small);
    }
    let text = number.to_string();
    let digits = text.strip_prefix('-').unwrap_or(&text);
    let whole = digits.bytes().all(|byte| byte.is_ascii_digit());
    whole.then_some(if digits.len() < text.len() {
        i64::MIN
    } else {
        i64::MAX
    })
}

fn secs(fields: &Map<String, Value>, name: &str) -> Judged<Option<i64>> {
    let Some(value) = fields.get(name) else {
        return Ok(None);
    };
    let number = match value {
        // Healthchecks is written in a language whose true is a one.
        Value::Bool(truth) => i64::from(*truth),
        Value::Number(number) => whole(number).ok_or_else(|| format!("{name} is not a number"))?,
        _ => return Err(format!("{name} is not a number")),
    };
    if number < limits::PERIOD_SECS_MIN {
        return Err(format!("{name} is too small"));
    }
    if number > limits::PERIOD_SECS_MAX {
        return Err(format!("{name} is too large"));
    }
    Ok(Some(number))
}

fn schedule(fields: &Map<String, Value>, zones: &Zones) -> Judged<Option<String>> {
    let found = word(fields, "schedule", limits::EXPRESSION_CHARS_MAX)?;
    if let Some(expression) = &found {
        Schedule::parse_with(expression, "UTC", zones)
            .map_err(|_| "schedule is not a valid cron or OnCalendar expression".to_owned())?;
    }
    Ok(found)
}

fn unique(fields: &Map<String, Value>) -> Judged<Vec<Unique>> {
    let Some(value) = fields.get("unique") else {
        return Ok(Vec::new());
    };
    let items = value
        .as_array()
        .ok_or_else(|| "unique is not an array".to_owned())?;
    let item = |item: &Value| match item.as_str() {
        Some("grace") => Ok(Unique::Grace),
        Some("name") => Ok(Unique::Name),
        Some("slug") => Ok(Unique::Slug),
        Some("tags") => Ok(Unique::Tags),
        Some("timeout") => Ok(Unique::Timeout),
        _ => Err("an item in 'unique' has unexpected value".to_owned()),
    };
    items.iter().map(item).collect()
}

/// Judges the fields of a request. The error is the sentence behind `json validation error: `.
pub(crate) fn judge(fields: &Map<String, Value>, zones: &Zones) -> Judged<Wanted> {
    const KEYWORDS: usize = limits::KEYWORDS_CHARS_MAX;
    // The order is the alphabet's: it decides which of several errors is told.
    Ok(Wanted {
        channels: text(fields, "channels", usize::MAX)?,
        desc: text(fields, "desc", limits::DESCRIPTION_BYTES_MAX)?,
        failure_kw: text(fields, "failure_kw", KEYWORDS)?,
        filter_body: truth(fields, "filter_body")?,
        filter_default_fail: truth(fields, "filter_default_fail")?,
        filter_http_body: truth(fields, "filter_http_body")?,
        filter_subject: truth(fields, "filter_subject")?,
        grace: secs(fields, "grace")?,
        manual_resume: truth(fields, "manual_resume")?,
        post_only: match fields.get("methods").map(Value::as_str) {
            None => None,
            Some(Some("")) => Some(false),
            Some(Some("POST")) => Some(true),
            Some(_) => return Err("methods has unexpected value".to_owned()),
        },
        name: text(fields, "name", limits::NAME_CHARS_MAX)?,
        schedule: schedule(fields, zones)?,
        slug: match word(fields, "slug", limits::SLUG_CHARS_MAX)? {
            Some(text) if !slug::is_slug(&text) => return Err("slug does not match pattern".to_owned()),
            slug => slug,
        },
        start_kw: text(fields, "start_kw", KEYWORDS)?,
        subject: text(fields, "subject", KEYWORDS)?,
        subject_fail: text(fields, "subject_fail", KEYWORDS)?,
        success_kw: text(fields, "success_kw", KEYWORDS)?,
        tags: text(fields, "tags", limits::TAGS_CHARS_MAX)?,
        timeout: secs(fields, "timeout")?,
        tz: match word(fields, "tz", usize::MAX)? {
            Some(name) => Some(
                zones
                    .canonical(&name)
                    .ok_or("tz is not a valid timezone")?
                    .to_string(),
            ),
            None => None,
        },
        unique: unique(fields)?,
    })
}

impl Wanted {
    /// Puts what is wanted into a check's settings.
    pub(crate) fn apply(&self, settings: &mut Settings, version: Version) {
        fn set<T: Clone>(place: &mut T, wanted: &Option<T>) {
            if let Some(wanted) = wanted {
                place.clone_from(wanted);
            }
        }
        // A name that is sent as it is, as clients do that write back what they read, is no reason for another slug.
        let renamed = self.name.as_ref().filter(|name| **name != settings.name);
        if let Some(name) = renamed.filter(|_| version < Version::V3) {
            settings.slug = slug::from_name(name);
        }
        set(&mut settings.name, &self.name);
        set(&mut settings.slug, &self.slug);
        set(&mut settings.tags, &self.tags);
        set(&mut settings.description, &self.desc);
        set(&mut settings.grace, &self.grace.map(Span::from_secs));

        let timing = &mut settings.timing;
        set(&mut timing.zone, &self.tz);
        if let Some(expression) = &self.schedule {
            timing.kind = TimingKind::Expression;
            timing.expression.clone_from(expression);
        } else if let Some(period) = self.timeout {
            timing.kind = TimingKind::Period;
            timing.period = Span::from_secs(period);
        }

        let filters = &mut settings.filters;
        set(&mut filters.post_only, &self.post_only);
        set(&mut filters.manual_resume, &self.manual_resume);
        set(&mut filters.start_keywords, &self.start_kw);
        // The deprecated pair first: what is said in today's words is applied after it and wins.
        set(&mut filters.success_keywords, &self.subject);
        set(&mut filters.failure_keywords, &self.subject_fail);
        if self.subject.is_some() || self.subject_fail.is_some() {
            filters.subject = !filters.success_keywords.is_empty() || !filters.failure_keywords.is_empty();
        }
        set(&mut filters.success_keywords, &self.success_kw);
        set(&mut filters.failure_keywords, &self.failure_kw);
        set(&mut filters.subject, &self.filter_subject);
        set(&mut filters.body, &self.filter_body);
        set(&mut filters.http_body, &self.filter_http_body);
        set(&mut filters.default_fail, &self.filter_default_fail);
    }

    /// Whether the request names a check by what is unique about it, and these settings are that check's. All listed
    /// fields must stand in the request.
    pub(crate) fn means(&self, settings: &Settings) -> bool {
        let timing = &settings.timing;
        let equal = |unique: &Unique| match unique {
            Unique::Grace => self.grace.map(Span::from_secs) == Some(settings.grace),
            Unique::Name => self.name.as_ref() == Some(&settings.name),
            Unique::Slug => self.slug.as_ref() == Some(&settings.slug),
            Unique::Tags => self.tags.as_ref() == Some(&settings.tags),
            Unique::Timeout => self.timeout.map(Span::from_secs) == Some(timing.period),
        };
        !self.unique.is_empty() && self.unique.iter().all(equal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(json: &str) -> Judged<Wanted> {
        let fields: Value = serde_json::from_str(json).expect("a test's JSON");
        judge(fields.as_object().expect("an object"), &Zones::Bundled)
    }

    #[test]
    fn the_first_error_of_the_alphabet_is_told() {
        for (json, error) in [
            (r#"{"timeout": 5, "name": 5}"#, "name is not a string"),
            (r#"{"tz": "", "grace": 1, "desc": null}"#, "desc is not a string"),
            (r#"{"timeout": true}"#, "timeout is too small"),
            (r#"{"timeout": 18446744073709551615}"#, "timeout is too large"),
            (r#"{"timeout": 60.0}"#, "timeout is not a number"),
            (r#"{"methods": null}"#, "methods has unexpected value"),
            (r#"{"name": "a\u0000b"}"#, "name holds a zero byte"),
            (r#"{"slug": "a\n"}"#, "slug does not match pattern"),
            (r#"{"slug": "a\u0000"}"#, "slug does not match pattern"),
            (
                r#"{"schedule": "* * * * *\u0000"}"#,
                "schedule is not a valid cron or OnCalendar expression",
            ),
            (r#"{"tz": "UTC\u0000"}"#, "tz is not a valid timezone"),
            (
                r#"{"unique": ["name", 5]}"#,
                "an item in 'unique' has unexpected value",
            ),
        ] {
            assert_eq!(judged(json).err().as_deref(), Some(error), "{json}");
        }
    }

    #[test]
    fn subject_and_subject_fail_are_an_old_way_to_say_keywords() {
        let mut settings = Settings::default();
        judged(r#"{"subject": "ok", "subject_fail": "bad"}"#)
            .expect("valid")
            .apply(&mut settings, Version::V3);
        let filters = &settings.filters;
        assert_eq!(
            (
                filters.success_keywords.as_str(),
                filters.failure_keywords.as_str()
            ),
            ("ok", "bad")
        );
        assert!(filters.subject);
        judged(r#"{"subject": "", "subject_fail": "", "failure_kw": "x"}"#)
            .expect("valid")
            .apply(&mut settings, Version::V3);
        assert!(!settings.filters.subject);
        assert_eq!(settings.filters.failure_keywords, "x");
    }

    #[test]
    fn what_is_unique_must_stand_in_the_request_and_fit() {
        let settings = Settings {
            name: "a".into(),
            tags: "x y".into(),
            ..Settings::default()
        };
        for (json, means) in [
            (r#"{"name": "a", "unique": ["name"]}"#, true),
            (r#"{"name": "a", "tags": "x", "unique": ["name", "tags"]}"#, false),
            (
                r#"{"name": "a", "tags": "x y", "timeout": 86400, "unique": ["name", "tags", "timeout"]}"#,
                true,
            ),
            (r#"{"unique": ["name"]}"#, false),
            (r#"{"name": "a", "unique": []}"#, false),
        ] {
            assert_eq!(judged(json).expect("valid").means(&settings), means, "{json}");
        }
    }
}
