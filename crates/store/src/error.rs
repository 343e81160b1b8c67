//! What can go wrong in a database. Not found is `None`, never an error; an outage is never "not found".

/// A failed read or write.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A rule of the schema forbids the row, or another writer was first. Names the constraint.
    #[error("the database refuses a row: {0}")]
    Conflict(String),
    /// The database cannot be reached, is busy for too long, or its disk is full. Trying again later may help.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// What is stored cannot be understood.
    #[error("the database holds what it should not: {0}")]
    Corrupt(String),
    /// A mistake of ours.
    #[error("a statement failed: {0}")]
    Internal(String),
}

/// What a full disk is called, whichever database says so: an operator should not have to know its words.
pub(crate) const DISK_FULL: &str =
    "the disk is full, and what is there can only be read until there is space again";

impl Error {
    /// Whether the same work may succeed if it is tried again later.
    pub const fn is_passing(&self) -> bool {
        matches!(self, Error::Unavailable(_))
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(Code::ConstraintViolation) => Error::Conflict(text),
            Some(Code::DiskFull) => Error::Unavailable(DISK_FULL.to_owned()),
            Some(
                Code::DatabaseBusy
                | Code::DatabaseLocked
                | Code::SystemIoFailure
                | Code::CannotOpen
                | Code::FileLockingProtocolFailed
                | Code::OutOfMemory
                | Code::OperationInterrupted,
            ) => Error::Unavailable(text),
            Some(Code::DatabaseCorrupt | Code::NotADatabase) => Error::Corrupt(text),
            _ => Error::Internal(text),
        }
    }
}
