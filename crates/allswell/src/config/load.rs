//! From what was written to the effective settings: the environment before the file, the file before the
//! defaults, and what is empty worked out from other settings.
//!
//! Every value of every layer is checked, also one that a stronger layer hides, and everything that is wrong
//! is reported at once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::environment::Environment;
use super::error::ConfigErrors;
use super::file::{self, Form, Given};
use super::settings::{SETTINGS, Setting};
use super::show::{Shown, shown};
use super::source::{Place, Source};
use super::value::{Kind, Raw, Value, printable};
use super::values::Values;
use super::{Config, DatabaseUrl, KeyRingSource, SiteUrl, check};

/// Read when no other file is named and it is in the working directory.
const FILE_DEFAULT: &str = "allswell.toml";

/// A valid configuration and where it came from.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// The configuration file that was read, if any.
    pub file: Option<PathBuf>,
    /// By the name of the setting, such as `limits.inbox`.
    pub sources: BTreeMap<&'static str, Source>,
    /// What is allowed and most likely not meant; for the log at start.
    pub warnings: Vec<String>,
    /// What `config show` prints; secrets are masked already.
    pub(super) shown: BTreeMap<&'static str, Shown>,
}

impl Config {
    /// Reads the file named by `--config`, else by `ALLSWELL_CONFIG`, else `allswell.toml` where it exists,
    /// and the environment.
    pub fn load(
        file: Option<&Path>,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Loaded, ConfigErrors> {
        Self::load_in(Path::new(""), file, variables)
    }

    /// The same, looking for the default file in `directory`.
    pub(super) fn load_in(
        directory: &Path,
        file: Option<&Path>,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Loaded, ConfigErrors> {
        let mut loader = Loader::default();
        let environment = Environment::read(variables, &mut loader.errors);
        let named = file.map(Path::to_owned).or(environment.config_file);
        let default = || Some(directory.join(FILE_DEFAULT)).filter(|path| path.exists());
        let path = named.or_else(default);
        let in_file = path
            .as_deref()
            .map(|path| loader.file_read(path))
            .unwrap_or_default();

        let layers = Layers {
            aliases: environment.aliases,
            environment: environment.given,
            file: in_file,
        };
        loader.finish(layers, path)
    }
}

/// The defaults, as without any file and environment.
impl Default for Config {
    fn default() -> Self {
        Loader::default()
            .finish(Layers::default(), None)
            .expect("the defaults are valid")
            .config
    }
}

/// What was written, the strongest first but for the aliases, which give way to the real names.
#[derive(Default)]
struct Layers {
    aliases: Vec<Given>,
    environment: Vec<Given>,
    file: Vec<Given>,
}

/// What one layer says about a setting.
enum Chosen {
    Value(Value, Place),
    InFile(PathBuf, Place),
}

#[derive(Default)]
struct Loader {
    errors: ConfigErrors,
    warnings: Vec<String>,
    sources: BTreeMap<&'static str, Source>,
}

impl Loader {
    fn file_read(&mut self, path: &Path) -> Vec<Given> {
        match file::read(path, file::FILE_BYTES_MAX) {
            Ok(content) => {
                let given = file::settings_given(path, &content.bytes, &mut self.errors);
                let holds_secret = given.iter().any(|given| {
                    given.setting.kind.is_secret() && given.form == Form::Direct && !given.raw.is_empty()
                });
                if content.world_readable && holds_secret {
                    self.warnings.push(check::world_readable_warning(path));
                }
                given
            }
            Err(problem) => {
                self.errors.push(
                    Place::File(Arc::new(path.to_owned())),
                    format!("the file {problem}"),
                );
                Vec::new()
            }
        }
    }

    /// The value that wins, and notes its source.
    fn resolve(&mut self, setting: &'static Setting, layers: &mut Layers) -> Value {
        let default = file::value_parse(setting.default).and_then(|raw| setting.kind.parse(&raw).ok());
        let default = default.unwrap_or_else(|| panic!("the default of {} is valid", setting.name));
        let mut take = |layer: &mut Vec<Given>| self.layer(setting, layer);
        let alias = take(&mut layers.aliases);
        let environment = take(&mut layers.environment);
        let in_file = take(&mut layers.file);

        self.alias_check(setting, alias.as_ref(), environment.as_ref());
        let (value, source) = match environment.or(alias).or(in_file) {
            None => (default, Source::Default),
            Some(Chosen::Value(value, place)) => (value, Source::Place(place)),
            Some(Chosen::InFile(path, by)) => match setting.kind {
                Kind::KeyRing => {
                    let ring = KeyRingSource::File {
                        path,
                        is_default: false,
                    };
                    (Value::KeyRing(Some(ring)), Source::Place(by))
                }
                _ => {
                    let value = self.secret_file_read(setting, &path, &by).unwrap_or(default);
                    (value, Source::SecretFile { path, by })
                }
            },
        };
        self.sources.insert(setting.name, source);
        value
    }

    /// Takes what one layer says about a setting. Direct and `_file` form together are refused, as nobody
    /// could say which was meant; an empty one counts for nothing beside the other.
    fn layer(&mut self, setting: &'static Setting, layer: &mut Vec<Given>) -> Option<Chosen> {
        let given: Vec<Given> = layer
            .extract_if(.., |given| given.setting.name == setting.name)
            .collect();
        let written: Vec<&Place> = given
            .iter()
            .filter(|given| !given.raw.is_empty())
            .map(|given| &given.place)
            .collect();
        if let [first, second, ..] = written[..] {
            let problem = format!("{} is given here and at {first}; keep one of them", setting.name);
            self.errors.push(second.clone(), problem);
        }
        let mut chosen = None;
        for given in given {
            let empty = given.raw.is_empty();
            let Some(choice) = self.choice(given) else {
                continue;
            };
            if chosen.is_none() || !empty {
                chosen = Some(choice);
            }
        }
        chosen
    }

    fn choice(&mut self, given: Given) -> Option<Chosen> {
        let Given {
            setting,
            form,
            raw,
            place,
        } = given;
        let parsed = match form {
            Form::InFile if !raw.is_empty() => match Kind::Path.parse(&raw) {
                Ok(Value::Path(path)) => Ok(Chosen::InFile(path, place.clone())),
                Ok(_) => unreachable!("a path parses to a path"),
                Err(problem) => Err(format!("{}_file: {problem}", setting.name)),
            },
            // An empty file name says what an empty value says: work it out.
            Form::Direct | Form::InFile => match setting.kind.parse(&raw) {
                Ok(value) => Ok(Chosen::Value(value, place.clone())),
                Err(problem) => Err(format!("{}: {problem}", setting.name)),
            },
        };
        parsed.map_err(|problem| self.errors.push(place, problem)).ok()
    }

    fn alias_check(&mut self, setting: &Setting, alias: Option<&Chosen>, environment: Option<&Chosen>) {
        if let (Some(Chosen::Value(alias, at)), Some(Chosen::Value(value, named))) = (alias, environment)
            && !alias.is_same(value)
        {
            let problem = format!("{} has another value in {named}; keep one of them", setting.name);
            self.errors.push(at.clone(), problem);
        }
    }

    fn secret_file_read(&mut self, setting: &Setting, path: &Path, by: &Place) -> Option<Value> {
        let value = file::read(path, file::SECRET_FILE_BYTES_MAX).and_then(|content| {
            if content.world_readable {
                self.warnings.push(check::world_readable_warning(path));
            }
            let text = String::from_utf8(content.bytes).map_err(|_| "is not UTF-8 text".to_owned())?;
            let line = text.strip_suffix('\n').unwrap_or(&text);
            let line = line.strip_suffix('\r').unwrap_or(line);
            if line.is_empty() {
                return Err("is empty".to_owned());
            }
            let parsed = setting.kind.parse(&Raw::Text(line.to_owned()));
            parsed.map_err(|problem| format!("cannot be used: {problem}"))
        });
        let path = printable(&path.display().to_string());
        let told = |problem| {
            self.errors
                .push(by.clone(), format!("{}: the file {path} {problem}", setting.name))
        };
        value.map_err(told).ok()
    }

    fn finish(mut self, mut layers: Layers, file: Option<PathBuf>) -> Result<Loaded, ConfigErrors> {
        let resolved = SETTINGS
            .iter()
            .map(|setting| (setting.name, self.resolve(setting, &mut layers)));
        let mut values = Values {
            by_name: resolved.collect(),
        };
        self.work_out(&mut values);
        if !self.errors.is_empty() {
            return Err(self.errors.sorted());
        }
        let shown = values
            .by_name
            .iter()
            .map(|(name, value)| (*name, shown(value)))
            .collect();
        let config = values.config();
        self.warnings.extend(check::warnings(&config));
        Ok(Loaded {
            config,
            file,
            sources: self.sources,
            warnings: self.warnings,
            shown,
        })
    }

    /// Fills what was left empty, and looks at settings together.
    fn work_out(&mut self, values: &mut Values) {
        let (Some(Value::Address(listen)), Some(Value::Path(data_dir))) =
            (values.by_name.get("listen"), values.by_name.get("data_dir"))
        else {
            unreachable!("the table gives every setting a value of its kind");
        };
        let (listen, data_dir) = (*listen, data_dir.clone());
        self.proxy_check(values);
        let ring = || KeyRingSource::File {
            path: data_dir.join("key-ring"),
            is_default: true,
        };
        for (name, value) in &mut values.by_name {
            let from = match value {
                Value::SiteUrl(url @ None) => {
                    *url = Some(SiteUrl::of_listener(listen));
                    "listen"
                }
                Value::Database(url @ None) => {
                    *url = Some(DatabaseUrl::in_data_dir(&data_dir));
                    "data_dir"
                }
                Value::KeyRing(source @ None) => {
                    *source = Some(ring());
                    "data_dir"
                }
                Value::AddressOrOff(Some(address)) if *address == listen && listen.port() != 0 => {
                    if let Some(Source::Place(place)) = self.sources.get(name) {
                        self.errors.push(
                            place.clone(),
                            format!("{name}: {address} is the address of `listen`"),
                        );
                    }
                    continue;
                }
                _ => continue,
            };
            self.sources.insert(name, Source::DefaultFrom(from));
        }
    }

    /// A proxy takes the judging of addresses over or does not; nobody may be surprised by which.
    fn proxy_check(&mut self, values: &Values) {
        let proxy = matches!(
            values.by_name.get("outbound.proxy"),
            Some(Value::ProxyUrl(Some(_)))
        );
        let mode =
            matches!(values.by_name.get("outbound.proxy_mode"), Some(Value::Word(word)) if !word.is_empty());
        let (lonely, problem) = match (proxy, mode) {
            (true, false) => (
                "outbound.proxy",
                "needs outbound.proxy_mode: vetted-ip or delegated",
            ),
            (false, true) => ("outbound.proxy_mode", "needs outbound.proxy"),
            _ => return,
        };
        match self.sources.get(lonely) {
            Some(Source::Place(place) | Source::SecretFile { by: place, .. }) => {
                self.errors.push(place.clone(), format!("{lonely}: it {problem}"));
            }
            _ => unreachable!("what is not the default was written somewhere"),
        }
    }
}
