//! What is wrong with an expression: where, and in a sentence that says what would be right.

use std::fmt;

/// The field of a check that an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduleField {
    /// The expression.
    Schedule,
    /// The time zone.
    Tz,
}

impl ScheduleField {
    /// The name of the field on the wire.
    pub fn name(self) -> &'static str {
        match self {
            ScheduleField::Schedule => "schedule",
            ScheduleField::Tz => "tz",
        }
    }
}

/// An expression or zone that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleError {
    field: ScheduleField,
    position: usize,
    sentence: String,
}

impl ScheduleError {
    pub(super) fn new(field: ScheduleField, position: usize, sentence: impl Into<String>) -> ScheduleError {
        ScheduleError {
            field,
            position,
            sentence: sentence.into(),
        }
    }

    /// The same error with its position counted differently.
    pub(super) fn place(self, count: impl FnOnce(usize) -> usize) -> ScheduleError {
        ScheduleError {
            position: count(self.position),
            ..self
        }
    }

    /// Which of the two inputs is wrong.
    pub fn field(&self) -> ScheduleField {
        self.field
    }

    /// Where the trouble begins, in characters from 0; line breaks count as one.
    pub fn position(&self) -> usize {
        self.position
    }

    /// What is wrong and what would be right, for the user.
    pub fn sentence(&self) -> &str {
        &self.sentence
    }
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, character {}: {}",
            self.field.name(),
            self.position + 1,
            self.sentence
        )
    }
}

impl std::error::Error for ScheduleError {}
