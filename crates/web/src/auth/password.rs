//! Passwords: argon2id with OWASP's least parameters, kept as a PHC string (`auth.md`, "Passwords").

use allswell_core::chance::Dice;
use allswell_core::limits;
use allswell_core::secret::Secret;
use argon2::password_hash::phc::Salt;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};

/// KiB of memory for one hash.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Why a password is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Too short to withstand guessing.
    #[error("the password is too short: use at least {min} characters", min = limits::PASSWORD_BYTES_MIN)]
    TooShort,
    /// Longer than anybody types.
    #[error("the password is too long: use at most {max} bytes", max = limits::PASSWORD_BYTES_MAX)]
    TooLong,
    /// Digits only.
    #[error("the password is a number: use words or letters too")]
    Numeric,
    /// Holds the address it protects.
    #[error("the password holds the e-mail address: choose one that cannot be guessed from it")]
    HoldsEmail,
}

/// Checks a new password and hashes it. Takes tens of milliseconds and 19 MiB: keep it off the threads that answer.
pub fn hash_password(
    password: &Secret<String>,
    email: &str,
    dice: &mut Dice,
) -> Result<String, PasswordError> {
    let text = password.reveal();
    if text.chars().count() < limits::PASSWORD_BYTES_MIN {
        return Err(PasswordError::TooShort);
    }
    if text.len() > limits::PASSWORD_BYTES_MAX {
        return Err(PasswordError::TooLong);
    }
    if text.chars().all(|c| c.is_numeric()) {
        return Err(PasswordError::Numeric);
    }
    let name = email.split('@').next().unwrap_or_default().to_lowercase();
    if name.len() >= 3 && text.to_lowercase().contains(&name) {
        return Err(PasswordError::HoldsEmail);
    }
    let salt = Salt::new(&dice.bytes::<16>()).expect("a salt has 16 bytes");
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the parameters are in range");
    let hash = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_with_salt(text.as_bytes(), salt.as_ref())
        .expect("a password within its bounds can be hashed");
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_passwords_are_refused_with_what_to_do() {
        let mut dice = Dice::from_number(1);
        for (password, error) in [
            ("short", PasswordError::TooShort),
            ("123456789012345", PasswordError::Numeric),
            ("i-am-Alice-and-safe", PasswordError::HoldsEmail),
            (&"x".repeat(1_025), PasswordError::TooLong),
        ] {
            let refused = hash_password(&Secret::new(password.to_owned()), "alice@example.org", &mut dice);
            assert_eq!(refused, Err(error));
        }
    }

    #[test]
    fn a_hash_names_its_parameters_and_never_repeats() {
        let mut dice = Dice::from_number(2);
        let password = Secret::new("correct horse battery".to_owned());
        let mut hash = || hash_password(&password, "alice@example.org", &mut dice).expect("a good password");
        let (first, second) = (hash(), hash());
        assert!(first.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{first}");
        assert_ne!(first, second);
        assert!(!first.contains("horse"));
    }
}
