//! `allswell doctor`, as it is typed.

use std::path::PathBuf;

use allswell_core::exchange::Class;
use clap::Args;

#[derive(Args)]
pub struct DoctorArguments {
    /// Also judge whether this URL may be called, and why not
    #[arg(long)]
    pub url: Option<String>,
    /// Who would call it: webhook, probe, job, channel, sign-on or operator
    #[arg(long, default_value = "webhook", requires = "url", value_parser = class)]
    pub class: Class,
    #[command(flatten)]
    pub mail: MailArguments,
}

#[derive(Args)]
pub struct MailArguments {
    // Read later and not here: an error of clap's would repeat a password that somebody put into it.
    /// A mail relay that is to be asked.
    #[arg(
        long,
        value_name = "URL",
        help = "Also talk to this mail relay and look whether it would take mail, without sending any: \
                smtp://[USER@]HOST[:587] for STARTTLS, smtps://[USER@]HOST[:465] for TLS at once. The user's password is in \
                a file, or in SMTP_PASSWORD or EMAIL_HOST_PASSWORD in the environment"
    )]
    pub mail: Option<String>,
    /// File with the password for the relay in its first line
    #[arg(long, value_name = "FILE", requires = "mail")]
    pub mail_password_file: Option<PathBuf>,
    /// Ask the relay whether it would take mail from this address
    #[arg(long, value_name = "ADDRESS", requires_all = ["mail", "mail_to"])]
    pub mail_from: Option<String>,
    /// Ask the relay whether it would take mail for this address; nothing is sent to it
    #[arg(long, value_name = "ADDRESS", requires_all = ["mail", "mail_from"])]
    pub mail_to: Option<String>,
}

fn class(word: &str) -> Result<Class, String> {
    let known = || Class::ALL.map(Class::word).join(", ");
    Class::from_word(word).ok_or_else(|| format!("it is one of {}", known()))
}
