//! Typed ids. Each noun has its own, so that a project's id can never be passed for a check's.
//!
//! New ones come from [`crate::chance::Dice`], which is an argument everywhere.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// The text is not a UUID in lower case with hyphens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdError;

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "not an id: expected a UUID in lower case with hyphens, like 5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a70"
        )
    }
}

impl std::error::Error for IdError {}

/// Reads a UUID in lower case with hyphens and in no other form (`healthchecks.md` section 1.1).
pub fn parse_strict(text: &str) -> Option<Uuid> {
    let plain = text
        .bytes()
        .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'));
    (plain && text.len() == 36)
        .then(|| Uuid::try_parse(text).ok())
        .flatten()
}

/// Reads a run id: a UUID with hyphens in any case (`healthchecks.md` section 1.2).
pub fn parse_run_id(text: &str) -> Option<Uuid> {
    (text.len() == 36).then(|| Uuid::try_parse(text).ok()).flatten()
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// The id as a UUID, for binding and printing.
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }

            /// The sixteen bytes of the id.
            pub const fn as_uuid_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                $name(uuid)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_strict(text).map($name).ok_or(IdError)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    )*};
}

ids! {
    /// A check; also what its ping address shows.
    CheckId,
    /// A project.
    ProjectId,
    /// A person with an account.
    UserId,
    /// A channel: one configured destination.
    ChannelId,
    /// A delivery; constant over all attempts.
    DeliveryId,
    /// An API key or ping key (its row, not its secret).
    KeyId,
    /// A data key that encrypts fields at rest.
    DataKeyId,
    /// One running process.
    NodeId,
    /// A row of the audit log.
    AuditId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_id_has_one_spelling() {
        let good = "5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a70";
        assert_eq!(
            good.parse::<CheckId>().map(|id| id.to_string()),
            Ok(good.to_owned())
        );
        for bad in [
            "",
            "5E3F9A1C-0B7D-4C52-9D3A-6F1E2B8C4A70",
            "5e3f9a1c0b7d4c529d3a6f1e2b8c4a70",
            "{5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a70}",
            "urn:uuid:5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a70",
            "5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a7",
            "5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a7g",
            "5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a70 ",
            "5e3f9a1c00b7d-4c52-9d3a-6f1e2b8c4a70",
        ] {
            assert!(bad.parse::<CheckId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_run_id_may_be_in_any_case() {
        assert!(parse_run_id("5E3F9A1C-0b7d-4c52-9d3a-6f1e2b8c4a70").is_some());
        for bad in [
            "",
            "5e3f9a1c0b7d4c529d3a6f1e2b8c4a70",
            "{5e3f9a1c-0b7d-4c52-9d3a-6f1e2b8c4a70}",
        ] {
            assert!(parse_run_id(bad).is_none(), "{bad}");
        }
    }
}
