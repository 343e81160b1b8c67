//! Findings, and how they are told.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use crate::commands::Answer;

/// How bad something is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing, or could not be told.
    Note,
    /// Works, and will hurt some day.
    Warn,
    /// Does not work, or breaks a promise.
    Fail,
}

impl Level {
    const fn word(self) -> &'static str {
        match self {
            Level::Ok => "OK",
            Level::Note => "NOTE",
            Level::Warn => "WARN",
            Level::Fail => "FAIL",
        }
    }

    const fn colour(self) -> &'static str {
        match self {
            Level::Ok => "\x1b[32m",
            Level::Note => "\x1b[36m",
            Level::Warn => "\x1b[33m",
            Level::Fail => "\x1b[1;31m",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    pub level: Level,
    /// What it is about, in one or two words.
    pub area: &'static str,
    /// What was found.
    pub found: String,
    /// What to do; empty when there is nothing to do.
    pub advice: String,
}

/// All of them, in the order of looking.
#[derive(Debug, Default)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    fn add(&mut self, level: Level, area: &'static str, found: &str, advice: &str) {
        self.0.push(Finding {
            level,
            area,
            found: found.to_owned(),
            advice: advice.to_owned(),
        });
    }

    pub fn ok(&mut self, area: &'static str, found: &str) {
        self.add(Level::Ok, area, found, "");
    }

    pub fn note(&mut self, area: &'static str, found: &str, advice: &str) {
        self.add(Level::Note, area, found, advice);
    }

    pub fn warn(&mut self, area: &'static str, found: &str, advice: &str) {
        self.add(Level::Warn, area, found, advice);
    }

    pub fn fail(&mut self, area: &'static str, found: &str, advice: &str) {
        self.add(Level::Fail, area, found, advice);
    }

    fn count(&self, level: Level) -> usize {
        self.0.iter().filter(|finding| finding.level == level).count()
    }

    /// The worst decides: 0, 1 for warnings, 2 for failures.
    pub fn status(&self) -> u8 {
        match self.0.iter().map(|finding| finding.level).max() {
            Some(Level::Fail) => 2,
            Some(Level::Warn) => 1,
            Some(Level::Note | Level::Ok) | None => 0,
        }
    }

    pub fn give(&self, answer: Answer) -> Result<ExitCode> {
        let findings: Vec<_> = self
            .0
            .iter()
            .map(|finding| {
                json!({
                    "level": finding.level.word(), "area": finding.area, "found": finding.found,
                    "advice": finding.advice,
                })
            })
            .collect();
        let colours = std::io::stdout().is_terminal();
        answer.give(
            &json!({
                "status": self.status(), "warnings": self.count(Level::Warn), "failures": self.count(Level::Fail),
                "findings": findings,
            }),
            &self.lines(colours),
        )?;
        Ok(ExitCode::from(self.status()))
    }

    fn lines(&self, colours: bool) -> String {
        let width = self.0.iter().map(|finding| finding.area.chars().count()).max().unwrap_or(0);
        let mut lines = String::new();
        for finding in &self.0 {
            let (colour, plain) = if colours { (finding.level.colour(), "\x1b[0m") } else { ("", "") };
            let (word, area) = (finding.level.word(), finding.area);
            let indent = " ".repeat(width + 8);
            lines.push_str(&format!(
                "{colour}{word:<4}{plain}  {area:<width$}  {}\n",
                super::super::printable(&finding.found)
            ));
            if !finding.advice.is_empty() {
                lines.push_str(&format!("{indent}→ {}\n", super::super::printable(&finding.advice)));
            }
        }
        let count = |count: usize, one: &str| match count {
            1 => format!("1 {one}"),
            count => format!("{count} {one}s"),
        };
        let (warnings, failures) = (self.count(Level::Warn), self.count(Level::Fail));
        lines.push_str(&match (warnings, failures) {
            (0, 0) => "All's well.\n".to_owned(),
            _ => format!("{}, {}.\n", count(failures, "failure"), count(warnings, "warning")),
        });
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_is_the_status() {
        let mut findings = Findings::default();
        assert_eq!(findings.status(), 0);
        findings.ok("a", "fine");
        findings.note("b", "by the way", "");
        assert_eq!(findings.status(), 0);
        assert!(findings.lines(false).ends_with("All's well.\n"));
        findings.warn("c", "hm", "do this");
        assert_eq!(findings.status(), 1);
        findings.fail("dd", "broken\x1b[2J", "do that");
        assert_eq!(findings.status(), 2);
        let lines = findings.lines(false);
        assert!(lines.contains("FAIL  dd  broken\\u{1b}[2J\n          → do that\n"), "{lines}");
        assert!(lines.ends_with("1 failure, 1 warning.\n"), "{lines}");
        assert!(findings.lines(true).contains("\x1b[33mWARN\x1b[0m"));
    }
}
