//! What can go wrong in a database. Not found is `None`, never an error; an outage is never "not found".

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How often a database gave an error, by what it meant, since this process began.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorsSeen {
    /// A rule forbade a row, or another writer was first. Some are part of the day.
    pub conflict: u64,
    /// It could not be reached, was busy, or its disk was full.
    pub unavailable: u64,
    /// It was damaged.
    pub corrupt: u64,
    /// A statement was a mistake of ours.
    pub internal: u64,
}

/// Every connection of the process counts here: errors come from deep below, where no counter is handed to.
static SEEN: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

impl ErrorsSeen {
    /// Those of this process until now.
    pub fn now() -> Self {
        let [conflict, unavailable, corrupt, internal] =
            [0, 1, 2, 3].map(|index: usize| SEEN[index].load(Ordering::Relaxed));
        ErrorsSeen {
            conflict,
            unavailable,
            corrupt,
            internal,
        }
    }
}

/// A failed read or write.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A rule of the schema forbids the row, or another writer was first. Names the constraint.
    #[error("the database refuses a row: {0}")]
    Conflict(String),
    /// The database broke the transaction off since another and it were in each other's way (PostgreSQL's 40P01 and
    /// 40001). Nothing of it stays; the same again may succeed at once.
    #[error("another transaction was in the way: {0}")]
    Collided(String),
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

/// A write failed for want of space, and none has been tried since that was as large as one of pings.
static DISK_WAS_FULL: AtomicBool = AtomicBool::new(false);

/// Whether the disk was full when something was last written.
pub(crate) fn disk_was_full() -> bool {
    DISK_WAS_FULL.load(Ordering::Relaxed)
}

/// Something large was written: there is space.
pub(crate) fn disk_has_space() {
    DISK_WAS_FULL.store(false, Ordering::Relaxed);
}

impl Error {
    /// Counts an error that a database gave, where it becomes ours.
    pub(crate) fn seen(self) -> Self {
        let index = match &self {
            Error::Conflict(_) | Error::Collided(_) => 0,
            Error::Unavailable(_) => 1,
            Error::Corrupt(_) => 2,
            Error::Internal(_) => 3,
        };
        SEEN[index].fetch_add(1, Ordering::Relaxed);
        if matches!(&self, Error::Unavailable(why) if why.starts_with(DISK_FULL)) {
            DISK_WAS_FULL.store(true, Ordering::Relaxed);
        }
        self
    }

    /// Whether the same work may succeed if it is tried again, and nothing is wrong with it.
    pub const fn is_passing(&self) -> bool {
        matches!(self, Error::Unavailable(_) | Error::Collided(_))
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        let text = error.to_string();
        let ours = match error.sqlite_error_code() {
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
        };
        ours.seen()
    }
}
