//! Statements: static text, written once for both databases with `$1`, `$2`, … as parameters.

use std::sync::OnceLock;

/// One statement.
pub(crate) struct Stmt {
    text: &'static str,
    sqlite: OnceLock<String>,
    columns: OnceLock<std::sync::Arc<[String]>>,
}

impl Stmt {
    /// One text for both databases.
    pub(crate) const fn both(text: &'static str) -> Self {
        Stmt {
            text,
            sqlite: OnceLock::new(),
            columns: OnceLock::new(),
        }
    }

    /// The text for SQLite. It numbers `$n` by order of appearance; `?n` it takes by number, as PostgreSQL does `$n`.
    pub(crate) fn sqlite(&self) -> &str {
        self.sqlite.get_or_init(|| self.text.replace('$', "?"))
    }

    /// The names of the result's columns, learnt when the statement first runs.
    pub(crate) fn columns(&self, learn: impl FnOnce() -> Vec<String>) -> std::sync::Arc<[String]> {
        self.columns.get_or_init(|| learn().into()).clone()
    }
}

/// The statements of a noun: a static for each, and the list of all for the test that prepares every one.
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $text:expr;)*) => {
        $($(#[$doc])* static $name: $crate::db::Stmt = $crate::db::Stmt::both($text);)*
        pub(crate) static STATEMENTS: &[(&str, &$crate::db::Stmt)] = &[$((stringify!($name), &$name)),*];
    };
}
pub(crate) use statements;

/// The condition that check `$1` is of project `$2` and was not deleted. It makes the scope of a read by check's id more
/// than a word: the hot tables are read by that id alone.
macro_rules! in_scope {
    () => {
        "exists (select 1 from checks own where own.id = $1 and own.project_id = $2 and own.deleted_at is null)"
    };
}
pub(crate) use in_scope;
