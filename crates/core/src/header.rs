//! Headers that somebody else chose: which names may be sent, and what a value must not hold.
//!
//! A value with a line end would begin a header of its own; names that frame the message or steer the connection belong
//! to whoever opens it. Names that a sender signs with are that sender's to guard.

use crate::refusal::{Refusal, Rule};

/// Names that belong to the connection, in lower case; all that begin with `proxy-` as well.
const FRAMING: &[&str] = &[
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "keep-alive",
    "http2-settings",
];

/// Judges a header as it would be sent, with everything filled in.
///
/// # Errors
/// [`Rule::Header`]; the name is in the part for administrators, the value never.
pub fn judge(name: &str, value: &str) -> Result<(), Refusal> {
    judge_name(name)?;
    // Tab is harmless and legal inside; every other control character is neither, C1 included.
    if value.chars().any(|c| c.is_control() && c != '\t') {
        return Err(Refusal::about(
            Rule::Header,
            format!("{name} holds a control character"),
        ));
    }
    Ok(())
}

/// Judges a name alone, when it is saved.
///
/// # Errors
/// [`Rule::Header`].
pub fn judge_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(Refusal::about(Rule::Header, "this is not the name of a header"));
    }
    let lower = name.to_ascii_lowercase();
    if FRAMING.contains(&lower.as_str()) || lower.starts_with("proxy-") {
        return Err(Refusal::about(
            Rule::Header,
            format!("{name} belongs to the connection"),
        ));
    }
    Ok(())
}

/// RFC 9110 section 5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_cannot_begin_another_or_frame_the_message() {
        let table = [
            ("X-Name", "a b\tc", true),
            ("X-Name", "grün", true),
            ("X-Name", "čĊX-Injected: 1", true),
            ("X-Name", "", true),
            ("X-Name", "x\r\nX-Injected: 1", false),
            ("X-Name", "x\rX-Injected: 1", false),
            ("X-Name", "x\nX-Injected: 1", false),
            ("X-Name", "x\0", false),
            ("X-Name", "x\u{85}y", false),
            ("X-Name", "x\u{7f}", false),
            ("X A", "1", false),
            ("X:A", "1", false),
            ("Ünsafe", "1", false),
            ("", "1", false),
            ("Content-Length", "1", false),
            ("transfer-ENCODING", "chunked", false),
            ("Connection", "close", false),
            ("Expect", "100-continue", false),
            ("Proxy-Authorization", "x", false),
            ("Host", "example.com", false),
        ];
        for (name, value, good) in table {
            assert_eq!(judge(name, value).is_ok(), good, "{name:?}: {value:?}");
        }
    }
}
