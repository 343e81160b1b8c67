//! Standard Webhooks: `webhook-id`, `webhook-timestamp`, and `webhook-signature` over `id.timestamp.body`.
//!
//! While a secret is being changed the header lists a signature of each, the new one first: a receiver that knows
//! either of them is content.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{SignError, fresh, mac, same};
use crate::chance::Dice;
use crate::secret::Secret;

/// The header with the id, which is the same for each attempt.
pub const ID: &str = "webhook-id";
/// The header with the time of the attempt in seconds since 1970.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// The header with the signatures, separated by spaces.
pub const SIGNATURE: &str = "webhook-signature";
/// What each secret begins with.
pub const PREFIX: &str = "whsec_";
/// Bytes of the shortest secret (the standard's bounds).
pub const SECRET_BYTES_MIN: usize = 24;
/// Bytes of the longest secret.
pub const SECRET_BYTES_MAX: usize = 64;
const GENERATED_BYTES: usize = 32;

/// The text is no secret of this form.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SecretError;

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "expected {PREFIX} and {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes in base64"
        )
    }
}

impl std::error::Error for SecretError {}

/// A secret that signs. The key is the bytes, not their text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningSecret(Secret<Vec<u8>>);

impl SigningSecret {
    /// A new one of 32 bytes.
    pub fn generate(dice: &mut Dice) -> Self {
        SigningSecret(Secret::new(dice.bytes::<GENERATED_BYTES>().to_vec()))
    }

    /// Reads `whsec_` and base64.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let encoded = text.strip_prefix(PREFIX).ok_or(SecretError)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| SecretError)?;
        if (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&bytes.len()) {
            Ok(SigningSecret(Secret::new(bytes)))
        } else {
            Err(SecretError)
        }
    }

    /// The text that [`SigningSecret::parse`] reads.
    pub fn to_text(&self) -> Secret<String> {
        let encoded = Zeroizing::new(STANDARD.encode(self.0.reveal()));
        Secret::new(format!("{PREFIX}{}", encoded.as_str()))
    }

    fn signature(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        let mac = mac(
            self.0.reveal(),
            &[id.as_bytes(), b".", timestamp.as_bytes(), b".", body],
        );
        format!("v1,{}", STANDARD.encode(mac))
    }
}

/// The value of `webhook-signature`: one signature of each secret, in their order. `timestamp` is in seconds since 1970.
///
/// # Errors
/// [`SignError::Part`] for an id that is empty, holds a full stop, or could not stand in a header, for a time before
/// 1970, and for no secret at all.
pub fn sign(secrets: &[&SigningSecret], id: &str, timestamp: i64, body: &[u8]) -> Result<String, SignError> {
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'.') {
        return Err(SignError::Part("id"));
    }
    if timestamp < 0 {
        return Err(SignError::Part("timestamp"));
    }
    if secrets.is_empty() {
        return Err(SignError::Part("secret"));
    }
    let timestamp = timestamp.to_string();
    let signatures: Vec<String> = secrets
        .iter()
        .map(|secret| secret.signature(id, &timestamp, body))
        .collect();
    Ok(signatures.join(" "))
}

/// What a receiver was sent.
#[derive(Copy, Clone, Debug)]
pub struct Received<'a> {
    /// The value of `webhook-id`.
    pub id: &'a str,
    /// The value of `webhook-timestamp`, as text.
    pub timestamp: &'a str,
    /// The value of `webhook-signature`.
    pub signature: &'a str,
    /// The body as it came.
    pub body: &'a [u8],
}

/// Whether one of the signatures is of one of these secrets, and not older or newer than `max_age` seconds.
///
/// # Errors
/// What is wrong, for the receiver's log.
pub fn verify(
    secrets: &[&SigningSecret],
    received: Received<'_>,
    now: i64,
    max_age: i64,
) -> Result<(), SignError> {
    if received.id.is_empty() || received.signature.is_empty() {
        return Err(SignError::Missing);
    }
    fresh(received.timestamp, now, max_age)?;
    let good = secrets.iter().any(|secret| {
        let expected = secret.signature(received.id, received.timestamp, received.body);
        received
            .signature
            .split(' ')
            .any(|given| same(expected.as_bytes(), given.as_bytes()).is_ok())
    });
    if good { Ok(()) } else { Err(SignError::Signature) }
}
