//! What cron and OnCalendar expressions have in common: words with their place, numbers, ranges, steps.
//!
//! A `Word` remembers where it stood, so that every refusal can point at it. Nothing here knows which of the
//! two languages it serves, except through its arguments.

use super::error::{ScheduleError, ScheduleField};

/// A piece of the expression and where it begins, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word<'a> {
    pub text: &'a str,
    pub at: usize,
}

impl<'a> Word<'a> {
    pub fn refuse(self, sentence: impl Into<String>) -> ScheduleError {
        ScheduleError::new(ScheduleField::Schedule, self.at, sentence)
    }

    /// The part from byte `from` on.
    fn tail(self, from: usize) -> Word<'a> {
        Word {
            text: &self.text[from..],
            at: self.at + from,
        }
    }

    /// The parts before and after the first `mark`.
    pub fn split_once(self, mark: &str) -> Option<(Word<'a>, Word<'a>)> {
        let (head, _) = self.text.split_once(mark)?;
        Some((
            Word {
                text: head,
                at: self.at,
            },
            self.tail(head.len() + mark.len()),
        ))
    }

    /// The parts between the `mark`s, empty ones included.
    pub fn split(self, mark: char) -> impl Iterator<Item = Word<'a>> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let word = rest?;
            match word.text.split_once(mark) {
                Some((head, _)) => {
                    rest = Some(word.tail(head.len() + mark.len_utf8()));
                    Some(Word {
                        text: head,
                        at: word.at,
                    })
                }
                None => rest.take(),
            }
        })
    }

    /// The words between white space.
    pub fn words(self) -> Vec<Word<'a>> {
        let mut words = Vec::new();
        let mut start = None;
        for (index, letter) in self.text.char_indices() {
            match (is_space(letter), start) {
                (true, Some(from)) => {
                    words.push(Word {
                        text: &self.text[from..index],
                        at: self.at + from,
                    });
                    start = None;
                }
                (false, None) => start = Some(index),
                _ => {}
            }
        }
        if let Some(from) = start {
            words.push(self.tail(from));
        }
        words
    }

    pub fn is(self, name: &str) -> bool {
        self.text.eq_ignore_ascii_case(name)
    }

    /// The text for a sentence: quoted, and short however long it is.
    pub fn quoted(self) -> String {
        const SHOWN_CHARS: usize = 24;
        let mut shown: String = self
            .text
            .chars()
            .take(SHOWN_CHARS)
            .flat_map(char::escape_debug)
            .collect();
        if self.text.chars().nth(SHOWN_CHARS).is_some() {
            shown.push('…');
        }
        format!("\"{shown}\"")
    }
}

/// White space as Python's `split` sees it, which decides what counts as five words.
pub(super) fn is_space(letter: char) -> bool {
    letter.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&letter)
}

/// Only digits, and a number; what is too long for a `u32` becomes its greatest value.
pub(super) fn digits(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u32::MAX))
}

/// One field of an expression: what it is called and which values it has.
pub(super) struct Field {
    pub name: &'static str,
    pub first: u32,
    pub last: u32,
    /// Names of the values from `first` on, in capitals.
    pub names: &'static [&'static str],
}

impl Field {
    /// Whether `word` is one of the names; returns the value it stands for.
    fn named(&self, word: Word<'_>) -> Option<u32> {
        let index = self.names.iter().position(|name| word.is(name))?;
        Some(self.first + index as u32)
    }

    /// A number or a name.
    pub fn value(&self, word: Word<'_>) -> Result<u32, ScheduleError> {
        if let Some(value) = self.named(word) {
            return Ok(value);
        }
        let Some(value) = digits(word.text) else {
            return Err(word.refuse(self.not_understood(word)));
        };
        if value < self.first || value > self.last {
            return Err(word.refuse(format!(
                "there is no {} {}; {}",
                self.name,
                shown(word),
                self.range()
            )));
        }
        Ok(value)
    }

    fn not_understood(&self, word: Word<'_>) -> String {
        if word.text.is_empty() {
            return format!("the {} is missing here; {}", self.name, self.range());
        }
        format!("{} is no {}; {}", word.quoted(), self.name, self.range())
    }

    pub fn range(&self) -> String {
        match (self.names.first(), self.names.last()) {
            (Some(first), Some(last)) => {
                format!(
                    "it goes from {} to {} or {first} to {last}",
                    self.first, self.last
                )
            }
            _ => format!("it goes from {} to {}", self.first, self.last),
        }
    }

    /// A step: any number but 0.
    pub fn step(&self, word: Word<'_>) -> Result<u32, ScheduleError> {
        match digits(word.text) {
            Some(0) => Err(word.refuse("a step of 0 never moves; use 1 or more")),
            Some(step) => Ok(step),
            None => Err(word.refuse(format!(
                "{} is not a step; after the slash comes a number of 1 or more",
                word.quoted()
            ))),
        }
    }

    /// Two ends of a range, the smaller one first, each read by `value`.
    pub fn ends<'a>(
        &self,
        start: Word<'a>,
        end: Word<'a>,
        value: impl Fn(Word<'a>) -> Result<u32, ScheduleError>,
    ) -> Result<Steps, ScheduleError> {
        let steps = Steps {
            first: value(start)?,
            last: value(end)?,
            step: 1,
        };
        if steps.last < steps.first {
            return Err(start.refuse(format!(
                "the range from {} to {} runs backwards; put the smaller {} first or write two ranges",
                shown(start),
                shown(end),
                self.name
            )));
        }
        Ok(steps)
    }

    pub fn all(&self) -> Steps {
        Steps {
            first: self.first,
            last: self.last,
            step: 1,
        }
    }

    /// `steps`, taking every `step`-th. A single value means "from there to the end of the field".
    pub fn every(&self, steps: Steps, step: u32) -> Steps {
        let last = if steps.first == steps.last {
            self.last
        } else {
            steps.last
        };
        Steps {
            first: steps.first,
            last,
            step,
        }
    }
}

/// The text of a number or name, cut short for a sentence.
fn shown(word: Word<'_>) -> String {
    word.quoted().trim_matches('"').to_owned()
}

/// Values from `first` to `last`, every `step`-th.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steps {
    pub first: u32,
    pub last: u32,
    pub step: u32,
}

impl Steps {
    pub fn values(self) -> impl Iterator<Item = u32> {
        (self.first..=self.last).step_by(self.step as usize)
    }

    /// The values as bits; for fields whose values stay below 64.
    pub fn bits(self) -> u64 {
        self.values().fold(0, |bits, value| bits | 1 << value)
    }
}
