//! Reading the environment: every variable that begins with `ALLSWELL_` is ours and must be known, since a
//! setting that is silently ignored misleads whoever wrote it.
//!
//! Kubernetes puts the addresses of all services into each container, and a service called `allswell` or
//! `allswell-postgresql` gives names with our prefix; those are told by their form and left alone.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::error::ConfigErrors;
use super::file::{Form, Given};
use super::nearest::nearest_sentence;
use super::settings::{
    ALIASES, CONFIG_VARIABLE, CREDENTIALS_VARIABLE, PREFIX, SETTINGS, Setting, reserved_variables, setting,
};
use super::source::Place;
use super::value::Raw;

/// What the environment says.
#[derive(Default)]
pub struct Environment {
    pub given: Vec<Given>,
    /// Given under a name that other software has for the setting.
    pub aliases: Vec<Given>,
    /// From `ALLSWELL_CONFIG`.
    pub config_file: Option<PathBuf>,
    /// Where systemd puts the credentials of a service.
    pub credentials: Option<PathBuf>,
}

impl Environment {
    pub fn read(variables: impl Iterator<Item = (OsString, OsString)>, errors: &mut ConfigErrors) -> Self {
        let mut environment = Self::default();
        // In order of name, so that the same environment always gives the same report.
        for (name, value) in variables.collect::<BTreeMap<_, _>>() {
            let ours = name.as_encoded_bytes().starts_with(PREFIX.as_bytes());
            if name == CREDENTIALS_VARIABLE {
                environment.credentials =
                    Some(PathBuf::from(value)).filter(|path| !path.as_os_str().is_empty());
                continue;
            }
            match name.to_str() {
                Some(name) if ours => environment.our_variable(name, value, errors),
                Some(name) => environment.alias(name, value, errors),
                None if ours => {
                    let place = Place::Variable(name.to_string_lossy().into_owned());
                    errors.push(place, "the name of this variable is not UTF-8 text");
                }
                None => {}
            }
        }
        environment
    }

    fn our_variable(&mut self, name: &str, value: OsString, errors: &mut ConfigErrors) {
        let place = Place::Variable(name.to_owned());
        if name == CONFIG_VARIABLE {
            self.config_file = Some(PathBuf::from(value)).filter(|path| !path.as_os_str().is_empty());
        } else if let Some((setting, form)) = find(name) {
            self.given.extend(given(setting, form, value, place, errors));
        } else if !reserved_variables().any(|reserved| reserved == name) && !is_from_kubernetes(name, &value)
        {
            if errors.is_full() {
                return errors.skip();
            }
            let files = SETTINGS.iter().filter_map(Setting::file_variable);
            let reserved = reserved_variables().map(str::to_owned);
            let known = SETTINGS
                .iter()
                .map(Setting::variable)
                .chain(files)
                .chain(reserved);
            let nearest = nearest_sentence(PREFIX, name, known);
            errors.push(place, format!("this is not a known variable; {nearest}"));
        }
    }

    fn alias(&mut self, name: &str, value: OsString, errors: &mut ConfigErrors) {
        if let Some((_, target)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
            let place = Place::Variable(name.to_owned());
            self.aliases
                .extend(given(setting(target), Form::Direct, value, place, errors));
        }
    }
}

fn given(
    setting: &'static Setting,
    form: Form,
    value: OsString,
    place: Place,
    errors: &mut ConfigErrors,
) -> Option<Given> {
    match value.into_string() {
        Ok(text) => Some(Given {
            setting,
            form,
            raw: Raw::Variable(text),
            place,
        }),
        Err(_) => {
            errors.push(place, "the value of this variable is not UTF-8 text");
            None
        }
    }
}

fn find(name: &str) -> Option<(&'static Setting, Form)> {
    let direct = SETTINGS.iter().find(|setting| setting.variable() == name);
    let in_file = || {
        SETTINGS
            .iter()
            .find(|setting| setting.file_variable().is_some_and(|file| file == name))
    };
    direct
        .map(|setting| (setting, Form::Direct))
        .or_else(|| in_file().map(|setting| (setting, Form::InFile)))
}

/// `…_SERVICE_HOST`, `…_SERVICE_PORT`, `…_SERVICE_PORT_NAME`, `…_PORT` with a URL as its value, and
/// `…_PORT_8000_TCP` with `_PROTO`, `_PORT` or `_ADDR` behind it.
fn is_from_kubernetes(name: &str, value: &OsString) -> bool {
    let rest = &name[PREFIX.len() - 1..];
    if rest.ends_with("_SERVICE_HOST") || rest.ends_with("_SERVICE_PORT") || rest.contains("_SERVICE_PORT_") {
        return true;
    }
    if rest.ends_with("_PORT") && value.to_str().is_some_and(|value| value.contains("://")) {
        return true;
    }
    let ends = ["", "_PROTO", "_PORT", "_ADDR"];
    ends.iter().filter_map(|end| rest.strip_suffix(end)).any(|rest| {
        let protocols = ["_TCP", "_UDP", "_SCTP"];
        let numbered = protocols.iter().find_map(|protocol| rest.strip_suffix(protocol));
        numbered
            .and_then(|rest| rest.rsplit_once("_PORT_"))
            .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    })
}
