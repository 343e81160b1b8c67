//! An incident: the time from a flip to down until the check is no longer down.

use crate::check::Status;
use crate::flip::Flip;

/// What a flip does to the incidents of its check.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It begins one.
    Opens,
    /// It ends the open one: the check came up, or somebody paused it.
    Closes,
}

/// What this flip does to the incidents of its check, if anything.
pub fn effect(flip: &Flip) -> Option<Effect> {
    match (flip.from, flip.to) {
        (Status::Down, Status::Down) => None,
        (_, Status::Down) => Some(Effect::Opens),
        (Status::Down, _) => Some(Effect::Closes),
        _ => None,
    }
}
