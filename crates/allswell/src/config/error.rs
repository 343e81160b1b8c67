//! All that is wrong with a configuration, reported together: whoever mends one line after the other wants to
//! see them all at the first try. A message never holds the value of a secret.

use std::fmt;

use super::source::Place;

/// A hostile or broken file can be wrong in a hundred thousand places; this many are told.
const ERRORS_MAX: usize = 50;

/// One or more errors, in the order of the file, then of the environment.
#[derive(Debug, Default)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    untold: usize,
}

#[derive(Debug)]
struct ConfigError {
    place: Place,
    problem: String,
}

impl ConfigErrors {
    pub(super) fn push(&mut self, place: Place, problem: impl Into<String>) {
        if self.is_full() {
            self.untold += 1;
        } else {
            self.errors.push(ConfigError {
                place,
                problem: problem.into(),
            });
        }
    }

    /// For callers whose messages are dear to make: count with `skip` instead.
    pub(super) fn is_full(&self) -> bool {
        self.errors.len() >= ERRORS_MAX
    }

    pub(super) fn skip(&mut self) {
        self.untold += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    pub(super) fn sorted(mut self) -> Self {
        self.errors.sort_by(|a, b| a.place.cmp(&b.place));
        self
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errors.len() + self.untold {
            1 => write!(f, "the configuration has an error:")?,
            count => write!(f, "the configuration has {count} errors:")?,
        }
        for error in &self.errors {
            write!(f, "\n  {}: {}", error.place, error.problem)?;
        }
        if self.untold > 0 {
            write!(f, "\n  and {} more", self.untold)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
