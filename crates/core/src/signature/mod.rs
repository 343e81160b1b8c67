//! What proves to a receiver that a call came from us: three forms of HMAC-SHA256, made and verified.
//!
//! - [`standard`]: Standard Webhooks, the form that webhooks have unless told otherwise. Covers id, time and body.
//! - [`guardian`]: the form of CfnGuardian's signed checks, v1 (six lines) and v2 (seven). Covers method, path, query,
//!   time, nonce and body.
//! - [`body_sha256`]: `sha256=` and the hex HMAC of the body, under a name that the operator chooses. Covers the body
//!   alone: whoever has seen one call can repeat it at any time, so it goes beside the others and not in their place.
//!
//! No form covers the host, so one secret belongs to one target. All comparisons take the same time whatever differs.

pub mod guardian;
pub mod standard;
#[cfg(test)]
mod tests;

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// What a signer refuses to sign, or how a verifier sees that a call is not from whom it claims.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum SignError {
    /// A part that must not be signed as it is: the name of the part.
    Part(&'static str),
    /// A header is missing or empty.
    Missing,
    /// The time is no number of seconds, or too far from the verifier's clock.
    Time,
    /// No secret gives this signature.
    Signature,
    /// The nonce was seen before.
    Replayed,
}

impl fmt::Display for SignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SignError::Part(part) => write!(f, "the {part} cannot be signed"),
            SignError::Missing => f.write_str("a header of the signature is missing"),
            SignError::Time => f.write_str("the time of the signature is too far from now"),
            SignError::Signature => f.write_str("the signature is not of this secret and this message"),
            SignError::Replayed => f.write_str("this call was seen before"),
        }
    }
}

impl std::error::Error for SignError {}

/// `sha256=` and the HMAC of the body in hex, as the seed's `WEBHOOK_SIGNATURE_HEADER` and many receivers want it. The
/// key is the secret's bytes as they were given.
pub fn body_sha256(secret: &[u8], body: &[u8]) -> String {
    format!("sha256={}", hex(&mac(secret, &[body])))
}

/// Whether [`body_sha256`] gives this value.
pub fn body_sha256_verify(secret: &[u8], body: &[u8], value: &str) -> Result<(), SignError> {
    same(body_sha256(secret, body).as_bytes(), value.as_bytes())
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|half| char::from(DIGITS[usize::from(half)]))
        .collect()
}

fn same(expected: &[u8], given: &[u8]) -> Result<(), SignError> {
    use subtle::ConstantTimeEq;
    if bool::from(expected.ct_eq(given)) {
        Ok(())
    } else {
        Err(SignError::Signature)
    }
}

/// Seconds since 1970 as a header has them: digits alone, since the text is what was signed.
fn secs(text: &str) -> Result<i64, SignError> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten().ok_or(SignError::Time)
}

/// Whether the signer's time is within `max_age` seconds of the verifier's, before or after; exactly so still is.
fn fresh(text: &str, now: i64, max_age: i64) -> Result<(), SignError> {
    let at = secs(text)?;
    if at.abs_diff(now) <= max_age.unsigned_abs() {
        Ok(())
    } else {
        Err(SignError::Time)
    }
}
