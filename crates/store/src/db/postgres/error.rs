//! What the server's errors mean to us, by the class of their SQLSTATE.

use tokio_postgres::error::SqlState;

use crate::Error;
use crate::error::DISK_FULL;

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        meaning(&error).seen()
    }
}

fn meaning(error: &tokio_postgres::Error) -> Error {
    let Some(db) = error.as_db_error() else {
        // Without an answer of the server it was the way to it, or our own mistake with a value.
        let text = causes(error);
        let ours =
            std::error::Error::source(error).is_some_and(|cause| cause.is::<super::session::WrongValue>());
        return if ours {
            Error::Internal(text)
        } else {
            Error::Unavailable(text)
        };
    };
    let code = db.code();
    let text = match db.constraint() {
        Some(constraint) => format!("{} ({constraint})", db.message()),
        None => db.message().to_owned(),
    };
    match code.code().get(..2) {
        _ if *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED => {
            Error::Collided(text)
        }
        Some("23") => Error::Conflict(text),
        _ if *code == SqlState::DISK_FULL => Error::Unavailable(format!("{DISK_FULL} ({text})")),
        // 08 the connection, 53 no room, 57 stopped by somebody, 58 the server's system; 55P03 and 25P03 are waits
        // that took too long; 28 and 3D are wrong until somebody mends the server or the settings.
        Some("08" | "53" | "57" | "58" | "28" | "3D") => Error::Unavailable(text),
        _ if *code == SqlState::LOCK_NOT_AVAILABLE
            // What a database answers that takes no connections for now.
            || *code == SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE
            || *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
            || *code == SqlState::READ_ONLY_SQL_TRANSACTION =>
        {
            Error::Unavailable(text)
        }
        // A statement prepared before the schema changed: the next connection prepares it anew.
        _ if *code == SqlState::FEATURE_NOT_SUPPORTED && text.contains("cached plan") => {
            Error::Unavailable(text)
        }
        Some("XX") => Error::Corrupt(text),
        _ => Error::Internal(format!("{text} (SQLSTATE {})", code.code())),
    }
}

/// An error with what lies beneath it, each once: the driver's own sentence says only where it happened.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = cause.source();
    }
    text
}
