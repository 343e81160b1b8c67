//! The rules of a check in words, for whoever asks what it waits for.

use allswell_core::check::Rules;
use allswell_core::time::Span;

/// One line for each rule that is set.
pub fn words(rules: &Rules) -> Vec<String> {
    let secs = |secs: u32| Span::from_secs(secs.into());
    let lines = [
        rules
            .failures
            .map(|failures| format!("goes down with {failures} failures in a row")),
        rules.failure_rate.map(|rate| {
            let (percent, window) = (rate.percent, rate.window);
            format!("goes down when {percent} % of the last {window} outcomes are failures")
        }),
        rules
            .max_run_secs
            .map(|limit| format!("a run may take {}", secs(limit))),
        rules
            .start_grace_secs
            .map(|limit| format!("a run must start within {} of its time", secs(limit))),
        rules
            .min_run_secs
            .map(|limit| format!("a success within {} of its start is a failure", secs(limit))),
        rules.unusual_run.map(|rule| {
            let (whole, tenths, samples) = (rule.tenths / 10, rule.tenths % 10, rule.samples);
            format!("a run may take {whole}.{tenths} times as long as usual, once {samples} runs are known")
        }),
    ];
    lines.into_iter().flatten().collect()
}
