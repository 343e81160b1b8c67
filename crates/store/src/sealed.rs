//! Every column that holds sealed values, so that the rotation of keys finds them all.
//!
//! A new column that holds sealed values gets one line here, and a test asks for it. What such a value belongs to
//! ([`Place`]) is its table, its column, its project, and the parts of its row's key, one behind the other: ids as 16
//! bytes, numbers as 8, the highest first.

use allswell_core::id::ProjectId;
use allswell_core::seal::Place;
use uuid::Uuid;

use crate::Result;
use crate::db::{Param, Row, Stmt};

/// How the key of a table is made up.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// An id.
    Id,
    /// An id and a number within it.
    Numbered,
    /// Two ids and a number within them.
    TwiceNumbered,
}

/// A column that holds sealed values.
pub(crate) struct SealedColumn {
    pub(crate) table: &'static str,
    pub(crate) column: &'static str,
    form: Form,
    /// The rows behind a key, in its order: the key as `k1`, `k2`, `n`, then `project_id` and `sealed`.
    pub(crate) after: &'static Stmt,
    /// Puts a value in the place of the one that was read; its parameters are the key, the new and the old one.
    pub(crate) replace: &'static Stmt,
}

/// The key of a row, whatever its form.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) id: Uuid,
    pub(crate) second: Uuid,
    pub(crate) n: i64,
}

impl Key {
    /// Before all others: ids are random, and numbers begin with 0.
    pub(crate) const FIRST: Key = Key {
        id: Uuid::nil(),
        second: Uuid::nil(),
        n: -1,
    };

    pub(crate) fn params(&self, form: Form) -> Vec<Param<'static>> {
        match form {
            Form::Id => vec![self.id.into()],
            Form::Numbered => vec![self.id.into(), self.n.into()],
            Form::TwiceNumbered => vec![self.id.into(), self.second.into(), self.n.into()],
        }
    }

    /// The key as it stands in a value's place.
    pub(crate) fn bytes(&self, form: Form) -> Vec<u8> {
        let mut bytes = self.id.as_bytes().to_vec();
        if form == Form::TwiceNumbered {
            bytes.extend(self.second.as_bytes());
        }
        if form != Form::Id {
            bytes.extend(self.n.to_be_bytes());
        }
        bytes
    }
}

impl SealedColumn {
    pub(crate) fn name(&self) -> String {
        format!("{}.{}", self.table, self.column)
    }

    pub(crate) fn params(&self, key: &Key) -> Vec<Param<'static>> {
        key.params(self.form)
    }

    pub(crate) fn key_of(&self, row: &Row) -> Result<Key> {
        Ok(Key {
            id: row.get("k1")?,
            second: match self.form {
                Form::TwiceNumbered => row.get("k2")?,
                Form::Id | Form::Numbered => Uuid::nil(),
            },
            n: match self.form {
                Form::Id => 0,
                Form::Numbered | Form::TwiceNumbered => row.get("n")?,
            },
        })
    }

    pub(crate) fn row_bytes(&self, key: &Key) -> Vec<u8> {
        key.bytes(self.form)
    }

    pub(crate) fn place<'r>(&self, row: &'r [u8], project: ProjectId) -> Place<'r> {
        Place {
            table: self.table,
            column: self.column,
            row,
            project: Some(project),
        }
    }
}

/// A line per column: its table and name, the key of the table, and where in SQL the row's project is.
macro_rules! sealed_columns {
    (@after $table:literal, $column:literal, $project:literal, $k1:literal) => {
        concat!("select t.", $k1, " as k1, ", $project, " as project_id, t.", $column, " as sealed from ", $table,
                " t where t.", $k1, " > $1 and t.", $column, " is not null order by t.", $k1, " limit $2")
    };
    (@after $table:literal, $column:literal, $project:literal, $k1:literal, $n:literal) => {
        concat!("select t.", $k1, " as k1, t.", $n, " as n, ", $project, " as project_id, t.", $column,
                " as sealed from ", $table, " t where (t.", $k1, ", t.", $n, ") > ($1, $2) and t.", $column,
                " is not null order by t.", $k1, ", t.", $n, " limit $3")
    };
    (@after $table:literal, $column:literal, $project:literal, $k1:literal, $k2:literal, $n:literal) => {
        concat!("select t.", $k1, " as k1, t.", $k2, " as k2, t.", $n, " as n, ", $project, " as project_id, t.",
                $column, " as sealed from ", $table, " t where (t.", $k1, ", t.", $k2, ", t.", $n,
                ") > ($1, $2, $3) and t.", $column, " is not null order by t.", $k1, ", t.", $k2, ", t.", $n,
                " limit $4")
    };
    (@replace $table:literal, $column:literal, $k1:literal) => {
        concat!("update ", $table, " set ", $column, " = $2 where ", $k1, " = $1 and ", $column, " = $3")
    };
    (@replace $table:literal, $column:literal, $k1:literal, $n:literal) => {
        concat!("update ", $table, " set ", $column, " = $3 where ", $k1, " = $1 and ", $n, " = $2 and ", $column,
                " = $4")
    };
    (@replace $table:literal, $column:literal, $k1:literal, $k2:literal, $n:literal) => {
        concat!("update ", $table, " set ", $column, " = $4 where ", $k1, " = $1 and ", $k2, " = $2 and ", $n,
                " = $3 and ", $column, " = $5")
    };
    (@form $k1:literal) => { Form::Id };
    (@form $k1:literal, $n:literal) => { Form::Numbered };
    (@form $k1:literal, $k2:literal, $n:literal) => { Form::TwiceNumbered };
    ($($name:ident = $table:literal, $column:literal, keyed ($($key:literal),+), of project $project:literal;)*) => {
        $(mod $name {
            use crate::db::Stmt;
            pub(super) static AFTER: Stmt = Stmt::both(sealed_columns!(@after $table, $column, $project, $($key),+));
            pub(super) static REPLACE: Stmt = Stmt::both(sealed_columns!(@replace $table, $column, $($key),+));
        })*
        /// All of them.
        pub(crate) static SEALED: &[SealedColumn] = &[$(SealedColumn {
            table: $table,
            column: $column,
            form: sealed_columns!(@form $($key),+),
            after: &$name::AFTER,
            replace: &$name::REPLACE,
        }),*];
        pub(crate) static STATEMENTS: &[(&str, &Stmt)] = &[$(
            (concat!(stringify!($name), " after"), &$name::AFTER),
            (concat!(stringify!($name), " replace"), &$name::REPLACE),
        )*];
    };
}

sealed_columns! {
    ping_bodies = "ping_bodies", "sealed", keyed ("check_id", "n"),
        of project "(select c.project_id from checks c where c.id = t.check_id)";
    api_keys = "api_keys", "sealed", keyed ("id"), of project "t.project_id";
    channels = "channels", "sealed_config", keyed ("id"), of project "t.project_id";
    attempts = "attempts", "sealed_detail", keyed ("shard", "delivery_id", "n"),
        of project "(select d.project_id from deliveries d where d.shard = t.shard and d.id = t.delivery_id)";
}

/// Table and column of each column that holds sealed values, for the tests that look for one that was left out.
#[doc(hidden)]
pub fn sealed_columns() -> Vec<(&'static str, &'static str)> {
    SEALED.iter().map(|column| (column.table, column.column)).collect()
}
