//! What `run` is told: by flags, else by the environment, else by a file. The first that says a thing is believed.
//!
//! The file is the one named by `--config` or `ALLSWELL_RUN_CONFIG`, else `allswell/run.toml` in `$XDG_CONFIG_HOME` or
//! `~/.config`, else `/etc/allswell/run.toml`. A value is never repeated in a message: it may be a key.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use allswell_core::secret::Secret;
use allswell_core::{id, limits};
use allswell_runner::{ALIVE_SECS, TAIL_BYTES_MAX, Url, WAIT_SECS_MAX};
use toml::de::{DeTable, DeValue};

use crate::cli::RunFlags;
use crate::system;

const PREFIX: &str = "ALLSWELL_RUN_";
const CONFIG_VARIABLE: &str = "ALLSWELL_RUN_CONFIG";
const SYSTEM_FILE: &str = "/etc/allswell/run.toml";
const FILE_BYTES_MAX: u64 = 64 << 10;
const PING_KEY_CHARS_MAX: usize = 100;

/// What a check is to be that `create` makes, as the address of a ping has it.
const WISHES: [&str; 7] = ["name", "tags", "schedule", "tz", "timeout", "grace", "channels"];

/// The names as the file has them. In the environment each is `ALLSWELL_RUN_` and the name in capitals.
const NAMES: [&str; 20] = [
    "server",
    "url",
    "uuid",
    "slug",
    "ping_key",
    "ping_key_file",
    "create",
    "start",
    "output",
    "tail_bytes",
    "wait_secs",
    "alive_secs",
    "quiet",
    "name",
    "tags",
    "schedule",
    "tz",
    "timeout",
    "grace",
    "channels",
];

/// All variables of `run`, for those who refuse unknown ones.
pub const VARIABLES: &[&str] = &[
    CONFIG_VARIABLE,
    "ALLSWELL_RUN_SERVER",
    "ALLSWELL_RUN_URL",
    "ALLSWELL_RUN_UUID",
    "ALLSWELL_RUN_SLUG",
    "ALLSWELL_RUN_PING_KEY",
    "ALLSWELL_RUN_PING_KEY_FILE",
    "ALLSWELL_RUN_CREATE",
    "ALLSWELL_RUN_START",
    "ALLSWELL_RUN_OUTPUT",
    "ALLSWELL_RUN_TAIL_BYTES",
    "ALLSWELL_RUN_WAIT_SECS",
    "ALLSWELL_RUN_ALIVE_SECS",
    "ALLSWELL_RUN_QUIET",
    "ALLSWELL_RUN_NAME",
    "ALLSWELL_RUN_TAGS",
    "ALLSWELL_RUN_SCHEDULE",
    "ALLSWELL_RUN_TZ",
    "ALLSWELL_RUN_TIMEOUT",
    "ALLSWELL_RUN_GRACE",
    "ALLSWELL_RUN_CHANNELS",
];

/// What one of the three says.
#[derive(Default)]
pub struct Layer {
    values: BTreeMap<&'static str, String>,
    /// Where it says so, for messages.
    place: Place,
}

#[derive(Default, Clone)]
enum Place {
    #[default]
    Flags,
    Environment,
    File(PathBuf),
}

impl Place {
    fn of(&self, name: &str) -> String {
        match self {
            Place::Flags => match name {
                "alive_secs" => "--alive-every".to_owned(),
                "start" | "output" => format!("--no-{name}"),
                _ => format!("--{}", name.replace('_', "-")),
            },
            Place::Environment => format!("{PREFIX}{}", name.to_uppercase()),
            Place::File(path) => format!("{name} in {}", path.display()),
        }
    }
}

impl Layer {
    /// What was typed.
    pub fn of_flags(flags: RunFlags) -> Self {
        let mut values = BTreeMap::new();
        let mut put = |name, value: Option<String>| {
            if let Some(value) = value {
                values.insert(name, value);
            }
        };
        let yes = |given: bool, value: &str| given.then(|| value.to_owned());
        put("server", flags.server);
        put("url", flags.url);
        put("uuid", flags.uuid);
        put("slug", flags.slug);
        put("ping_key", flags.ping_key);
        put(
            "ping_key_file",
            flags.ping_key_file.map(|path| path.display().to_string()),
        );
        put("create", yes(flags.create, "true"));
        put("start", yes(flags.no_start, "false"));
        put("output", yes(flags.no_output, "false"));
        put("tail_bytes", flags.tail_bytes.map(|bytes| bytes.to_string()));
        put("wait_secs", flags.wait_secs.map(|secs| secs.to_string()));
        put("alive_secs", flags.alive_every.map(|secs| secs.to_string()));
        put("quiet", yes(flags.quiet, "true"));
        put("name", flags.name);
        put("tags", flags.tags);
        put("schedule", flags.schedule);
        put("tz", flags.tz);
        put("timeout", flags.timeout.map(|secs| secs.to_string()));
        put("grace", flags.grace.map(|secs| secs.to_string()));
        put("channels", flags.channels);
        Layer {
            values,
            place: Place::Flags,
        }
    }

    fn of_environment(variables: &BTreeMap<OsString, OsString>, complaints: &mut Vec<String>) -> Self {
        let mut values = BTreeMap::new();
        for (variable, value) in variables {
            let variable = variable.to_string_lossy();
            let Some(name) = variable.strip_prefix(PREFIX) else {
                continue;
            };
            if variable == CONFIG_VARIABLE {
                continue;
            }
            match (
                NAMES.iter().find(|known| known.to_uppercase() == name),
                value.to_str(),
            ) {
                (None, _) => complaints.push(format!("{variable} is not known and counts for nothing")),
                (_, None) => complaints.push(format!("{variable} is not text and counts for nothing")),
                (Some(_), Some("")) => {}
                (Some(known), Some(value)) => {
                    values.insert(*known, value.to_owned());
                }
            }
        }
        Layer {
            values,
            place: Place::Environment,
        }
    }

    fn of_file(path: &Path, complaints: &mut Vec<String>) -> Result<Self, String> {
        let text = system::read_small_file(path, FILE_BYTES_MAX).map_err(|error| format!("{error:#}"))?;
        let table = DeTable::parse(&text).map_err(|error| {
            let line = text[..error.span().map_or(0, |span| span.start)]
                .lines()
                .count()
                .max(1);
            format!("{}:{line} is not TOML: {}", path.display(), error.message())
        })?;
        let mut values = BTreeMap::new();
        for (key, value) in table.get_ref() {
            let Some(known) = NAMES.iter().find(|known| **known == key.get_ref().as_ref()) else {
                let name = key.get_ref().escape_debug();
                complaints.push(format!(
                    "{name} in {} is not known and counts for nothing",
                    path.display()
                ));
                continue;
            };
            let text = match value.get_ref() {
                DeValue::String(text) => text.to_string(),
                DeValue::Integer(number) => number.to_string(),
                DeValue::Boolean(truth) => truth.to_string(),
                _ => {
                    return Err(format!(
                        "{known} in {} is of a kind that it cannot be",
                        path.display()
                    ));
                }
            };
            if !text.is_empty() {
                values.insert(*known, text);
            }
        }
        Ok(Layer {
            values,
            place: Place::File(path.to_owned()),
        })
    }
}

/// What `run` goes by.
#[derive(Debug)]
pub struct Settings {
    /// The check's ping address.
    pub address: Url,
    /// For a check that is not named by its slug.
    pub ping_key: Option<Secret<String>>,
    pub create: bool,
    /// What such a check is to be.
    pub wish: Vec<(&'static str, String)>,
    pub start: bool,
    pub output: bool,
    pub tail_bytes: Option<usize>,
    pub wait_secs: Option<u64>,
    /// Between two words that the job still runs.
    pub alive_secs: Option<u64>,
    pub quiet: bool,
}

/// Settings, and what should be said about them.
pub type Read = (Result<Settings, String>, Vec<String>);

impl Settings {
    /// Puts the three together. What counts for nothing is told; what keeps us from reporting is the error.
    pub fn load(flags: Layer, file: Option<&Path>, variables: &BTreeMap<OsString, OsString>) -> Read {
        let mut complaints = Vec::new();
        let environment = Layer::of_environment(variables, &mut complaints);
        let file = match file_layer(file, variables, &mut complaints) {
            Ok(layer) => layer,
            Err(problem) => return (Err(problem), complaints),
        };
        let layers = Layers([flags, environment, file.unwrap_or_default()]);
        (layers.settings(&mut complaints), complaints)
    }
}

fn file_layer(
    named: Option<&Path>,
    variables: &BTreeMap<OsString, OsString>,
    complaints: &mut Vec<String>,
) -> Result<Option<Layer>, String> {
    let path_in = |name: &str| {
        let value = variables
            .get(&OsString::from(name))
            .filter(|value| !value.is_empty());
        value.map(PathBuf::from)
    };
    if let Some(path) = named.map(Path::to_owned).or_else(|| path_in(CONFIG_VARIABLE)) {
        return Layer::of_file(&path, complaints).map(Some);
    }
    let home = path_in("XDG_CONFIG_HOME").or_else(|| path_in("HOME").map(|home| home.join(".config")));
    let own = home.map(|home| home.join("allswell/run.toml"));
    for path in own.into_iter().chain([PathBuf::from(SYSTEM_FILE)]) {
        match std::fs::metadata(&path) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
            // A home that we may not enter is no home of ours.
            Err(_) => continue,
        }
        // The system's file may be for others than us.
        if path == Path::new(SYSTEM_FILE)
            && std::fs::File::open(&path).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
        {
            continue;
        }
        return Layer::of_file(&path, complaints).map(Some);
    }
    Ok(None)
}

/// The strongest first.
struct Layers([Layer; 3]);

impl Layers {
    fn find(&self, name: &str) -> Option<(&str, String)> {
        let found = self
            .0
            .iter()
            .find_map(|layer| Some((layer.values.get(name)?, layer)));
        found.map(|(value, layer)| (value.as_str(), layer.place.of(name)))
    }

    fn parsed<T: FromStr>(
        &self,
        name: &str,
        good: impl Fn(&T) -> bool,
        want: impl Display,
    ) -> Result<Option<T>, String> {
        let Some((value, place)) = self.find(name) else {
            return Ok(None);
        };
        match value.parse().ok().filter(|value| good(value)) {
            Some(value) => Ok(Some(value)),
            None => Err(format!("{place} is not {want}")),
        }
    }

    fn switch(&self, name: &str, default: bool) -> Result<bool, String> {
        Ok(self.parsed(name, |_| true, "true or false")?.unwrap_or(default))
    }

    fn url(&self, name: &str) -> Result<Option<Url>, String> {
        let Some((value, place)) = self.find(name) else {
            return Ok(None);
        };
        Url::parse(value)
            .map(Some)
            .map_err(|problem| format!("{place} {problem}"))
    }

    fn settings(&self, complaints: &mut Vec<String>) -> Result<Settings, String> {
        let start = self.switch("start", true)?;
        if let (false, Some((_, alive)), Some((_, no_start))) =
            (start, self.find("alive_secs"), self.find("start"))
        {
            return Err(format!(
                "{alive} needs the start to be reported, which {no_start} keeps back: of what is not known to run nobody \
                 can say that it still runs"
            ));
        }
        let address = self.address()?;
        // The key is for servers that ask for it: without a good one the job is reported all the same.
        let ping_key = self.key_beside_id().unwrap_or_else(|problem| {
            complaints.push(format!("{problem}; no key goes along with the pings"));
            None
        });
        Ok(Settings {
            address,
            ping_key,
            create: self.switch("create", false)?,
            wish: WISHES
                .into_iter()
                .filter_map(|name| Some((name, self.find(name)?.0.to_owned())))
                .collect(),
            start,
            output: self.switch("output", true)?,
            tail_bytes: self.parsed(
                "tail_bytes",
                |bytes| *bytes <= TAIL_BYTES_MAX,
                format!("a number up to {TAIL_BYTES_MAX}"),
            )?,
            wait_secs: self.parsed(
                "wait_secs",
                |secs| (1..=WAIT_SECS_MAX).contains(secs),
                format!("a number from 1 to {WAIT_SECS_MAX}"),
            )?,
            alive_secs: self.parsed(
                "alive_secs",
                |secs| ALIVE_SECS.contains(secs),
                format!("a number from {} to {}", ALIVE_SECS.start(), ALIVE_SECS.end()),
            )?,
            quiet: self.switch("quiet", false)?,
        })
    }

    /// The address of the check: the strongest layer that names one decides which kind it is.
    fn address(&self) -> Result<Url, String> {
        const KINDS: [&str; 3] = ["url", "uuid", "slug"];
        let named = self.0.iter().find_map(|layer| {
            let here: Vec<&str> = KINDS
                .into_iter()
                .filter(|kind| layer.values.contains_key(kind))
                .collect();
            (!here.is_empty()).then_some((here, &layer.place))
        });
        let Some((kinds, place)) = named else {
            return Err("nothing says which check is meant: give --slug, --uuid or --url".to_owned());
        };
        if let [first, second, ..] = kinds[..] {
            return Err(format!(
                "{} and {} name two checks; keep one",
                place.of(first),
                place.of(second)
            ));
        }
        let kind = kinds[0];
        if kind == "url" {
            return Ok(self.url("url")?.expect("a layer has it"));
        }
        let (value, place) = self.find(kind).expect("a layer has it");
        let check = if kind == "uuid" {
            let id = id::parse_strict(&value.to_lowercase())
                .ok_or_else(|| format!("{place} is not the id of a check"))?;
            id.to_string()
        } else {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
            if value.len() > limits::SLUG_CHARS_MAX || !value.bytes().all(plain) {
                return Err(format!(
                    "{place} is not a slug: small letters, digits, - and _, at most {}",
                    limits::SLUG_CHARS_MAX
                ));
            }
            format!("{}/{value}", self.ping_key()?)
        };
        let server = self.url("server")?.ok_or(
            "nothing says where the server is: give --server with what ping addresses begin with, such as \
             https://allswell.example.org/ping",
        )?;
        Ok(server.below(&check))
    }

    /// The ping key that goes beside an address, if there is one: servers may ask for it where a check is named by its id.
    ///
    /// A whole address may be on any server. A key from a weaker layer was not meant for it, and stays here.
    fn key_beside_id(&self) -> Result<Option<Secret<String>>, String> {
        let layer_of = |names: &[&str]| {
            let says = |layer: &Layer| names.iter().any(|name| layer.values.contains_key(name));
            self.0.iter().position(says)
        };
        // In the order in which the key is looked for.
        let key = layer_of(&["ping_key"]).or_else(|| layer_of(&["ping_key_file"]));
        let (Some(key), Some(address)) = (key, layer_of(&["url", "uuid", "slug"])) else {
            return Ok(None);
        };
        let named = &self.0[address].values;
        let is_for_it = named.contains_key("uuid") || named.contains_key("url") && key <= address;
        if !is_for_it {
            return Ok(None);
        }
        self.ping_key().map(Secret::new).map(Some)
    }

    fn ping_key(&self) -> Result<String, String> {
        let (key, place) = match (self.find("ping_key"), self.find("ping_key_file")) {
            (Some((key, place)), _) => (key.to_owned(), place),
            (None, Some((path, place))) => {
                let text = system::read_small_file(Path::new(path), FILE_BYTES_MAX)
                    .map_err(|error| format!("{place}: {error:#}"))?;
                (text.trim().to_owned(), place)
            }
            (None, None) => {
                return Err(
                    "a slug needs the project's ping key: put it into ping_key of the file or \
                            ALLSWELL_RUN_PING_KEY"
                        .to_owned(),
                );
            }
        };
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if key.is_empty() || key.len() > PING_KEY_CHARS_MAX || !key.bytes().all(plain) {
            return Err(format!("{place} is not a ping key"));
        }
        Ok(key)
    }
}
