//! Kinds of destinations, one file each: what they are configured with and how a message looks there.
//!
//! Pure: nothing here opens a connection. Three kinds exist today: `webhook`, and two that do not leave the process,
//! `silent` and `log`.

pub mod log;
mod message;
pub mod webhook;

pub use message::{About, AttemptInfo, LastPing, Message, Missed, Needs};

/// A kind of destination.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Sends nothing; it shows on the check which group would be told. For trials, and for what only reads the API.
    Silent,
    /// Writes a line into the server's own log, for those who already watch it.
    Log,
    /// Calls a URL that its user wrote.
    Webhook,
}

impl Kind {
    /// All kinds, in the order they are offered.
    pub const ALL: [Kind; 3] = [Kind::Webhook, Kind::Log, Kind::Silent];

    /// The word stored and typed.
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Silent => "silent",
            Kind::Log => "log",
            Kind::Webhook => "webhook",
        }
    }

    /// The kind of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Kind::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// Whether a channel of this kind sends anything.
    pub const fn sends(self) -> bool {
        match self {
            Kind::Silent => false,
            Kind::Log | Kind::Webhook => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_survive_their_word() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_word(kind.word()), Some(kind));
        }
        assert_eq!(Kind::from_word("pigeon"), None);
    }
}
