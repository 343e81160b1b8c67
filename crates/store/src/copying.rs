//! A copy of a SQLite database beside a running server.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::{Error, Result, Store};

/// What a copy holds.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Of the schema, which need not be this program's.
    pub schema_version: i64,
    /// Size of the file.
    pub bytes: u64,
}

/// Instructions of SQLite's machine between two looks at how far a copy is: some milliseconds.
const PROGRESS_OPS: std::ffi::c_int = 1_000_000;

impl Store {
    /// Copies a SQLite database, as it is at one instant and with what lies in its write-ahead log, into a new file, and
    /// reads the copy through. Blocks; `progress` is called now and then. Nothing is changed, the schema may be of another
    /// program, and others go on reading and writing; only the write-ahead log cannot be shortened meanwhile. Whether the
    /// file is on disk is left to the caller.
    ///
    /// # Errors
    /// `Unavailable` if either file cannot be opened or the disk is full, `Corrupt` if what was copied is damaged or no
    /// database of ours. What was written until then is left to the caller.
    pub fn copy(from: &Path, into: &Path, mut progress: impl FnMut() + Send + 'static) -> Result<Copied> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut source = Connection::open_with_flags(from, flags)?;
        source.busy_timeout(crate::db::sqlite::BUSY)?;
        source.progress_handler(
            PROGRESS_OPS,
            Some(move || {
                progress();
                false
            }),
        )?;
        let name = into
            .to_str()
            .ok_or_else(|| Error::Internal("the name of the copy is not UTF-8".to_owned()))?;
        source.execute("vacuum into $1", [name])?;

        let copy = Connection::open_with_flags(into, flags)?;
        let found: String = copy.query_row("pragma quick_check(1)", [], |row| row.get(0))?;
        if found != "ok" {
            return Err(Error::Corrupt(found));
        }
        let version = "select version from schema_versions order by version desc limit 1";
        let schema_version = copy
            .query_row(version, [], |row| row.get(0))
            .optional()
            .ok()
            .flatten()
            .ok_or_else(|| Error::Corrupt("it is no database of this program".to_owned()))?;
        let bytes = std::fs::metadata(into).map_err(|error| Error::Unavailable(error.to_string()))?;
        Ok(Copied {
            schema_version,
            bytes: bytes.len(),
        })
    }
}
