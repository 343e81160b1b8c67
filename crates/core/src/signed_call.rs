//! Calls to our API that their sender has signed (`auth.md`, "HMAC-authenticated API calls").
//!
//! The signature covers everything that matters about a request: method, host, path, query, body, the instant, a nonce
//! and the key's id. Lines are joined by a line feed; none of them can hold one, since they come from the parts of an
//! HTTP request or are judged here.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::time::{Span, Timestamp};

/// How far the instant of a signed call may lie from ours, either way.
pub const WINDOW: Span = Span::from_secs(300);
/// Characters of a nonce.
pub const NONCE_CHARS: std::ops::RangeInclusive<usize> = 16..=64;
/// Nonces of one key that are remembered at once; more calls than that within the window are too many.
pub const NONCES_MAX: i64 = 100_000;

/// A request as it was signed.
#[derive(Copy, Clone, Debug)]
pub struct SignedCall<'a> {
    /// In upper case.
    pub method: &'a str,
    /// As in the `Host` header, in lower case.
    pub host: &'a str,
    /// As on the request line, not decoded.
    pub path: &'a str,
    /// Seconds since 1970, in decimal digits.
    pub timestamp: &'a str,
    /// Chosen by the caller, never twice with the same key.
    pub nonce: &'a str,
    /// As on the request line, without the question mark; empty for none.
    pub query: &'a str,
    /// The bytes of the body.
    pub body: &'a [u8],
    /// The id of the key.
    pub key_id: &'a str,
}

/// Why a signed call is refused.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The timestamp is not a number of seconds.
    Timestamp,
    /// The caller's clock and ours differ by too much; this is ours.
    Clock(Timestamp),
    /// The nonce is too short, too long, or has other characters.
    Nonce,
    /// The signature does not fit.
    Signature,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Timestamp => f.write_str("X-Allswell-Timestamp is not a number of seconds since 1970"),
            Refusal::Clock(now) => write!(
                f,
                "X-Allswell-Timestamp is more than {WINDOW} away from the server's time, {now}"
            ),
            Refusal::Nonce => f.write_str("X-Allswell-Nonce must be 16 to 64 letters, digits and hyphens"),
            Refusal::Signature => f.write_str("X-Allswell-Signature does not fit the request"),
        }
    }
}

impl SignedCall<'_> {
    /// The text under the signature.
    pub fn canonical(&self) -> String {
        let body = hex(&Sha256::digest(self.body));
        [
            "allswell1",
            self.method,
            self.host,
            self.path,
            self.timestamp,
            self.nonce,
            self.query,
            &body,
            self.key_id,
        ]
        .join("\n")
    }

    /// The signature in lower-case hex.
    pub fn sign(&self, secret: &[u8]) -> String {
        hex(&mac(secret, &self.canonical()))
    }

    /// Judges a call at `now`. Whether its nonce was used before is for the caller to ask, after this.
    ///
    /// # Errors
    /// What is wrong with it. The form is judged before the signature: neither tells anything about the secret.
    pub fn judge(&self, secret: &[u8], signature: &str, now: Timestamp) -> Result<(), Refusal> {
        self.judge_form(now)?;
        let expected = self.sign(secret);
        if bool::from(expected.as_bytes().ct_eq(signature.as_bytes())) {
            Ok(())
        } else {
            Err(Refusal::Signature)
        }
    }

    /// Judges what needs no secret.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn judge_form(&self, now: Timestamp) -> Result<(), Refusal> {
        let digits = !self.timestamp.is_empty()
            && self.timestamp.len() <= 12
            && self.timestamp.bytes().all(|b| b.is_ascii_digit());
        let secs: i64 = digits
            .then(|| self.timestamp.parse().ok())
            .flatten()
            .ok_or(Refusal::Timestamp)?;
        let away = now.as_secs() - secs;
        if away.abs() > WINDOW.as_secs() {
            return Err(Refusal::Clock(now.floor_secs()));
        }
        let plain = self.nonce.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !plain || !NONCE_CHARS.contains(&self.nonce.len()) {
            return Err(Refusal::Nonce);
        }
        Ok(())
    }
}

fn mac(secret: &[u8], text: &str) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: SignedCall<'_> = SignedCall {
        method: "POST",
        host: "hc.example.org",
        path: "/v1/checks",
        timestamp: "1893456000",
        nonce: "5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a70",
        query: "",
        body: b"{}",
        key_id: "0b7d5e3f-9a1c-4c52-9d3a-6f1e2b8c4a70",
    };
    const NOW: Timestamp = Timestamp::from_secs(1_893_456_000);

    #[test]
    fn a_signature_fits_its_request_and_no_other() {
        let signature = CALL.sign(b"secret");
        assert_eq!(CALL.judge(b"secret", &signature, NOW), Ok(()));
        let others = [
            SignedCall {
                method: "PUT",
                ..CALL
            },
            SignedCall {
                host: "hc.example.com",
                ..CALL
            },
            SignedCall {
                path: "/v1/check",
                ..CALL
            },
            SignedCall {
                timestamp: "1893456001",
                ..CALL
            },
            SignedCall {
                nonce: "5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a71",
                ..CALL
            },
            SignedCall { query: "a=1", ..CALL },
            SignedCall { body: b"{} ", ..CALL },
            SignedCall {
                key_id: "0b7d5e3f-9a1c-4c52-9d3a-6f1e2b8c4a71",
                ..CALL
            },
        ];
        for other in others {
            assert_eq!(
                other.judge(b"secret", &signature, NOW),
                Err(Refusal::Signature),
                "{other:?}"
            );
        }
        assert_eq!(CALL.judge(b"Secret", &signature, NOW), Err(Refusal::Signature));
        assert_eq!(
            CALL.judge(b"secret", &signature.to_uppercase(), NOW),
            Err(Refusal::Signature)
        );
        assert_eq!(CALL.judge(b"secret", "", NOW), Err(Refusal::Signature));
    }

    #[test]
    fn the_canonical_text_has_nine_lines() {
        // The hash is that of the two bytes `{}`.
        assert_eq!(
            CALL.canonical(),
            "allswell1\nPOST\nhc.example.org\n/v1/checks\n1893456000\n5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a70\n\n\
             44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\n0b7d5e3f-9a1c-4c52-9d3a-6f1e2b8c4a70"
        );
    }

    #[test]
    fn the_clock_may_be_five_minutes_off_either_way() {
        for (secs, good) in [(-301, false), (-300, true), (0, true), (300, true), (301, false)] {
            let timestamp = (NOW.as_secs() + secs).to_string();
            let call = SignedCall {
                timestamp: &timestamp,
                ..CALL
            };
            let expected = if good { Ok(()) } else { Err(Refusal::Clock(NOW)) };
            assert_eq!(call.judge_form(NOW), expected, "{secs}");
        }
        for timestamp in ["", "-5", "1.5", " 1893456000", "1893456000\n", "9999999999999"] {
            assert_eq!(
                SignedCall { timestamp, ..CALL }.judge_form(NOW),
                Err(Refusal::Timestamp),
                "{timestamp:?}"
            );
        }
    }

    #[test]
    fn a_nonce_is_sixteen_to_sixty_four_plain_characters() {
        let longest = "x".repeat(64);
        for (nonce, good) in [
            ("0123456789abcde", false),
            ("0123456789abcdef", true),
            (longest.as_str(), true),
            (&format!("{longest}x"), false),
            ("0123456789abcde_", false),
            ("0123456789abcde\n", false),
            ("0123456789abcdeé", false),
        ] {
            assert_eq!(
                SignedCall { nonce, ..CALL }.judge_form(NOW).is_ok(),
                good,
                "{nonce:?}"
            );
        }
    }
}
