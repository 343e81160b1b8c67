//! The `log` kind: one line in the server's own log.

use allswell_core::check::Status;
use allswell_core::flip::Flip;

/// The line for a flip. Names may hold anything a user typed, line breaks and terminal codes included: they are
/// escaped, so that nobody writes log lines of their own.
pub fn line(check_name: &str, check_id: &str, flip: &Flip) -> String {
    let what = match flip.to {
        Status::Down => "is DOWN",
        Status::Up => "is UP",
        Status::New => "is new",
        Status::Paused => "is paused",
    };
    let reason: String = flip.reason.sentence().escape_debug().collect();
    format!(
        "{check_name:?} ({check_id}) {what} since {}: {reason}",
        flip.at.floor_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use allswell_core::flip::Reason;
    use allswell_core::signal::Cause;
    use allswell_core::time::Timestamp;

    #[test]
    fn a_hostile_name_stays_on_its_line() {
        let flip = Flip {
            seq: 2,
            from: Status::Up,
            to: Status::Down,
            at: Timestamp::from_secs(1_769_860_800),
            expected_at: None,
            reason: Reason::Fail {
                ping: 9,
                cause: Cause::Keyword("a\nb\u{1b}[2J".into()),
            },
        };
        assert_eq!(
            line("backup\n2026 INFO all fine\u{1b}[2J", "5e3f", &flip),
            "\"backup\\n2026 INFO all fine\\u{1b}[2J\" (5e3f) is DOWN since 2026-01-31T12:00:00Z: \
             ping 9 reported failure (its body holds “a\\nb\\u{1b}[2J”)"
        );
    }
}
