//! Reading files: the configuration with the place of each key, and secrets named by a `_file` key.
//!
//! Nothing here repeats a line of a file. The TOML crate's own errors do when printed whole, which could show
//! a secret with a missing quote, so only their description and position are used.

use std::borrow::Cow;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ConfigErrors;
use super::nearest::nearest_sentence;
use super::settings::{SECTIONS, SETTINGS, Setting};
use super::source::Place;
use super::value::{Raw, printable};

/// A configuration of all keys with their documentation has 5 kB.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
pub const SECRET_FILE_BYTES_MAX: u64 = 64 << 10;

/// One thing written by the operator, in a file or in the environment.
pub struct Given {
    pub setting: &'static Setting,
    pub form: Form,
    pub raw: Raw,
    pub place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Direct,
    /// The `_file` form: what was written is the path of a file that holds the value.
    InFile,
}

/// What a file held, and whether every user of the machine may read it.
pub struct Content {
    pub bytes: Vec<u8>,
    pub world_readable: bool,
}

/// Reads no more than `bytes_max`. The error is the end of a sentence and holds nothing of the content.
pub fn read(path: &Path, bytes_max: u64) -> Result<Content, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let file = std::fs::File::open(path).map_err(cannot)?;
    let world_readable = world_readable(&file.metadata().map_err(cannot)?);
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("is larger than {bytes_max} bytes"));
    }
    Ok(Content {
        bytes,
        world_readable,
    })
}

#[cfg(unix)]
pub fn world_readable(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.is_file() && metadata.permissions().mode() & 0o004 != 0
}

#[cfg(not(unix))]
pub fn world_readable(_: &std::fs::Metadata) -> bool {
    false
}

/// The settings written in a configuration file; what is wrong goes to `errors`.
pub fn settings_given(path: &Path, bytes: &[u8], errors: &mut ConfigErrors) -> Vec<Given> {
    let file = Arc::new(path.to_owned());
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let place = Lines::new(file, &good).place(good.len());
            errors.push(place, "the file is not UTF-8 text from here on");
            return Vec::new();
        }
    };
    let lines = Lines::new(file, text);
    let (table, syntax_errors) = DeTable::parse_recoverable(text);
    if !syntax_errors.is_empty() {
        // What the parser made of the rest is a guess; errors about a guess would mislead.
        for error in syntax_errors {
            if errors.is_full() {
                errors.skip();
                continue;
            }
            let place = lines.place(error.span().map_or(0, |span| span.start));
            errors.push(place, format!("this is not TOML: {}", printable(error.message())));
        }
        return Vec::new();
    }
    let mut walk = Walk {
        lines,
        errors,
        given: Vec::new(),
    };
    walk.top_level(table.get_ref());
    walk.given
}

/// A TOML value by itself, as the table of settings writes its defaults.
pub fn value_parse(text: &str) -> Option<Raw> {
    DeValue::parse(text).ok().map(|value| raw(value.get_ref()))
}

struct Walk<'a> {
    lines: Lines<'a>,
    errors: &'a mut ConfigErrors,
    given: Vec<Given>,
}

impl Walk<'_> {
    fn top_level(&mut self, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let is_section = SECTIONS.iter().any(|(section, _)| *section == name);
            match value.get_ref() {
                DeValue::Table(inner) if is_section => self.section(name, inner),
                _ if is_section => {
                    self.complain(key, || {
                        format!("{name} is a section, write [{name}] and its keys below")
                    });
                }
                DeValue::Table(_) if find(name).is_none() => self.complain(key, || {
                    let known = SECTIONS.iter().map(|(section, _)| (*section).to_owned());
                    format!(
                        "[{}] is not a known section; {}",
                        printable(name),
                        nearest_sentence("", name, known)
                    )
                }),
                _ => self.key(name, key, value),
            }
        }
    }

    fn section(&mut self, section: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = format!("{section}.{}", key.get_ref());
            match value.get_ref() {
                DeValue::Table(inner) if SECTIONS.iter().any(|(known, _)| *known == name) => {
                    self.section(&name, inner);
                }
                _ => self.key(&name, key, value),
            }
        }
    }

    fn key(&mut self, name: &str, key: &Spanned<Cow<'_, str>>, value: &Spanned<DeValue<'_>>) {
        match find(name) {
            Some((setting, form)) => {
                let place = self.lines.place(key.span().start);
                self.given.push(Given {
                    setting,
                    form,
                    raw: raw(value.get_ref()),
                    place,
                });
            }
            None => self.complain(key, || {
                let files = SETTINGS.iter().filter_map(Setting::file_name);
                let known = SETTINGS
                    .iter()
                    .map(|setting| setting.name.to_owned())
                    .chain(files);
                format!(
                    "{} is not a known key; {}",
                    printable(name),
                    nearest_sentence("", name, known)
                )
            }),
        }
    }

    /// The message is made only if it will be told: a file of a megabyte may hold 100,000 unknown keys.
    fn complain(&mut self, key: &Spanned<Cow<'_, str>>, problem: impl FnOnce() -> String) {
        if self.errors.is_full() {
            self.errors.skip();
        } else {
            self.errors.push(self.lines.place(key.span().start), problem());
        }
    }
}

fn find(name: &str) -> Option<(&'static Setting, Form)> {
    let direct = SETTINGS.iter().find(|setting| setting.name == name);
    let in_file = || {
        SETTINGS
            .iter()
            .find(|setting| setting.file_name().is_some_and(|file| file == name))
    };
    direct
        .map(|setting| (setting, Form::Direct))
        .or_else(|| in_file().map(|setting| (setting, Form::InFile)))
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => Raw::Number {
            text: number.to_string(),
            value: i128::from_str_radix(number.as_str(), number.radix()).ok(),
        },
        DeValue::Float(number) => Raw::Number {
            text: number.to_string(),
            value: None,
        },
        DeValue::Array(items) => Raw::List(items.iter().map(|item| raw(item.get_ref())).collect()),
        DeValue::Boolean(truth) => Raw::Truth(*truth),
        DeValue::Datetime(_) => Raw::Other("a date or time"),
        DeValue::Table(_) => Raw::Other("a section"),
    }
}

/// From byte offsets to lines and columns.
struct Lines<'a> {
    file: Arc<PathBuf>,
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(file: Arc<PathBuf>, text: &'a str) -> Self {
        let after_breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            file,
            text,
            starts: std::iter::once(0).chain(after_breaks).collect(),
        }
    }

    fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset);
        let before = self.text.get(self.starts[line - 1]..offset).unwrap_or_default();
        Place::Line {
            file: self.file.clone(),
            line,
            column: before.chars().count() + 1,
        }
    }
}
