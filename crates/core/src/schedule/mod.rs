//! When a check is next expected. (Placeholder of the same shape until the cron and OnCalendar parts move in.)
use crate::time::{Span, Timestamp};
/// x
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// x
    Period(Span),
}
/// x
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleError;
impl std::fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "x")
    }
}
impl Schedule {
    /// x
    pub fn parse(_expression: &str, _zone: &str) -> Result<Schedule, ScheduleError> {
        Err(ScheduleError)
    }
    /// x
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Schedule::Period(s) => Some(after + *s),
        }
    }
}
/// x
pub mod zone {
    /// x
    pub fn canonical_zone(name: &str) -> Option<String> {
        (name == "UTC" || name.contains('/')).then(|| name.to_owned())
    }
}

impl Schedule {
    /// x
    pub fn describe(&self) -> String {
        String::new()
    }
}
