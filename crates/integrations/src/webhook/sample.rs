//! A configuration tried on a made-up message, to say at once what its owner should know.

use std::collections::BTreeMap;

use allswell_core::chance::Dice;
use allswell_core::check::{Check, Settings, State, Status};
use allswell_core::flip::{Flip, Reason};
use allswell_core::secret::Secret;
use allswell_core::template;
use allswell_core::time::Timestamp;

use super::{Fault, RenderError, Sender, Warning, Webhook};
use crate::message::{About, AttemptInfo, LastPing, Message};

/// A name that breaks JSON which does not expect it.
const NAME: &str = "Nightly \"full\" backup";

impl Webhook {
    /// What its owner should know: of the configuration, and of what it makes of a message whose name and body hold
    /// quotes and line ends.
    ///
    /// # Errors
    /// A call that cannot be made of that message either: it would never be sent.
    pub fn try_out(&self) -> Result<Vec<(&'static str, Warning)>, Vec<Fault>> {
        let mut warnings = self.warnings();
        let mut faults = Vec::new();
        let secrets: BTreeMap<String, Secret<String>> = self
            .secret_names()
            .into_iter()
            .map(|name| (name, Secret::new("x".to_owned())))
            .collect();
        for (name, status) in [("down", Status::Down), ("up", Status::Up)] {
            let mut dice = Dice::from_number(0);
            let (message, attempt) = sample(status, &mut dice);
            match self.render(&message, &attempt, &secrets, &Sender::default(), &mut dice) {
                Ok(rendered) => {
                    warnings.extend(rendered.warnings.into_iter().map(|warning| (name, warning)));
                }
                Err(RenderError::NoCall) => {}
                Err(error) => faults.push(Fault {
                    field: match error {
                        RenderError::Sign(_) => "signing".to_owned(),
                        _ => name.to_owned(),
                    },
                    rule: "unsendable",
                    sentence: format!("the call cannot be made: {error}"),
                    for_administrators: None,
                }),
            }
        }
        if faults.is_empty() {
            Ok(warnings)
        } else {
            Err(faults)
        }
    }
}

fn sample(status: Status, dice: &mut Dice) -> (Message, AttemptInfo) {
    let at = Timestamp::from_secs(1_769_860_800);
    let check = Check {
        id: dice.id(),
        project: dice.id(),
        badge: dice.id(),
        settings: Settings {
            name: NAME.to_owned(),
            slug: "nightly".to_owned(),
            tags: "prod db".to_owned(),
            ..Settings::default()
        },
        state: State::new(at),
        deadline: None,
        version: 1,
        created_at: at,
    };
    let message = Message {
        about: About::Test,
        project: check.project,
        project_name: "Backups".to_owned(),
        channel: dice.id(),
        channel_name: "Webhook".to_owned(),
        check_json: format!("{{\"name\":{}}}", template::json_string(NAME)),
        check,
        flip: Flip {
            seq: 1,
            from: Status::New,
            to: status,
            at,
            expected_at: None,
            reason: Reason::Paused,
        },
        missed: Vec::new(),
        last_ping: Some(LastPing {
            n: 1,
            exit_status: Some(1),
            body: Some(b"line \"one\"\nline two\n".to_vec()),
        }),
    };
    let attempt = AttemptInfo {
        delivery: dice.id(),
        n: 1,
        now: at,
        redelivery: false,
    };
    (message, attempt)
}
