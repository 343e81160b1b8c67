//! The fields of a request: judged one by one, all faults told at once, none of them half applied.

use allswell_core::check::{Settings, TimingKind};
use allswell_core::id::ChannelId;
use allswell_core::limits;
use allswell_core::schedule::{Schedule, Zones};
use allswell_core::slug;
use allswell_core::time::{Span, Timestamp};
use serde_json::{Map, Value};

use super::problem::{Fault, Problem};
use super::rules::{WantedRules, rules};

/// Fields while they are judged: what is taken is gone, what is left at the end is unknown.
pub(super) struct Fields {
    map: Map<String, Value>,
    within: String,
    known: Vec<&'static str>,
    faults: Vec<Fault>,
}

impl Fields {
    pub(super) fn new(map: Map<String, Value>) -> Self {
        Fields {
            map,
            within: String::new(),
            known: Vec::new(),
            faults: Vec::new(),
        }
    }

    pub(super) fn fault(&mut self, name: &str, detail: impl Into<String>) {
        self.push(name, None, detail.into());
    }

    /// A fault of a rule that has a code: the same codes as channels have.
    fn broken(&mut self, name: &str, rule: &'static str, detail: impl Into<String>) {
        self.push(name, Some(rule), detail.into());
    }

    fn push(&mut self, name: &str, rule: Option<&'static str>, detail: String) {
        self.faults.push(Fault {
            field: format!("{}{name}", self.within),
            detail,
            rule,
        });
    }

    /// Whether something is wrong with this field already.
    pub(super) fn has_fault(&self, name: &str) -> bool {
        let path = format!("{}{name}", self.within);
        self.faults.iter().any(|fault| fault.field == path)
    }

    /// What `judge` makes of a field; `Some(None)` for one that is null.
    pub(super) fn or_null<T>(
        &mut self,
        name: &'static str,
        judge: impl FnOnce(&mut Fields) -> Option<T>,
    ) -> Option<Option<T>> {
        if self.map.get(name).is_some_and(Value::is_null) {
            return self.take(name).map(|_| None);
        }
        judge(self).map(Some)
    }

    /// A number, rounded to tenths.
    pub(super) fn tenths(&mut self, name: &'static str, range: std::ops::RangeInclusive<u16>) -> Option<u16> {
        let value = self.take(name)?;
        let [least, most] = [range.start(), range.end()].map(|tenths| f64::from(*tenths) / 10.0);
        let number = value.as_f64().filter(|number| (least..=most).contains(number));
        if number.is_none() {
            self.broken(name, "range", format!("must be a number from {least} to {most}"));
        }
        let tenths = (number? * 10.0).round();
        range.clone().find(|known| f64::from(*known) == tenths)
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.map.remove(name)
    }

    pub(super) fn text(&mut self, name: &'static str, chars_max: usize) -> Option<String> {
        match self.take(name)? {
            Value::String(text) if text.chars().count() > chars_max => {
                self.broken(name, "length", format!("may have {chars_max} characters"));
                None
            }
            Value::String(text) if text.contains('\0') => {
                self.broken(name, "characters", "may not hold a zero byte");
                None
            }
            Value::String(text) => Some(text),
            _ => {
                self.broken(name, "type", "must be a string");
                None
            }
        }
    }

    pub(super) fn truth(&mut self, name: &'static str) -> Option<bool> {
        let value = self.take(name)?;
        let truth = value.as_bool();
        if truth.is_none() {
            self.broken(name, "type", "must be true or false");
        }
        truth
    }

    pub(super) fn whole(&mut self, name: &'static str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let value = self.take(name)?;
        let number = value.as_i64().filter(|number| range.contains(number));
        if number.is_none() {
            self.broken(
                name,
                "range",
                format!("must be a whole number from {} to {}", range.start(), range.end()),
            );
        }
        number
    }

    pub(super) fn word<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)]) -> Option<T> {
        let value = self.take(name)?;
        let found = value
            .as_str()
            .and_then(|text| words.iter().find(|(word, _)| *word == text));
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.broken(name, "word", format!("must be one of: {}", known.join(", ")));
        }
        found.map(|(_, meaning)| *meaning)
    }

    /// An instant in RFC 3339.
    pub(super) fn instant(&mut self, name: &'static str) -> Option<Timestamp> {
        let value = self.take(name)?;
        let instant = value.as_str().and_then(Timestamp::parse_rfc3339);
        if instant.is_none() {
            self.broken(
                name,
                "type",
                "must be an instant in RFC 3339, like 2026-12-01T08:00:00+02:00",
            );
        }
        instant
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, name: &'static str, items_max: usize) -> Option<Vec<String>> {
        let value = self.take(name)?;
        let items = value.as_array().filter(|items| items.len() <= items_max);
        let texts: Option<Vec<String>> = items.and_then(|items| {
            let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
            texts.collect()
        });
        if texts.is_none() {
            self.broken(
                name,
                "type",
                format!("must be a list of at most {items_max} strings"),
            );
        }
        texts
    }

    /// Fields of an object within, judged by `judge`.
    pub(super) fn object<T>(
        &mut self,
        name: &'static str,
        judge: impl FnOnce(&mut Fields) -> T,
    ) -> Option<T> {
        match self.take(name)? {
            Value::Object(map) => {
                let mut inner = Fields {
                    within: format!("{}{name}.", self.within),
                    ..Fields::new(map)
                };
                let judged = judge(&mut inner);
                inner.refuse_unknown();
                self.faults.append(&mut inner.faults);
                Some(judged)
            }
            _ => {
                self.broken(name, "type", "must be an object");
                None
            }
        }
    }

    fn refuse_unknown(&mut self) {
        let unknown: Vec<String> = self.map.keys().take(10).cloned().collect();
        for name in unknown {
            // What a stranger wrote is shown, but not all of a megabyte.
            let name: String = name.chars().take(100).collect();
            let known = self.known.join(", ");
            self.broken(&name, "unknown", format!("is no field here; there are: {known}"));
        }
    }

    /// Refuses what is left, and tells all faults.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        self.refuse_unknown();
        if self.faults.is_empty() {
            Ok(())
        } else {
            Err(Problem::fields(self.faults))
        }
    }
}

/// What a request wants of a check. `None` is unchanged.
#[derive(Clone, Default, Debug)]
pub(super) struct Wanted {
    name: Option<String>,
    slug: Option<String>,
    tags: Option<String>,
    description: Option<String>,
    schedule: Option<WantedSchedule>,
    grace: Option<Span>,
    post_only: Option<bool>,
    manual_resume: Option<bool>,
    filters: Option<WantedFilters>,
    rules: Option<WantedRules>,
    pub(super) channels: Option<Vec<ChannelId>>,
}

#[derive(Clone, Debug)]
enum WantedSchedule {
    Period(Span),
    Expression { expression: String, zone: String },
}

#[derive(Clone, Default, Debug)]
struct WantedFilters {
    http_body: Option<bool>,
    subject: Option<bool>,
    body: Option<bool>,
    default_fail: Option<bool>,
    start_keywords: Option<String>,
    success_keywords: Option<String>,
    failure_keywords: Option<String>,
}

/// Judges the fields of a check.
pub(super) fn check(map: Map<String, Value>, zones: &Zones) -> Result<Wanted, Problem> {
    const SECS: std::ops::RangeInclusive<i64> = limits::PERIOD_SECS_MIN..=limits::PERIOD_SECS_MAX;
    let mut fields = Fields::new(map);
    let wanted = Wanted {
        name: fields.text("name", limits::NAME_CHARS_MAX),
        slug: fields.text("slug", limits::SLUG_CHARS_MAX),
        tags: tags(&mut fields),
        description: fields.text("description", limits::DESCRIPTION_BYTES_MAX),
        schedule: fields
            .object("schedule", |inner| schedule(inner, zones))
            .flatten(),
        grace: fields.whole("grace_secs", SECS).map(Span::from_secs),
        post_only: fields.word("methods", &[("any", false), ("post", true)]),
        manual_resume: fields.truth("manual_resume"),
        filters: fields.object("filters", filters),
        rules: rules(&mut fields),
        channels: channels(&mut fields),
    };
    if wanted.slug.as_deref().is_some_and(|slug| !slug::is_slug(slug)) {
        fields.fault("slug", "may have only a to z, 0 to 9, hyphens and underscores");
    }
    fields.finish()?;
    Ok(wanted)
}

fn tags(fields: &mut Fields) -> Option<String> {
    let tags = fields.texts("tags", 100)?;
    if tags
        .iter()
        .any(|tag| tag.is_empty() || tag.contains(char::is_whitespace) || tag.contains('\0'))
    {
        fields.fault("tags", "must be words without spaces");
    }
    let joined = tags.join(" ");
    if joined.chars().count() > limits::TAGS_CHARS_MAX {
        fields.fault(
            "tags",
            format!("may have {} characters together", limits::TAGS_CHARS_MAX),
        );
    }
    Some(joined)
}

fn channels(fields: &mut Fields) -> Option<Vec<ChannelId>> {
    let texts = fields.texts("channels", 1_000)?;
    let mut ids: Vec<ChannelId> = Vec::with_capacity(texts.len());
    for text in &texts {
        match text.parse() {
            Ok(id) => ids.push(id),
            Err(_) => fields.fault("channels", "must be ids of channels, as /v1/channels lists them"),
        }
    }
    ids.sort();
    ids.dedup();
    Some(ids)
}

fn schedule(fields: &mut Fields, zones: &Zones) -> Option<WantedSchedule> {
    let every = fields.whole("every_secs", limits::PERIOD_SECS_MIN..=limits::PERIOD_SECS_MAX);
    let expression = fields.text("expression", limits::EXPRESSION_CHARS_MAX);
    let zone = fields.text("time_zone", 100);
    let zone = match zone.as_deref() {
        None => Some("UTC".to_owned()),
        Some(name) => zones.canonical(name).map(|name| name.to_string()),
    };
    let Some(zone) = zone else {
        fields.fault("time_zone", "must be the name of a time zone, like Europe/Riga");
        return None;
    };
    match (every, expression) {
        (Some(secs), None) => Some(WantedSchedule::Period(Span::from_secs(secs))),
        (None, Some(expression)) => match Schedule::parse_with(&expression, &zone, zones) {
            Ok(_) => Some(WantedSchedule::Expression { expression, zone }),
            Err(error) => {
                fields.fault("expression", error.to_string());
                None
            }
        },
        _ => {
            if fields.faults.is_empty() {
                fields.fault(
                    "every_secs",
                    "a schedule has either every_secs, or an expression (cron or OnCalendar) with a time_zone",
                );
            }
            None
        }
    }
}

fn filters(fields: &mut Fields) -> WantedFilters {
    WantedFilters {
        http_body: fields.truth("http_body"),
        subject: fields.truth("subject"),
        body: fields.truth("body"),
        default_fail: fields.truth("default_fail"),
        start_keywords: fields.text("start_keywords", limits::KEYWORDS_CHARS_MAX),
        success_keywords: fields.text("success_keywords", limits::KEYWORDS_CHARS_MAX),
        failure_keywords: fields.text("failure_keywords", limits::KEYWORDS_CHARS_MAX),
    }
}

fn set<T: Clone>(place: &mut T, wanted: &Option<T>) {
    if let Some(wanted) = wanted {
        place.clone_from(wanted);
    }
}

impl Wanted {
    /// Puts what is wanted into a check's settings.
    pub(super) fn apply(&self, settings: &mut Settings) {
        set(&mut settings.name, &self.name);
        set(&mut settings.slug, &self.slug);
        set(&mut settings.tags, &self.tags);
        set(&mut settings.description, &self.description);
        set(&mut settings.grace, &self.grace);
        let timing = &mut settings.timing;
        match &self.schedule {
            None => {}
            Some(WantedSchedule::Period(period)) => {
                timing.kind = TimingKind::Period;
                timing.period = *period;
            }
            Some(WantedSchedule::Expression { expression, zone }) => {
                timing.kind = TimingKind::Expression;
                timing.expression.clone_from(expression);
                timing.zone.clone_from(zone);
            }
        }
        if let Some(wanted) = &self.rules {
            wanted.apply(&mut settings.rules);
        }
        let filters = &mut settings.filters;
        set(&mut filters.post_only, &self.post_only);
        set(&mut filters.manual_resume, &self.manual_resume);
        if let Some(wanted) = &self.filters {
            set(&mut filters.http_body, &wanted.http_body);
            set(&mut filters.subject, &wanted.subject);
            set(&mut filters.body, &wanted.body);
            set(&mut filters.default_fail, &wanted.default_fail);
            set(&mut filters.start_keywords, &wanted.start_keywords);
            set(&mut filters.success_keywords, &wanted.success_keywords);
            set(&mut filters.failure_keywords, &wanted.failure_keywords);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(fields: Value) -> Result<Wanted, String> {
        let Value::Object(map) = fields else {
            panic!("an object")
        };
        check(map, &Zones::Bundled).map_err(|problem| format!("{problem:?}"))
    }

    #[test]
    fn each_fault_is_told_with_the_path_to_its_field() {
        for (fields, field) in [
            (json!({ "name": 5 }), "name"),
            (json!({ "name": "x".repeat(101) }), "name"),
            (json!({ "slug": "Ä" }), "slug"),
            (json!({ "tags": "a b" }), "tags"),
            (json!({ "tags": ["a b"] }), "tags"),
            (json!({ "grace_secs": 59 }), "grace_secs"),
            (json!({ "grace_secs": 60.5 }), "grace_secs"),
            (json!({ "schedule": "* * * * *" }), "schedule"),
            (json!({ "schedule": {} }), "schedule.every_secs"),
            (
                json!({ "schedule": { "every_secs": 60, "expression": "* * * * *" } }),
                "schedule.every_secs",
            ),
            (
                json!({ "schedule": { "expression": "61 * * * *" } }),
                "schedule.expression",
            ),
            (
                json!({ "schedule": { "expression": "* * * * *", "time_zone": "Moon" } }),
                "schedule.time_zone",
            ),
            (json!({ "methods": "POST" }), "methods"),
            (json!({ "filters": { "http_body": 1 } }), "filters.http_body"),
            (json!({ "filters": { "nope": 1 } }), "filters.nope"),
            (json!({ "timeout": 60 }), "timeout"),
            (json!({ "channels": ["x"] }), "channels"),
        ] {
            let told = judged(fields.clone()).expect_err("a fault");
            assert!(told.contains(&format!("field: \"{field}\"")), "{fields}: {told}");
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let told = judged(json!({ "name": 5, "grace_secs": 1, "what": null })).expect_err("faults");
        for field in ["name", "grace_secs", "what"] {
            assert!(told.contains(&format!("field: \"{field}\"")), "{field}: {told}");
        }
    }

    #[test]
    fn a_fault_says_what_is_asked() {
        for fields in [
            json!({ "name": 5 }),
            json!({ "grace_secs": "1" }),
            json!({ "methods": "PUT" }),
            json!({ "filters": 5 }),
            json!({ "filters": { "http_body": 1 } }),
            json!({ "tags": "a" }),
            json!({ "tags": ["a b"] }),
            json!({ "channels": ["x"] }),
        ] {
            let told = judged(fields.clone()).expect_err("a fault");
            assert!(told.contains("must be "), "{fields}: {told}");
        }
    }

    #[test]
    fn what_is_not_named_stays() {
        let mut settings = Settings {
            name: "a".into(),
            tags: "x y".into(),
            ..Settings::default()
        };
        let before = settings.clone();
        judged(json!({})).expect("nothing wrong").apply(&mut settings);
        assert_eq!(settings, before);
        judged(json!({ "schedule": { "expression": "0 5 * * *", "time_zone": "Europe/Riga" }, "grace_secs": 120 }))
            .expect("nothing wrong")
            .apply(&mut settings);
        assert_eq!(settings.timing.zone, "Europe/Riga");
        assert_eq!(
            (settings.name.as_str(), settings.grace),
            ("a", Span::from_secs(120))
        );
    }
}
