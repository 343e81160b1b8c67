//! Where a value was written, for errors and for `config show`.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::value::printable;

/// A place that an operator can go to and edit. The order is the order of reports: files, then variables.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    File(Arc<PathBuf>),
    /// Line and column count from 1, columns in characters.
    Line {
        file: Arc<PathBuf>,
        line: usize,
        column: usize,
    },
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "{}", printable(&file.display().to_string())),
            Self::Line { file, line, column } => {
                write!(f, "{}:{line}:{column}", printable(&file.display().to_string()))
            }
            Self::Variable(name) => write!(f, "{}", printable(name)),
        }
    }
}

/// Where the effective value of a setting came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    Default,
    /// The default, worked out from the setting named.
    DefaultFrom(&'static str),
    Place(Place),
    /// Read from `path`, which was named at `by`.
    SecretFile {
        path: PathBuf,
        by: Place,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::DefaultFrom(setting) => write!(f, "default, from {setting}"),
            // A column is of use in an error only.
            Self::Place(Place::Line { file, line, .. }) => {
                write!(f, "{}:{line}", printable(&file.display().to_string()))
            }
            Self::Place(place) => write!(f, "{place}"),
            Self::SecretFile { path, by } => {
                write!(f, "file {}, named by ", printable(&path.display().to_string()))?;
                Self::Place(by.clone()).fmt(f)
            }
        }
    }
}
