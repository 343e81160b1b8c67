//! The configuration as a whole. Each test works in a directory of its own and passes the environment in, so
//! nothing here depends on where or how the tests are run.

mod example;
mod layers;
mod outbound;
mod refusals;
mod secrets;
mod show;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::error::ConfigErrors;
use super::{Config, Loaded};

/// A working directory with files in it.
struct Folder {
    directory: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    fn with_config(text: impl AsRef<[u8]>) -> Self {
        let folder = Self::new();
        folder.write("allswell.toml", text);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file that only its owner can read.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).expect("the file is written");
        self.mode_set(name, 0o600);
        path.to_str().expect("the path is text").to_owned()
    }

    fn mode_set(&self, name: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(self.path(name), permissions).expect("the mode is set");
    }

    fn load(&self, variables: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
        Config::load_in(self.directory.path(), None, environment(variables))
    }

    fn loaded(&self, variables: &[(&str, &str)]) -> Loaded {
        self.load(variables).unwrap_or_else(|errors| panic!("{errors}"))
    }

    /// What is wrong, with the directory's name taken out so that it can be compared.
    fn refusal(&self, variables: &[(&str, &str)]) -> String {
        let errors = self
            .load(variables)
            .expect_err("the configuration is refused")
            .to_string();
        errors.replace(&format!("{}/", self.directory.path().display()), "")
    }
}

fn environment(variables: &[(&str, &str)]) -> impl Iterator<Item = (OsString, OsString)> {
    let owned: Vec<_> = variables
        .iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)))
        .collect();
    owned.into_iter()
}

/// `Secret` cannot be compared, and the rest of two configurations can by how they are printed.
fn assert_same(left: &Config, right: &Config) {
    assert_eq!(format!("{left:#?}"), format!("{right:#?}"));
}

fn load_file(path: &Path, variables: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
    Config::load_in(Path::new("/nonexistent"), Some(path), environment(variables))
}
