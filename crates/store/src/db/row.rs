//! Values on their way in and out.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use allswell_core::id;
use allswell_core::time::{Span, Timestamp};
use uuid::Uuid;

use crate::{Error, Result};

/// A value that is bound to a statement.
#[derive(Copy, Clone)]
pub(crate) enum Param<'a> {
    Null,
    Integer(i64),
    Bool(bool),
    Text(&'a str),
    Bytes(&'a [u8]),
    Uuid(Uuid),
    /// Arrays are for statements on PostgreSQL alone.
    Integers(&'a [Option<i64>]),
    Texts(&'a [Option<&'a str>]),
    Blobs(&'a [&'a [u8]]),
    Uuids(&'a [Option<Uuid>]),
}

/// A value that came back.
#[derive(Clone)]
pub(crate) enum Value {
    Null,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl Value {
    fn look(&self) -> Look<'_> {
        match self {
            Value::Null => Look::Null,
            Value::Integer(number) => Look::Integer(*number),
            Value::Text(text) => Look::Text(Cow::Borrowed(text)),
            Value::Bytes(bytes) => Look::Bytes(bytes),
        }
    }
}

/// A value where it lies.
pub(crate) enum Look<'v> {
    Null,
    Integer(i64),
    Text(Cow<'v, str>),
    Bytes(&'v [u8]),
}

impl Look<'_> {
    /// A copy that outlives the row.
    pub(crate) fn kept(self) -> Value {
        match self {
            Look::Null => Value::Null,
            Look::Integer(number) => Value::Integer(number),
            Look::Text(text) => Value::Text(text.into_owned()),
            Look::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Look::Null => "null",
            Look::Integer(_) => "integer",
            Look::Text(_) => "text",
            Look::Bytes(_) => "bytes",
        }
    }

    /// Reads it as a type; `column` is for who has to find out why that failed.
    pub(crate) fn read<T: FromValue>(self, column: &str) -> Result<T> {
        let kind = self.kind();
        T::from_value(self)
            .ok_or_else(|| Error::Corrupt(format!("column {column} holds an unexpected {kind}")))
    }
}

impl From<i64> for Param<'_> {
    fn from(value: i64) -> Self {
        Param::Integer(value)
    }
}

impl From<u64> for Param<'_> {
    fn from(value: u64) -> Self {
        Param::Integer(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Param<'_> {
    fn from(value: bool) -> Self {
        Param::Bool(value)
    }
}

impl From<Timestamp> for Param<'_> {
    fn from(value: Timestamp) -> Self {
        Param::Integer(value.as_micros())
    }
}

impl From<Span> for Param<'_> {
    fn from(value: Span) -> Self {
        Param::Integer(value.as_micros())
    }
}

impl From<Uuid> for Param<'_> {
    fn from(value: Uuid) -> Self {
        Param::Uuid(value)
    }
}

impl<'a> From<&'a str> for Param<'a> {
    fn from(value: &'a str) -> Self {
        Param::Text(value)
    }
}

impl<'a> From<&'a String> for Param<'a> {
    fn from(value: &'a String) -> Self {
        Param::Text(value)
    }
}

impl<'a> From<&'a [u8]> for Param<'a> {
    fn from(value: &'a [u8]) -> Self {
        Param::Bytes(value)
    }
}

impl<'a> From<&'a Vec<u8>> for Param<'a> {
    fn from(value: &'a Vec<u8>) -> Self {
        Param::Bytes(value)
    }
}

impl<'a> From<&'a [Option<i64>]> for Param<'a> {
    fn from(values: &'a [Option<i64>]) -> Self {
        Param::Integers(values)
    }
}

impl<'a> From<&'a [Option<&'a str>]> for Param<'a> {
    fn from(values: &'a [Option<&'a str>]) -> Self {
        Param::Texts(values)
    }
}

impl<'a> From<&'a [&'a [u8]]> for Param<'a> {
    fn from(values: &'a [&'a [u8]]) -> Self {
        Param::Blobs(values)
    }
}

impl<'a> From<&'a [Option<Uuid>]> for Param<'a> {
    fn from(values: &'a [Option<Uuid>]) -> Self {
        Param::Uuids(values)
    }
}

impl<'a, T: Into<Param<'a>>> From<Option<T>> for Param<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Param::Null, Into::into)
    }
}

/// A row of a result, by the names of its columns.
pub(crate) trait Columns {
    /// The value of a column.
    fn get<T: FromValue>(&self, column: &str) -> Result<T>;
}

/// What can be made of a row while the database still holds it. For the paths that every ping takes: nothing is copied
/// that is not kept.
pub(crate) trait FromColumns: Sized {
    /// `Corrupt` for a row that no program of ours wrote.
    fn from_columns(row: &impl Columns) -> Result<Self>;
}

/// The place of a column, looked for first at `hint`: columns are mostly read in the order they were selected.
pub(crate) fn place_of(columns: &[String], column: &str, hint: usize) -> Result<usize> {
    if columns.get(hint).is_some_and(|name| name == column) {
        return Ok(hint);
    }
    let found = columns.iter().position(|name| name == column);
    found.ok_or_else(|| Error::Internal(format!("the result has no column {column}")))
}

/// A row of a result that is kept.
pub(crate) struct Row {
    columns: Arc<[String]>,
    values: Vec<Value>,
    /// Where the next column is looked for first.
    next: AtomicUsize,
}

impl Row {
    pub(crate) fn new(columns: Arc<[String]>, values: Vec<Value>) -> Self {
        Row {
            columns,
            values,
            next: AtomicUsize::new(0),
        }
    }

    /// The value of a column.
    pub(crate) fn get<T: FromValue>(&self, column: &str) -> Result<T> {
        let index = place_of(&self.columns, column, self.next.load(Ordering::Relaxed))?;
        self.next.store(index + 1, Ordering::Relaxed);
        self.values[index].look().read(column)
    }
}

impl Columns for Row {
    fn get<T: FromValue>(&self, column: &str) -> Result<T> {
        Row::get(self, column)
    }
}

/// A type that a column can be read as.
pub(crate) trait FromValue: Sized {
    fn from_value(value: Look<'_>) -> Option<Self>;
}

impl FromValue for i64 {
    fn from_value(value: Look<'_>) -> Option<Self> {
        match value {
            Look::Integer(number) => Some(number),
            _ => None,
        }
    }
}

impl FromValue for u64 {
    fn from_value(value: Look<'_>) -> Option<Self> {
        i64::from_value(value).and_then(|number| u64::try_from(number).ok())
    }
}

impl FromValue for u8 {
    fn from_value(value: Look<'_>) -> Option<Self> {
        i64::from_value(value).and_then(|number| u8::try_from(number).ok())
    }
}

impl FromValue for bool {
    fn from_value(value: Look<'_>) -> Option<Self> {
        i64::from_value(value).map(|number| number != 0)
    }
}

impl FromValue for Timestamp {
    fn from_value(value: Look<'_>) -> Option<Self> {
        i64::from_value(value).map(Timestamp::from_micros)
    }
}

impl FromValue for Span {
    fn from_value(value: Look<'_>) -> Option<Self> {
        i64::from_value(value).map(Span::from_micros)
    }
}

impl FromValue for String {
    fn from_value(value: Look<'_>) -> Option<Self> {
        match value {
            Look::Text(text) => Some(text.into_owned()),
            _ => None,
        }
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: Look<'_>) -> Option<Self> {
        match value {
            Look::Bytes(bytes) => Some(bytes.to_vec()),
            _ => None,
        }
    }
}

impl FromValue for Uuid {
    fn from_value(value: Look<'_>) -> Option<Self> {
        match value {
            Look::Bytes(bytes) => Uuid::from_slice(bytes).ok(),
            _ => None,
        }
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Look<'_>) -> Option<Self> {
        match value {
            Look::Null => Some(None),
            other => T::from_value(other).map(Some),
        }
    }
}

macro_rules! ids {
    ($($name:ident),*) => {$(
        impl FromValue for id::$name {
            fn from_value(value: Look<'_>) -> Option<Self> {
                Uuid::from_value(value).map(Into::into)
            }
        }
        impl From<id::$name> for Param<'_> {
            fn from(value: id::$name) -> Self {
                Param::Uuid(value.as_uuid())
            }
        }
    )*};
}
ids!(
    CheckId, ProjectId, UserId, ChannelId, DeliveryId, KeyId, DataKeyId, NodeId, AuditId
);
