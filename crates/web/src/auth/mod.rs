//! Proving who somebody is.

mod password;

pub use password::{PasswordError, hash_password};
