//! Statements: static text, written once for both databases with `$1`, `$2`, … as parameters.

use std::sync::OnceLock;

/// One statement.
pub(crate) struct Stmt {
    text: &'static str,
    postgres: Option<&'static str>,
    sqlite: OnceLock<String>,
    columns: OnceLock<std::sync::Arc<[String]>>,
}

impl Stmt {
    /// One text for both databases.
    pub(crate) const fn both(text: &'static str) -> Self {
        Stmt {
            text,
            postgres: None,
            sqlite: OnceLock::new(),
            columns: OnceLock::new(),
        }
    }

    /// A text for each. The line above its use says why one is not enough.
    pub(crate) const fn split(sqlite: &'static str, postgres: &'static str) -> Self {
        Stmt {
            text: sqlite,
            postgres: Some(postgres),
            sqlite: OnceLock::new(),
            columns: OnceLock::new(),
        }
    }

    /// The text for PostgreSQL.
    pub(crate) fn postgres(&self) -> &'static str {
        self.postgres.unwrap_or(self.text)
    }

    /// The text for SQLite. It numbers `$n` by order of appearance; `?n` it takes by number, as PostgreSQL does `$n`.
    pub(crate) fn sqlite(&self) -> &str {
        self.sqlite.get_or_init(|| self.text.replace('$', "?"))
    }

    /// Whether it changes rows or locks them, on either database.
    pub(crate) fn takes_rows(&self) -> bool {
        let locks = [" for update", " for no key update"];
        !self.text.trim_start().starts_with("select")
            || locks.iter().any(|lock| self.postgres().contains(lock))
    }

    /// The names of the result's columns, learnt when the statement first runs.
    pub(crate) fn columns(&self, learn: impl FnOnce() -> Vec<String>) -> std::sync::Arc<[String]> {
        self.columns.get_or_init(|| learn().into()).clone()
    }
}

/// The statements of a noun: a static for each, and the list of all for the test that prepares every one. A second text
/// after `on postgres` is the one for PostgreSQL. `skipping locked, then` is for claims: the text so far ends inside of a
/// bounded `select`, whose rows PostgreSQL locks, leaving those out that another node is just claiming. Forty tasks on one
/// queue ended in deadlocks without it, since an update takes its rows in no particular order.
macro_rules! statements {
    (@stmt $text:expr) => { $crate::db::Stmt::both($text) };
    (@stmt $text:expr, $postgres:expr) => { $crate::db::Stmt::split($text, $postgres) };
    (@stmt $text:expr, then $tail:expr) => {
        $crate::db::Stmt::split(concat!($text, $tail), concat!($text, " for update skip locked", $tail))
    };
    ($(
        $(#[$doc:meta])*
        $name:ident = $text:expr $(, on postgres $postgres:expr)? $(, skipping locked, then $tail:expr)?;
    )*) => {
        $(
            $(#[$doc])*
            static $name: $crate::db::Stmt =
                $crate::db::statements!(@stmt $text $(, $postgres)? $(, then $tail)?);
        )*
        pub(crate) static STATEMENTS: &[(&str, &$crate::db::Stmt)] = &[$((stringify!($name), &$name)),*];
    };
}
pub(crate) use statements;

/// Statements for PostgreSQL alone, with what it takes instead of a loop over rows: arrays, and changes that feed each
/// other. The method that runs one has the loop for SQLite beside it.
macro_rules! postgres_statements {
    ($($(#[$doc:meta])* $name:ident = $text:expr;)*) => {
        $($(#[$doc])* static $name: $crate::db::Stmt = $crate::db::Stmt::both($text);)*
        pub(crate) static POSTGRES_STATEMENTS: &[(&str, &$crate::db::Stmt)] = &[$((stringify!($name), &$name)),*];
    };
}
pub(crate) use postgres_statements;

/// The condition that check `$1` is of project `$2` and was not deleted. It makes the scope of a read by check's id more
/// than a word: the hot tables are read by that id alone.
macro_rules! in_scope {
    () => {
        "exists (select 1 from checks own where own.id = $1 and own.project_id = $2 and own.deleted_at is null)"
    };
}
pub(crate) use in_scope;
