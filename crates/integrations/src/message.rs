//! What a delivery tells, and which try it is: everything that a kind of destination may put into what it sends.
//!
//! Made by the engine from rows as they are when the attempt starts. The id of the delivery stays over all attempts; the
//! instant and the number are those of one.

use allswell_core::check::{Check, Status};
use allswell_core::flip::Flip;
use allswell_core::id::{ChannelId, DeliveryId, ProjectId};
use allswell_core::time::Timestamp;

/// What a delivery tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is for.
    pub about: About,
    /// The project.
    pub project: ProjectId,
    /// What people call the project.
    pub project_name: String,
    /// The channel it goes to.
    pub channel: ChannelId,
    /// What people call the channel.
    pub channel_name: String,
    /// The check, as it is when the attempt starts: its id, its settings, its state. Of a test and a note a made-up one,
    /// whose name says what it is.
    pub check: Check,
    /// The check as version 3 of the compatible API shows it to a key that may write: one JSON object
    /// (`healthchecks.md` section 7.1, `$JSON`). Empty unless [`Needs::check_json`] asked for it.
    pub check_json: String,
    /// The flip it tells of. Of a test and a note a made-up one with number 0.
    pub flip: Flip,
    /// Earlier flips of the same check that this channel was never told, since this one overtook them; oldest first.
    pub missed: Vec<Missed>,
    /// The last ping before the flip, if there was one. `None` unless [`Needs::last_ping`] asked for it.
    pub last_ping: Option<LastPing>,
}

impl Message {
    /// The word for the status that is told: `up` or `down`.
    pub const fn status(&self) -> &'static str {
        match self.flip.to {
            Status::Up => "up",
            Status::Down | Status::New | Status::Paused => "down",
        }
    }
}

/// What a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// A check went down or came back up.
    Flip,
    /// Somebody tries the channel.
    Test,
    /// Something of our own: another channel of the project fails or was switched off. The sentence says it.
    Note(String),
}

/// A flip that was overtaken.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Its number within the check.
    pub seq: u64,
    /// The status after it.
    pub status: Status,
    /// When it happened.
    pub at: Timestamp,
}

/// The last ping before a flip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastPing {
    /// Its number within the check.
    pub n: u64,
    /// The exit status in its address.
    pub exit_status: Option<u8>,
    /// What is kept of its body, empty if nothing; `None` if it cannot be read.
    pub body: Option<Vec<u8>>,
}

/// Which try this is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct AttemptInfo {
    /// The delivery: constant over all attempts, restarts and redelivery. It is the id that receivers compare.
    pub delivery: DeliveryId,
    /// Number of the attempt, from 1.
    pub n: u64,
    /// The instant of the attempt.
    pub now: Timestamp,
    /// Somebody asked to send it again although it had ended.
    pub redelivery: bool,
}

/// What a channel's configuration asks of a message, so that the engine reads no more than that.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The check as the compatible API shows it.
    pub check_json: bool,
    /// The last ping with its body.
    pub last_ping: bool,
}

impl Needs {
    /// What a stored configuration asks for, by the placeholders that occur in it. JSON leaves a dollar sign as it is.
    pub fn of(config: &[u8]) -> Self {
        let holds = |word: &str| config.windows(word.len()).any(|part| part == word.as_bytes());
        Needs {
            check_json: holds("$JSON") || holds("${json:CHECK}"),
            last_ping: ["$BODY", "$EXITSTATUS", "${json:BODY}", "${json:EXITSTATUS}"]
                .iter()
                .any(|word| holds(word)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_asks_for_what_it_names() {
        let asked = |config: &[u8]| {
            let needs = Needs::of(config);
            (needs.check_json, needs.last_ping)
        };
        assert_eq!(asked(b""), (false, false));
        assert_eq!(asked(br#"{"body_down":"$NAME_JSON $NOW"}"#), (false, false));
        assert_eq!(asked(br#"{"body_down":"$JSON"}"#), (true, false));
        assert_eq!(asked(br#"{"body_down":"$$BODY_JSON"}"#), (false, true));
        assert_eq!(asked(br#"{"url_down":"http://h/$EXITSTATUS"}"#), (false, true));
        assert_eq!(asked(b"${json:CHECK}"), (true, false));
        assert_eq!(asked(b"${json:BODY}"), (false, true));
        assert_eq!(asked(b"${json:EXITSTATUS} ${json:EVENT}"), (false, true));
    }
}
