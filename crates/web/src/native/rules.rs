//! The rules of a check as a request names them: each by itself, `null` to turn it off.

use allswell_core::check::{FailureRate, Rules, Settings, UnusualRun};
use allswell_core::limits::{
    FAILURE_WINDOW_MAX, FAILURE_WINDOW_MIN, FAILURES_MAX, RULE_SECS_MAX, RUN_SAMPLES_DEFAULT,
    RUN_SAMPLES_MAX, RUN_SAMPLES_MIN, UNUSUAL_TENTHS_MAX, UNUSUAL_TENTHS_MIN,
};

use super::fields::Fields;
use super::problem::Problem;

/// What a request wants of the rules. `None` is unchanged, and `Some(None)` is off.
#[derive(Clone, Default, Debug)]
pub(super) struct WantedRules {
    failures: Option<Option<u8>>,
    failure_rate: Option<Option<FailureRate>>,
    max_run_secs: Option<Option<u32>>,
    start_grace_secs: Option<Option<u32>>,
    min_run_secs: Option<Option<u32>>,
    unusual_run: Option<Option<UnusualRun>>,
}

/// Judges the field `rules`; `null` turns all of them off.
pub(super) fn rules(fields: &mut Fields) -> Option<WantedRules> {
    let off = || WantedRules {
        failures: Some(None),
        failure_rate: Some(None),
        max_run_secs: Some(None),
        start_grace_secs: Some(None),
        min_run_secs: Some(None),
        unusual_run: Some(None),
    };
    let wanted = fields.or_null("rules", |fields| fields.object("rules", each))?;
    Some(wanted.unwrap_or_else(off))
}

fn each(fields: &mut Fields) -> WantedRules {
    // One failure is as many as without the rule.
    let failures = fields.or_null("failures", |fields| small(fields, "failures", 1..=FAILURES_MAX));
    WantedRules {
        failures: failures.map(|wanted| wanted.filter(|failures| *failures > 1)),
        failure_rate: fields.or_null("failure_rate", |fields| {
            fields.object("failure_rate", failure_rate).flatten()
        }),
        max_run_secs: secs(fields, "max_run_secs"),
        start_grace_secs: secs(fields, "start_grace_secs"),
        min_run_secs: secs(fields, "min_run_secs"),
        unusual_run: fields.or_null("unusual_run", |fields| {
            fields.object("unusual_run", unusual_run).flatten()
        }),
    }
}

fn small(fields: &mut Fields, name: &'static str, range: std::ops::RangeInclusive<i64>) -> Option<u8> {
    fields
        .whole(name, range)
        .and_then(|number| u8::try_from(number).ok())
}

fn secs(fields: &mut Fields, name: &'static str) -> Option<Option<u32>> {
    fields.or_null(name, |fields| {
        let secs = fields.whole(name, 1..=RULE_SECS_MAX)?;
        u32::try_from(secs).ok()
    })
}

fn needed<T>(fields: &mut Fields, name: &'static str, what: &str, value: Option<T>) -> Option<T> {
    if value.is_none() && !fields.has_fault(name) {
        fields.fault(name, format!("is needed: {what}"));
    }
    value
}

fn failure_rate(fields: &mut Fields) -> Option<FailureRate> {
    let percent = small(fields, "percent", 1..=100);
    let percent = needed(fields, "percent", "failures of a hundred outcomes", percent);
    let window = small(fields, "window", FAILURE_WINDOW_MIN..=FAILURE_WINDOW_MAX);
    let window = needed(fields, "window", "how many of the last outcomes count", window);
    Some(FailureRate {
        percent: percent?,
        window: window?,
    })
}

fn unusual_run(fields: &mut Fields) -> Option<UnusualRun> {
    let tenths = fields.tenths("factor", UNUSUAL_TENTHS_MIN..=UNUSUAL_TENTHS_MAX);
    let tenths = needed(fields, "factor", "how many times longer than usual", tenths);
    let most = i64::try_from(RUN_SAMPLES_MAX).unwrap_or(i64::MAX);
    let samples = small(fields, "samples", RUN_SAMPLES_MIN..=most);
    Some(UnusualRun {
        tenths: tenths?,
        samples: samples.unwrap_or(RUN_SAMPLES_DEFAULT),
    })
}

fn set<T: Copy>(place: &mut T, wanted: Option<T>) {
    if let Some(wanted) = wanted {
        *place = wanted;
    }
}

impl WantedRules {
    /// Puts what is wanted into rules.
    pub(super) fn apply(&self, rules: &mut Rules) {
        set(&mut rules.failures, self.failures);
        set(&mut rules.failure_rate, self.failure_rate);
        set(&mut rules.max_run_secs, self.max_run_secs);
        set(&mut rules.start_grace_secs, self.start_grace_secs);
        set(&mut rules.min_run_secs, self.min_run_secs);
        set(&mut rules.unusual_run, self.unusual_run);
    }
}

/// Refuses rules of which one makes another senseless: asked of what a check would have, not of a request alone.
pub(super) fn agree(settings: &Settings) -> Result<(), Problem> {
    match settings.rules.contradiction() {
        None => Ok(()),
        Some((rule, why)) => Err(Problem::field(format!("rules.{rule}"), why)),
    }
}

#[cfg(test)]
mod tests {
    use allswell_core::schedule::Zones;
    use serde_json::{Value, json};

    use super::super::fields::check;
    use super::*;

    fn applied(settings: &mut Settings, rules: Value) -> Result<(), String> {
        let Value::Object(map) = json!({ "rules": rules }) else {
            panic!("an object")
        };
        let wanted = check(map, &Zones::Bundled).map_err(|problem| format!("{problem:?}"))?;
        wanted.apply(settings);
        Ok(())
    }

    #[test]
    fn each_fault_is_told_with_the_path_to_its_field() {
        for (rules, field) in [
            (json!(3), "rules"),
            (json!({ "failures": 0 }), "rules.failures"),
            (json!({ "failures": 101 }), "rules.failures"),
            (json!({ "failures": 2.5 }), "rules.failures"),
            (json!({ "failures": "3" }), "rules.failures"),
            (json!({ "failure_rate": 50 }), "rules.failure_rate"),
            (
                json!({ "failure_rate": { "percent": 50 } }),
                "rules.failure_rate.window",
            ),
            (
                json!({ "failure_rate": { "window": 10 } }),
                "rules.failure_rate.percent",
            ),
            (
                json!({ "failure_rate": { "percent": 101, "window": 10 } }),
                "rules.failure_rate.percent",
            ),
            (
                json!({ "failure_rate": { "percent": 50, "window": 1 } }),
                "rules.failure_rate.window",
            ),
            (
                json!({ "failure_rate": { "percent": 50, "window": 10, "secs": 5 } }),
                "rules.failure_rate.secs",
            ),
            (json!({ "max_run_secs": 0 }), "rules.max_run_secs"),
            (json!({ "max_run_secs": 31_536_001 }), "rules.max_run_secs"),
            (json!({ "start_grace_secs": -1 }), "rules.start_grace_secs"),
            (json!({ "min_run_secs": true }), "rules.min_run_secs"),
            (json!({ "unusual_run": {} }), "rules.unusual_run.factor"),
            (
                json!({ "unusual_run": { "factor": 1 } }),
                "rules.unusual_run.factor",
            ),
            (
                json!({ "unusual_run": { "factor": "2" } }),
                "rules.unusual_run.factor",
            ),
            (
                json!({ "unusual_run": { "factor": 101 } }),
                "rules.unusual_run.factor",
            ),
            (
                json!({ "unusual_run": { "factor": 2, "samples": 21 } }),
                "rules.unusual_run.samples",
            ),
            (json!({ "nope": 1 }), "rules.nope"),
        ] {
            let mut settings = Settings::default();
            let told = applied(&mut settings, rules.clone()).expect_err("a fault");
            assert!(told.contains(&format!("field: \"{field}\"")), "{rules}: {told}");
            assert_eq!(settings, Settings::default());
        }
    }

    #[test]
    fn what_is_set_is_shown_in_the_same_words_and_null_turns_it_off() {
        let mut settings = Settings::default();
        let all = json!({
            "failures": 3, "failure_rate": { "percent": 50, "window": 10 }, "max_run_secs": 300, "start_grace_secs": 60,
            "min_run_secs": 5, "unusual_run": { "factor": 2.5, "samples": 7 },
        });
        applied(&mut settings, all.clone()).expect("nothing wrong");
        assert_eq!(settings.rules.shown(), all);
        // What is not named stays.
        applied(
            &mut settings,
            json!({ "max_run_secs": null, "unusual_run": { "factor": 3 } }),
        )
        .expect("nothing wrong");
        let mut left = all;
        left["max_run_secs"] = Value::Null;
        left["unusual_run"] = json!({ "factor": 3.0, "samples": 5 });
        assert_eq!(settings.rules.shown(), left);
        applied(&mut settings, json!({ "failures": 1 })).expect("nothing wrong");
        assert_eq!(settings.rules.failures, None);
        applied(&mut settings, Value::Null).expect("nothing wrong");
        assert_eq!(settings, Settings::default());
    }
}
