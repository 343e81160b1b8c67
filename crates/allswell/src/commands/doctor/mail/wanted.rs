//! What was typed, read as a whole before anybody is called: the relay, who signs in, and the letter that is asked about.

use std::path::Path;

use allswell_core::exchange::cut;
use allswell_core::limits;
use allswell_core::relay::{Mailbox, NoRelay, Relay};
use allswell_core::secret::Secret;

use super::super::Findings;
use super::{AREA, SIGN_IN};
use crate::cli::MailArguments;
use crate::system;

/// Where a password is looked for if no file was named, in this order; the second is Healthchecks'.
const VARIABLES: [&str; 2] = ["SMTP_PASSWORD", "EMAIL_HOST_PASSWORD"];
const PASSWORD_ADVICE: &str = "put the password into the first line of a file that only the account of this command may \
                               read and name it with --mail-password-file, or set SMTP_PASSWORD or EMAIL_HOST_PASSWORD \
                               (sudo does not hand them on)";

pub struct Wanted {
    pub relay: Relay,
    pub login: Option<Login>,
    pub letter: Option<Letter>,
}

pub struct Login {
    pub user: String,
    pub password: Secret<String>,
    /// Where the password came from, to be told.
    pub source: String,
}

pub struct Letter {
    pub from: Mailbox,
    pub to: Mailbox,
}

impl Wanted {
    /// `None` if something of it cannot be used, which is then told.
    pub fn read(url: &str, typed: &MailArguments, findings: &mut Findings) -> Option<Self> {
        let relay = relay(url, findings)?;
        let letter = match (&typed.mail_from, &typed.mail_to) {
            (Some(from), Some(to)) => Some(Letter {
                from: mailbox("--mail-from", from, findings)?,
                to: mailbox("--mail-to", to, findings)?,
            }),
            _ => None,
        };
        let file = typed.mail_password_file.as_deref();
        let login = if let Some(user) = &relay.user {
            let (password, source) = password(file)
                .map_err(|(why, advice)| findings.fail(SIGN_IN, &why, &advice))
                .ok()?;
            let user = user.clone();
            Some(Login {
                user,
                password,
                source,
            })
        } else {
            let source = file
                .map(|path| path.display().to_string())
                .or_else(|| of_environment().map(|(_, name)| name.to_owned()));
            if let Some(source) = source {
                let found = format!("{source} is for a password, and the URL names no user: nobody signs in");
                findings.note(SIGN_IN, &found, "to sign in, write smtp://USER@HOST");
            }
            None
        };
        Some(Wanted { relay, login, letter })
    }
}

fn relay(url: &str, findings: &mut Findings) -> Option<Relay> {
    let why = match Relay::parse(url) {
        Ok(relay) => return Some(relay),
        Err(why) => why,
    };
    let advice = match why {
        NoRelay::Password => format!(
            "take it out, and {PASSWORD_ADVICE}; change it at the relay, since everybody on this machine sees command lines, \
             and shells keep them"
        ),
        _ => "write smtp://[USER@]HOST[:PORT] for STARTTLS (port 587 unless another is named), or \
              smtps://[USER@]HOST[:PORT] for TLS at once (465)"
            .to_owned(),
    };
    // Nothing of what was typed: there may be a password in it.
    findings.fail(AREA, &format!("--mail is not the URL of a relay: {why}"), &advice);
    None
}

fn mailbox(argument: &str, text: &str, findings: &mut Findings) -> Option<Mailbox> {
    let mailbox = Mailbox::parse(text);
    if mailbox.is_none() {
        let shown = cut(text, limits::TYPED_CHARS_SHOWN_MAX);
        findings.fail(
            AREA,
            &format!("{argument}: {shown:?} is not an address of mail"),
            "write name@example.org, in ASCII; a domain with other letters in its xn-- form",
        );
    }
    mailbox
}

/// The password, and where it was; or what is wrong with it, and what to do.
fn password(file: Option<&Path>) -> Result<(Secret<String>, String), (String, String)> {
    let bytes_max = limits::RELAY_PASSWORD_BYTES_MAX;
    let advice = || PASSWORD_ADVICE.to_owned();
    let (text, source) = if let Some(path) = file {
        let read = system::read_secret_file(path, 4 * bytes_max as u64)
            .map_err(|error| (format!("--mail-password-file: {error:#}"), advice()))?;
        let text = Secret::new(read);
        let first = text.reveal().lines().next().unwrap_or_default().to_owned();
        (Secret::new(first), path.display().to_string())
    } else if let Some((value, name)) = of_environment() {
        let text = value
            .into_string()
            .map_err(|_| (format!("{name} is not text in UTF-8"), advice()))?;
        (Secret::new(text), name.to_owned())
    } else {
        let why = "the URL names a user, and there is no password".to_owned();
        return Err((why, advice()));
    };
    let length = text.reveal().len();
    if length == 0 {
        return Err((format!("{source}: its first line is empty"), advice()));
    }
    if length > bytes_max || text.reveal().chars().any(char::is_control) {
        let advice = format!("a password has at most {bytes_max} bytes and no control characters");
        return Err((format!("{source}: this cannot be a password"), advice));
    }
    Ok((text, source))
}

#[expect(
    clippy::disallowed_methods,
    reason = "no setting, since the server has no use for it: only this command reads it"
)]
fn of_environment() -> Option<(std::ffi::OsString, &'static str)> {
    let set = |name| {
        let value = std::env::var_os(name).filter(|value| !value.is_empty())?;
        Some((value, name))
    };
    VARIABLES.into_iter().find_map(set)
}
