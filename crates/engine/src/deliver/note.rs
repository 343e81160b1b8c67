//! Notes of our own: a channel fails or was switched off, told through another channel of its project.
//!
//! Its owner's mail is the better place for it; until there is a mail channel, what other channels cannot carry shows on
//! the channel itself, in the API, on the command line and in the log alone.

use serde::{Deserialize, Serialize};

/// What is to be said of a channel. Stored as code and data, put into words when it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) code: Code,
    /// The channel's id.
    pub(super) channel: String,
    /// What people call it.
    pub(super) name: String,
    /// How its last attempt failed.
    pub(super) error: String,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Code {
    /// It fails since a day or three.
    Failing,
    /// It was switched off: it failed for too long.
    DisabledFailing,
    /// It was switched off: its receiver said that it is gone for good.
    DisabledGone,
    /// Our own rules refuse its target.
    Blocked,
}

impl Note {
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(super) fn from_json(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// For people. Names are quoted and escaped: they may hold anything a user typed.
    pub(super) fn sentence(&self) -> String {
        let Note { name, error, .. } = self;
        match self.code {
            Code::Failing => format!("Channel {name:?} does not get its alerts: {error}"),
            Code::DisabledFailing => format!(
                "Channel {name:?} was switched off: it got none of its alerts for five days ({error}). \
                 Mend it, then switch it on again"
            ),
            Code::DisabledGone => format!(
                "Channel {name:?} was switched off: its receiver says that it is gone for good ({error}). \
                 Mend it, then switch it on again"
            ),
            Code::Blocked => format!("Channel {name:?} cannot be called: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_survives_storage_and_stays_on_its_line() {
        for code in [
            Code::Failing,
            Code::DisabledFailing,
            Code::DisabledGone,
            Code::Blocked,
        ] {
            let note = Note {
                code,
                channel: "5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a70".to_owned(),
                name: "ops\n\u{1b}[2J".to_owned(),
                error: "timeout".to_owned(),
            };
            assert_eq!(Note::from_json(&note.to_json()).as_ref(), Some(&note));
            let sentence = note.sentence();
            assert!(
                sentence.contains("timeout") && !sentence.contains('\n'),
                "{sentence}"
            );
        }
        assert_eq!(Note::from_json("{}"), None);
    }
}
