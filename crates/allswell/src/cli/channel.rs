//! `allswell channel` and `allswell secret`, as they are typed.

use std::path::PathBuf;

use allswell_core::id::{ChannelId, ProjectId};
use allswell_integrations::webhook::{OVERLAP_HOURS_DEFAULT, OVERLAP_HOURS_MAX};
use clap::{Args, Subcommand, ValueEnum};

#[derive(Subcommand)]
pub enum ChannelCommand {
    /// Make a channel
    Create(Box<CreateChannel>),
    /// The channels of a project, without what is secret of them
    List {
        /// Id of the project, as `project list` shows it
        #[arg(long, value_name = "ID")]
        project: ProjectId,
    },
    /// One channel, without what is secret of it
    Show(OneChannel),
    /// Change a channel; what is not named stays as it is
    Edit(Box<EditChannel>),
    /// Send a test through the running server, and say what came of it
    Test {
        #[command(flatten)]
        channel: OneChannel,
        /// Which of its calls
        #[arg(long, value_enum, default_value_t = Status::Down)]
        status: Status,
    },
    /// Give a webhook a new signing secret; the old one signs on beside it for a while
    RotateSecret {
        #[command(flatten)]
        channel: OneChannel,
        /// Hours for which both sign
        #[arg(long, value_name = "HOURS", default_value_t = OVERLAP_HOURS_DEFAULT,
              value_parser = clap::value_parser!(i64).range(0..=OVERLAP_HOURS_MAX))]
        overlap: i64,
        /// File with the secret in its first line [default: a new one is made and shown]
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
    },
    /// Delete a channel; checks no longer tell it
    Delete(OneChannel),
}

#[derive(Args)]
pub struct CreateChannel {
    /// Id of the project, as `project list` shows it
    #[arg(long, value_name = "ID")]
    pub project: ProjectId,
    /// webhook calls a URL; log writes a line into the server's log; silent sends nothing
    #[arg(value_name = "KIND", required_unless_present = "kind")]
    pub kind_word: Option<String>,
    /// The same, for scripts
    #[arg(long, conflicts_with = "kind_word")]
    pub kind: Option<String>,
    /// What people call the channel
    #[arg(long)]
    pub name: String,
    #[command(flatten)]
    pub webhook: WebhookFlags,
}

#[derive(Args)]
pub struct EditChannel {
    #[command(flatten)]
    pub channel: OneChannel,
    /// What people call the channel
    #[arg(long)]
    pub name: Option<String>,
    #[command(flatten)]
    pub webhook: WebhookFlags,
    /// Send nothing when a check goes down
    #[arg(long, conflicts_with_all = ["down_url", "down_method", "down_header", "down_body"])]
    pub no_down: bool,
    /// Send nothing when a check comes back up
    #[arg(long, conflicts_with_all = ["up_url", "up_method", "up_header", "up_body"])]
    pub no_up: bool,
    /// Take a header out of both calls; may be given several times
    #[arg(long, value_name = "NAME")]
    pub remove_header: Vec<String>,
    /// Switch a channel on again that was switched off because it failed
    #[arg(long)]
    pub enable: bool,
}

/// The fields of a webhook. Whoever may list processes sees what is typed here; `--from` does not show it.
#[derive(Args)]
pub struct WebhookFlags {
    /// File with the fields as the API takes them, in JSON; - reads standard input. What is given beside it wins
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Called when a check goes down; placeholders such as $NAME may stand behind the host
    #[arg(long, value_name = "URL")]
    pub down_url: Option<String>,
    /// Called when a check comes back up
    #[arg(long, value_name = "URL")]
    pub up_url: Option<String>,
    /// GET, POST or PUT [default: POST]
    #[arg(long)]
    pub method: Option<String>,
    /// The method of the call down alone
    #[arg(long, value_name = "METHOD")]
    pub down_method: Option<String>,
    /// The method of the call up alone
    #[arg(long, value_name = "METHOD")]
    pub up_method: Option<String>,
    /// A header of both calls; may be given several times
    #[arg(long, value_name = "NAME: VALUE")]
    pub header: Vec<String>,
    /// A header of the call down alone; may be given several times
    #[arg(long, value_name = "NAME: VALUE")]
    pub down_header: Vec<String>,
    /// A header of the call up alone; may be given several times
    #[arg(long, value_name = "NAME: VALUE")]
    pub up_header: Vec<String>,
    /// The body of both calls, sent with POST and PUT [default: the event in JSON]
    #[arg(long, value_name = "TEXT")]
    pub body: Option<String>,
    /// The body of the call down alone
    #[arg(long, value_name = "TEXT")]
    pub down_body: Option<String>,
    /// The body of the call up alone
    #[arg(long, value_name = "TEXT")]
    pub up_body: Option<String>,
    /// How calls are signed: standard-webhooks, guardian-v1, guardian-v2 or none [default: standard-webhooks]
    #[arg(long, value_name = "FORM")]
    pub sign: Option<String>,
    /// File with the signing secret in its first line [default: one is made and shown once]
    #[arg(long, value_name = "FILE")]
    pub signing_secret_file: Option<PathBuf>,
    /// For Guardian: the id of the secret
    #[arg(long, value_name = "ID")]
    pub key_id: Option<String>,
    /// For Guardian: what the names of its headers begin with
    #[arg(long, value_name = "PREFIX")]
    pub header_prefix: Option<String>,
}

#[derive(Args, Clone)]
pub struct OneChannel {
    /// Id of the project, as `project list` shows it
    #[arg(long, value_name = "ID")]
    pub project: ProjectId,
    /// Id of the channel
    pub channel: ChannelId,
}

#[derive(Copy, Clone, PartialEq, Eq, ValueEnum)]
pub enum Status {
    Down,
    Up,
}

#[derive(Subcommand)]
pub enum SecretCommand {
    /// Set a secret that webhooks can use as ${secret:NAME}; it is never shown again
    Set {
        /// Id of the project, as `project list` shows it
        #[arg(long, value_name = "ID")]
        project: ProjectId,
        /// Name of the secret
        name: String,
        /// File with the value; a line end at its end is left out [default: standard input]
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// The names of a project's secrets
    List {
        /// Id of the project, as `project list` shows it
        #[arg(long, value_name = "ID")]
        project: ProjectId,
    },
    /// Delete a secret that no channel uses
    Delete {
        /// Id of the project, as `project list` shows it
        #[arg(long, value_name = "ID")]
        project: ProjectId,
        /// Name of the secret
        name: String,
    },
}
