//! `allswell check update`, and the flags for the rules of a check.

use allswell_core::check::{FailureRate, Rules, UnusualRun};
use allswell_core::limits::{
    FAILURE_WINDOW_MAX, FAILURE_WINDOW_MIN, FAILURES_MAX, RULE_SECS_MAX, RUN_SAMPLES_DEFAULT,
    RUN_SAMPLES_MAX, RUN_SAMPLES_MIN, UNUSUAL_TENTHS_MAX, UNUSUAL_TENTHS_MIN,
};
use clap::Args;

use super::OneCheck;
use super::times::{expected, secs, secs_within};

/// What a flag sets: a rule, or that there is none.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Rule<T> {
    Off,
    On(T),
}

#[derive(Args, Debug, Default, PartialEq)]
#[command(next_help_heading = "Rules; each is off unless set, and `off` takes it away")]
pub struct RuleFlags {
    /// Go down with this many failures in a row, 1 to 100
    #[arg(long, value_name = "N", value_parser = failures)]
    failures: Option<Rule<u8>>,
    /// Go down when so many of a hundred of the last outcomes failed, like 50/10: half of the last 10
    #[arg(long, value_name = "PERCENT/WINDOW", value_parser = failure_rate)]
    failure_rate: Option<Rule<FailureRate>>,
    /// How long a run may take from its start ping, in place of the grace: in seconds, or like 90s, 5m, 1h
    #[arg(long, value_name = "TIME", value_parser = rule_secs)]
    max_run: Option<Rule<u32>>,
    /// How soon after the expected time a run must start, in the same form
    #[arg(long, value_name = "TIME", value_parser = rule_secs)]
    start_grace: Option<Rule<u32>>,
    /// How long a run takes at least, in the same form; a success that comes sooner is a failure
    #[arg(long, value_name = "TIME", value_parser = rule_secs)]
    min_run: Option<Rule<u32>>,
    /// Go down when a run takes so many times longer than the median of the runs before, like 3, or 2.5/10 to wait
    /// until 10 are known
    #[arg(long, value_name = "FACTOR[/RUNS]", value_parser = unusual_run)]
    unusual_run: Option<Rule<UnusualRun>>,
}

#[derive(Args)]
pub struct EditCheck {
    #[command(flatten)]
    pub one: OneCheck,
    /// What people call the check
    #[arg(long)]
    pub name: Option<String>,
    /// Readable part of its address for pings by slug
    #[arg(long)]
    pub slug: Option<String>,
    /// Tags, separated by spaces
    #[arg(long)]
    pub tags: Option<String>,
    /// What it is for, in as many words as you like
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// Time between two pings: in seconds, or like 90s, 5m, 1h, 1d; a minute to a year
    #[arg(long, value_name = "TIME", conflicts_with = "schedule", value_parser = secs)]
    pub period: Option<i64>,
    /// Cron or OnCalendar expression, instead of a period
    #[arg(long, value_name = "EXPRESSION")]
    pub schedule: Option<String>,
    /// Time zone of the schedule; the zone that the check has, unless told
    #[arg(long, value_name = "ZONE", requires = "schedule")]
    pub tz: Option<String>,
    /// How late a ping may be, in the same form; a minute to a year
    #[arg(long, value_name = "TIME", value_parser = secs)]
    pub grace: Option<i64>,
    /// Channels to tell from now on, in place of those before: `all`, `none`, or their ids; may be given several times
    #[arg(long = "channel", value_name = "ID")]
    pub channels: Vec<String>,
    /// A channel to tell too, beside those that the check tells already; may be given several times
    #[arg(long = "add-channel", value_name = "ID", conflicts_with = "channels")]
    pub add_channels: Vec<String>,
    #[command(flatten)]
    pub rules: RuleFlags,
}

impl EditCheck {
    /// Whether there is nothing to change.
    pub fn names_nothing(&self) -> bool {
        let texts = [
            &self.name,
            &self.slug,
            &self.tags,
            &self.description,
            &self.schedule,
            &self.tz,
        ];
        texts.iter().all(|text| text.is_none())
            && self.period.is_none()
            && self.grace.is_none()
            && self.channels.is_empty()
            && self.add_channels.is_empty()
            && self.rules == RuleFlags::default()
    }
}

fn rule<T>(text: &str, read: impl FnOnce(&str) -> Option<T>, what: &str) -> Result<Rule<T>, String> {
    if text == "off" {
        return Ok(Rule::Off);
    }
    read(text)
        .map(Rule::On)
        .ok_or_else(|| format!("expected {what}, or off"))
}

fn within<T: TryFrom<i64>>(text: &str, least: i64, most: i64) -> Option<T> {
    let number: i64 = text.parse().ok()?;
    (least..=most)
        .contains(&number)
        .then(|| T::try_from(number).ok())?
}

fn failures(text: &str) -> Result<Rule<u8>, String> {
    let what = format!("a number from 1 to {FAILURES_MAX}");
    let read = rule(text, |text| within(text, 1, FAILURES_MAX), &what)?;
    // One failure is as many as without the rule.
    Ok(if read == Rule::On(1) { Rule::Off } else { read })
}

fn failure_rate(text: &str) -> Result<Rule<FailureRate>, String> {
    let what = format!(
        "PERCENT/WINDOW, 1 to 100 of a hundred and {FAILURE_WINDOW_MIN} to {FAILURE_WINDOW_MAX} outcomes, like 50/10"
    );
    let read = |text: &str| {
        let (percent, window) = text.split_once('/')?;
        Some(FailureRate {
            percent: within(percent, 1, 100)?,
            window: within(window, FAILURE_WINDOW_MIN, FAILURE_WINDOW_MAX)?,
        })
    };
    rule(text, read, &what)
}

fn rule_secs(text: &str) -> Result<Rule<u32>, String> {
    let read = |text: &str| u32::try_from(secs_within(text, 1, RULE_SECS_MAX)?).ok();
    rule(text, read, &expected(1, RULE_SECS_MAX))
}

fn unusual_run(text: &str) -> Result<Rule<UnusualRun>, String> {
    let [least, most] = [UNUSUAL_TENTHS_MIN, UNUSUAL_TENTHS_MAX].map(|tenths| f64::from(tenths) / 10.0);
    let what = format!(
        "FACTOR or FACTOR/RUNS, {least} to {most} times as long and {RUN_SAMPLES_MIN} to {RUN_SAMPLES_MAX} runs, like 2.5/10"
    );
    let read = |text: &str| {
        let (factor, samples) = match text.split_once('/') {
            Some((factor, samples)) => (
                factor,
                within(samples, RUN_SAMPLES_MIN, i64::try_from(RUN_SAMPLES_MAX).ok()?)?,
            ),
            None => (text, RUN_SAMPLES_DEFAULT),
        };
        let factor: f64 = factor.parse().ok()?;
        let tenths = (factor * 10.0).round();
        let tenths = (UNUSUAL_TENTHS_MIN..=UNUSUAL_TENTHS_MAX).find(|known| f64::from(*known) == tenths)?;
        Some(UnusualRun { tenths, samples })
    };
    rule(text, read, &what)
}

impl RuleFlags {
    /// Puts what the flags say into rules.
    pub fn apply(&self, rules: &mut Rules) {
        fn set<T: Copy>(place: &mut Option<T>, flag: Option<Rule<T>>) {
            match flag {
                None => {}
                Some(Rule::Off) => *place = None,
                Some(Rule::On(value)) => *place = Some(value),
            }
        }
        set(&mut rules.failures, self.failures);
        set(&mut rules.failure_rate, self.failure_rate);
        set(&mut rules.max_run_secs, self.max_run);
        set(&mut rules.start_grace_secs, self.start_grace);
        set(&mut rules.min_run_secs, self.min_run);
        set(&mut rules.unusual_run, self.unusual_run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_or_refused_with_what_is_expected() {
        for (text, read) in [
            ("off", Some(Rule::Off)),
            ("1", Some(Rule::Off)),
            ("3", Some(Rule::On(3))),
            ("100", Some(Rule::On(100))),
            ("0", None),
            ("101", None),
            ("x", None),
        ] {
            assert_eq!(failures(text).ok(), read, "{text}");
        }
        let half = FailureRate {
            percent: 50,
            window: 10,
        };
        for (text, read) in [
            ("50/10", Some(Rule::On(half))),
            ("off", Some(Rule::Off)),
            ("50", None),
            ("0/10", None),
            ("50/1", None),
            ("50/101", None),
            ("101/10", None),
        ] {
            assert_eq!(failure_rate(text).ok(), read, "{text}");
        }
        let times = |tenths, samples| Some(Rule::On(UnusualRun { tenths, samples }));
        for (text, read) in [
            ("3", times(30, 5)),
            ("2.5/10", times(25, 10)),
            ("off", Some(Rule::Off)),
            ("1", None),
            ("101", None),
            ("nan", None),
            ("3/2", None),
            ("3/21", None),
        ] {
            assert_eq!(unusual_run(text).ok(), read, "{text}");
        }
        assert_eq!(rule_secs("0").ok(), None);
        assert_eq!(rule_secs("31536000").ok(), Some(Rule::On(31_536_000)));
        assert_eq!(rule_secs("5m").ok(), Some(Rule::On(300)));
        let refused = rule_secs("5 minutes").expect_err("refused");
        assert!(
            refused.contains("1 s to 365 d") && refused.ends_with("or off"),
            "{refused}"
        );
    }
}
