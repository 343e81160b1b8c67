//! Every column that holds sealed values, so that the rotation of keys finds them all.
//!
//! A new column that holds sealed values gets one line here, and a test asks for it. What such a value belongs to
//! ([`Place`]) is its table, its column, its project, and the parts of its row's key that its [`Form`] names, one
//! behind the other: ids as 16 bytes, numbers as 8, the highest first, names as they are.

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
    /// The id of a shard, an id, and a number within that. The shard is no part of the place.
    Sharded,
    /// A number of its own. The place is that of the ping it belongs to: an id, and a number within it, which the key keeps
    /// as its second id.
    Logged,
    /// An id and a name within it. The id is that of the project, so that the name is the row's part of the place.
    Named,
}

/// A column that holds sealed values.
pub(crate) struct SealedColumn {
    pub(crate) table: &'static str,
    pub(crate) column: &'static str,
    form: Form,
    /// The rows behind a key, in its order: the key as `k1`, `k2`, `n` (its last part, a name too), then `project_id` and `sealed`. Rows without a value
    /// too: looking for the next one that has one could take as long as the table is.
    pub(crate) after: &'static Stmt,
    /// Puts a value in the place of the one that was read; its parameters are the key, the new and the old one.
    pub(crate) replace: &'static Stmt,
}

/// The key of a row, whatever its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) id: Uuid,
    pub(crate) second: Uuid,
    pub(crate) n: i64,
    pub(crate) name: String,
}

impl Key {
    /// Before all others: ids are random, and numbers begin with 0.
    pub(crate) const FIRST: Key = Key {
        id: Uuid::nil(),
        second: Uuid::nil(),
        n: -1,
        name: String::new(),
    };

    fn params(&self, form: Form) -> Vec<Param<'_>> {
        match form {
            Form::Id => vec![self.id.into()],
            Form::Logged => vec![self.n.into()],
            Form::Sharded => vec![self.id.into(), self.second.into(), self.n.into()],
            Form::Named => vec![self.id.into(), (&self.name).into()],
        }
    }

    /// The key as it stands in a value's place.
    fn bytes(&self, form: Form) -> Vec<u8> {
        let numbered = |id: &Uuid, n: &[u8; 8]| [id.as_bytes().as_slice(), n].concat();
        let (_, ping) = self.second.as_u64_pair();
        match form {
            Form::Id => self.id.as_bytes().to_vec(),
            Form::Logged => numbered(&self.id, &ping.to_be_bytes()),
            Form::Sharded => numbered(&self.second, &self.n.to_be_bytes()),
            Form::Named => self.name.as_bytes().to_vec(),
        }
    }
}

impl SealedColumn {
    pub(crate) fn name(&self) -> String {
        format!("{}.{}", self.table, self.column)
    }

    pub(crate) fn params<'k>(&self, key: &'k Key) -> Vec<Param<'k>> {
        key.params(self.form)
    }

    pub(crate) fn key_of(&self, row: &Row) -> Result<Key> {
        Ok(Key {
            id: row.get("k1")?,
            second: match self.form {
                Form::Sharded => row.get("k2")?,
                Form::Logged => Uuid::from_u64_pair(0, row.get("k2")?),
                Form::Id | Form::Named => Uuid::nil(),
            },
            n: match self.form {
                Form::Logged | Form::Sharded => row.get("n")?,
                Form::Id | Form::Named => 0,
            },
            name: match self.form {
                Form::Named => row.get("n")?,
                Form::Id | Form::Logged | Form::Sharded => String::new(),
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
    (@after Logged, $table:literal, $column:literal, $project:literal, $id:literal) => {
        concat!("select t.check_id as k1, t.n as k2, t.", $id, " as n, ", $project, " as project_id, t.", $column,
                " as sealed from ", $table, " t where t.", $id, " > $1 order by t.", $id, " limit $2")
    };
    (@after $form:ident, $table:literal, $column:literal, $project:literal, $k1:literal) => {
        concat!("select t.", $k1, " as k1, ", $project, " as project_id, t.", $column, " as sealed from ", $table,
                " t where t.", $k1, " > $1 order by t.", $k1, " limit $2")
    };
    (@after $form:ident, $table:literal, $column:literal, $project:literal, $k1:literal, $n:literal) => {
        concat!("select t.", $k1, " as k1, t.", $n, " as n, ", $project, " as project_id, t.", $column,
                " as sealed from ", $table, " t where (t.", $k1, ", t.", $n, ") > ($1, $2) order by t.", $k1, ", t.",
                $n, " limit $3")
    };
    (@after $form:ident, $table:literal, $column:literal, $project:literal, $k1:literal, $k2:literal, $n:literal) => {
        concat!("select t.", $k1, " as k1, t.", $k2, " as k2, t.", $n, " as n, ", $project, " as project_id, t.",
                $column, " as sealed from ", $table, " t where (t.", $k1, ", t.", $k2, ", t.", $n,
                ") > ($1, $2, $3) order by t.", $k1, ", t.", $k2, ", t.", $n, " limit $4")
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
    ($($name:ident = $table:literal, $column:literal, keyed $form:ident ($($key:literal),+), of project $project:literal;)*) => {
        $(mod $name {
            use crate::db::Stmt;
            pub(super) static AFTER: Stmt = Stmt::both(sealed_columns!(@after $form, $table, $column, $project, $($key),+));
            pub(super) static REPLACE: Stmt = Stmt::both(sealed_columns!(@replace $table, $column, $($key),+));
        })*
        /// All of them.
        pub(crate) static SEALED: &[SealedColumn] = &[$(SealedColumn {
            table: $table,
            column: $column,
            form: Form::$form,
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
    ping_bodies = "ping_bodies", "sealed", keyed Logged ("id"),
        of project "(select c.project_id from checks c where c.id = t.check_id)";
    api_keys = "api_keys", "sealed", keyed Id ("id"), of project "t.project_id";
    channels = "channels", "sealed_config", keyed Id ("id"), of project "t.project_id";
    idempotency = "idempotency", "sealed", keyed Id ("id"), of project "t.project_id";
    signing_keys = "signing_keys", "sealed", keyed Id ("id"), of project "t.project_id";
    project_secrets = "project_secrets", "sealed_value", keyed Named ("project_id", "name"), of project "t.project_id";
    attempts = "attempts", "sealed_detail", keyed Sharded ("shard", "delivery_id", "n"),
        of project "(select d.project_id from deliveries d where d.shard = t.shard and d.id = t.delivery_id)";
}

/// Table and column of each column that holds sealed values, for the tests that look for one that was left out.
#[doc(hidden)]
pub fn sealed_columns() -> Vec<(&'static str, &'static str)> {
    SEALED
        .iter()
        .map(|column| (column.table, column.column))
        .collect()
}
