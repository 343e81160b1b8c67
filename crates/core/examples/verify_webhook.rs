//! The Rust example of docs/webhooks.md, which must be this text. Reads lines of secret, id, timestamp, signatures, body in
//! base64 and the verifier's clock with tabs between, and answers each with true or false.

// begin
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

#[rustfmt::skip]
fn verify(secret: &str, id: &str, timestamp: &str, signatures: &str, body: &[u8], now: i64) -> bool {
    let Ok(key) = STANDARD.decode(secret.trim_start_matches("whsec_")) else { return false };
    if !timestamp.parse::<i64>().is_ok_and(|at| at.abs_diff(now) <= 300) {
        return false;
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length");
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    signatures.split(' ').filter_map(|entry| entry.strip_prefix("v1,")).any(|given| {
        let given = STANDARD.decode(given).unwrap_or_default();
        mac.clone().verify_slice(&given).is_ok() // in constant time
    })
}
// end

fn main() {
    for line in std::io::stdin().lines() {
        let line = line.expect("text");
        let parts: Vec<&str> = line.split('\t').collect();
        let [secret, id, timestamp, signatures, body, now] = parts[..] else {
            panic!("six parts: {line}")
        };
        let body = STANDARD.decode(body).expect("base64");
        let good = verify(
            secret,
            id,
            timestamp,
            signatures,
            &body,
            now.parse().expect("seconds"),
        );
        println!("{good}");
    }
}
