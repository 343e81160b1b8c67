//! The command line, as it is typed.

mod channel;
mod check;
mod delivery;
mod doctor;
mod times;

use std::ffi::OsString;
use std::path::PathBuf;

use allswell_core::cidr::Cidr;
use allswell_core::id::{CheckId, KeyId, ProjectId};
use clap::{Args, Parser, Subcommand, ValueEnum};

pub use check::{EditCheck, RuleFlags};
use times::secs;

pub use delivery::{DeliveryCommand, OneDelivery};
pub use doctor::{DoctorArguments, MailArguments};

pub use channel::{
    ChannelCommand, CreateChannel, EditChannel, OneChannel, SecretCommand, Status, WebhookFlags,
};

/// The night watch for your jobs: heartbeat checks that speak the Healthchecks protocol.
#[derive(Parser)]
#[command(
    name = "allswell",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub struct Arguments {
    /// Configuration file [default: ALLSWELL_CONFIG, or allswell.toml if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Answer in JSON, and say in JSON on standard error why not
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run the server
    Serve,
    /// Run a job and report its start, its exit status and the end of its output
    Run(RunArguments),
    /// Whether the server lives: its last round of a ping stored and swept; the exit status is 1 if that is too old
    Watchdog,
    /// Bring the database's schema up to date, as `serve` does unless database.migrate is false
    Migrate,
    /// Copy the SQLite database, as it is at one instant, into a new file; works beside a running server
    Backup {
        /// The file, which must not exist yet
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// The key ring that encrypts at rest
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Accounts
    #[command(subcommand)]
    User(UserCommand),
    /// Projects
    #[command(subcommand)]
    Project(ProjectCommand),
    /// Keys for the management API and for pings by slug
    #[command(subcommand)]
    ApiKey(ApiKeyCommand),
    /// Checks
    #[command(subcommand)]
    Check(CheckCommand),
    /// Channels: where alerts go
    #[command(subcommand)]
    Channel(ChannelCommand),
    /// Deliveries: what was sent, and what came of it
    #[command(subcommand)]
    Delivery(DeliveryCommand),
    /// Named secrets of a project, for its webhooks
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Make a link that shows the first steps; it opens for 30 minutes
    StartLink,
    /// Look whether what the server relies on is there: disk, clock, database, keys, and on demand a mail relay. Status: 0
    /// all is well, 1 warnings, 2 failures
    Doctor(Box<DoctorArguments>),
    /// What a schedule will do
    #[command(subcommand)]
    Schedule(ScheduleCommand),
    /// Every route of the server, with who may use it
    Routes,
    /// What this server may call, and why not
    #[command(subcommand)]
    Outbound(OutboundCommand),
}

#[derive(Args)]
pub struct RunArguments {
    #[command(flatten)]
    pub flags: RunFlags,
    /// Its own configuration file [default: ALLSWELL_RUN_CONFIG, ~/.config/allswell/run.toml, or /etc/allswell/run.toml]
    // The flag of all commands, but for its help.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Taken as by every command, and of no use here
    #[arg(long = "json", id = "json", hide = true)]
    pub _json: bool,
    /// The job and its arguments; for pipes and redirections: sh -c '...'
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Each can be set as ALLSWELL_RUN_... in the environment, or in ~/.config/allswell/run.toml.
#[derive(Args)]
pub struct RunFlags {
    /// What ping addresses begin with.
    #[arg(
        long,
        value_name = "URL",
        help = "What ping addresses begin with: https://allswell.example.org/ping, or https://hc-ping.com"
    )]
    pub server: Option<String>,
    /// The check, by its id
    #[arg(long, value_name = "ID", conflicts_with_all = ["slug", "url"])]
    pub uuid: Option<String>,
    /// The check, by its slug; needs the project's ping key
    #[arg(long, value_name = "SLUG", conflicts_with = "url")]
    pub slug: Option<String>,
    /// The project's ping key. Others on this machine see it here: the environment or a file is the better place
    #[arg(long, value_name = "KEY", conflicts_with = "ping_key_file")]
    pub ping_key: Option<String>,
    /// File with the ping key
    #[arg(long, value_name = "FILE")]
    pub ping_key_file: Option<PathBuf>,
    /// The check, by its whole ping address
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Make a check of that slug if there is none
    #[arg(long)]
    pub create: bool,
    /// With --create: what people call that check [default: its slug]
    #[arg(long)]
    pub name: Option<String>,
    /// With --create: its tags, separated by spaces
    #[arg(long)]
    pub tags: Option<String>,
    /// With --create: its cron or OnCalendar expression
    #[arg(long, value_name = "EXPRESSION", conflicts_with = "timeout")]
    pub schedule: Option<String>,
    /// With --create: the time zone of that expression [default: UTC]
    #[arg(long, value_name = "ZONE")]
    pub tz: Option<String>,
    /// With --create: the time between two of its runs, like 3600 (seconds), 90s, 5m, 1h or 1d [default: 86400]
    #[arg(long, value_name = "TIME", value_parser = secs)]
    pub timeout: Option<i64>,
    /// With --create: how late it may be, in the same form [default: 3600]
    #[arg(long, value_name = "TIME", value_parser = secs)]
    pub grace: Option<i64>,
    /// With --create: its channels, by name or id with commas between; * for all [default: *]
    #[arg(long, value_name = "NAMES")]
    pub channels: Option<String>,
    /// Do not report the start
    #[arg(long)]
    pub no_start: bool,
    /// Do not report output: the job keeps its terminal and streams as they are
    #[arg(long, conflicts_with = "tail_bytes")]
    pub no_output: bool,
    /// Bytes of the end of the output to report, at most what the server keeps [default: 100000]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(0..=allswell_runner::TAIL_BYTES_MAX as u64))]
    pub tail_bytes: Option<u64>,
    /// Seconds that the end of the job waits for its report to arrive [default: 20]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=allswell_runner::WAIT_SECS_MAX))]
    pub wait_secs: Option<u64>,
    /// Seconds after which to say again that the job still runs, which gives its check the grace anew; for servers of Allswell
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(allswell_runner::ALIVE_SECS))]
    pub alive_every: Option<u64>,
    /// Say nothing when a report did not arrive
    #[arg(long)]
    pub quiet: bool,
}

#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Read the configuration as the server would, and say what is wrong with it
    Check,
    /// Print the effective values and where each came from; secrets are masked
    Show,
    /// Print a configuration file with every setting, its meaning and its default
    Example,
}

#[derive(Subcommand)]
pub enum KeysCommand {
    /// Print a new key ring
    Generate {
        /// Name of the key in the ring
        #[arg(long, default_value = "first")]
        name: String,
    },
    /// The keys of the ring and what they are used for, without the keys themselves
    List,
    /// Replace the root key and the data keys, and seal every secret anew, while servers run; given again, goes on
    Rotate {
        /// Name of the new root key [default: an unused one of the ring, else the day]
        #[arg(long)]
        name: Option<String>,
        /// Remove the old root key from the ring at the end; backups made until then could not be read without it
        #[arg(long)]
        retire: bool,
    },
    /// Remove a root key that nothing rests on from the ring
    Retire {
        /// As `keys list` shows it
        name: String,
    },
}

#[derive(Subcommand)]
pub enum UserCommand {
    /// Make an account
    Create {
        /// E-mail address, by which the account is known
        #[arg(long)]
        email: String,
        /// May see and change the whole instance
        #[arg(long)]
        admin: bool,
        /// File with the password, at least 12 characters in its first line
        #[arg(long, value_name = "FILE")]
        password_file: PathBuf,
        /// How many checks the account's projects may hold together
        #[arg(long, value_name = "N", default_value_t = allswell_core::limits::CHECKS_PER_OWNER_DEFAULT,
              value_parser = clap::value_parser!(i64).range(0..=1_000_000_000))]
        check_limit: i64,
    },
}

#[derive(Subcommand)]
pub enum ProjectCommand {
    /// Make a project with a ping key
    Create {
        /// E-mail address of the owner's account
        #[arg(long, value_name = "EMAIL")]
        owner: String,
        /// What people call the project
        #[arg(long)]
        name: String,
    },
    /// List all projects
    List,
    /// Whether a project takes only signed requests: the way out when its last signing key has ended
    RequireHmac {
        /// Id of the project, as `project list` shows it
        #[arg(long, value_name = "ID")]
        project: ProjectId,
        /// Whether it does
        required: OnOff,
    },
    /// Whether a ping to the id of a check of the project needs the project's ping key, in X-Ping-Key
    RequirePingKey {
        /// Id of the project, as `project list` shows it
        #[arg(long, value_name = "ID")]
        project: ProjectId,
        /// Whether it does
        required: OnOff,
    },
}

#[derive(Copy, Clone, PartialEq, Eq, clap::ValueEnum)]
pub enum OnOff {
    On,
    Off,
}

#[derive(Subcommand)]
pub enum ApiKeyCommand {
    /// Make a key; it is shown once
    Create {
        /// Id of the project, as `project list` shows it
        #[arg(long, value_name = "ID")]
        project: ProjectId,
        /// What the key is good for
        #[arg(long)]
        scope: Scope,
        /// What the key is for, to tell it from others
        #[arg(long, default_value = "")]
        name: String,
        /// Days after which the key opens nothing any more; without it the key does not expire
        #[arg(long, value_name = "DAYS",
              value_parser = clap::value_parser!(i64).range(1..=allswell_core::limits::KEY_DAYS_MAX))]
        expires_in: Option<i64>,
        /// A network from which the key may be used, such as 192.0.2.0/24; may be given several times
        #[arg(long = "network", value_name = "CIDR", value_parser = Cidr::parse)]
        networks: Vec<Cidr>,
    },
    /// The keys of a project, without the keys themselves
    List {
        /// Id of the project, as `project list` shows it
        #[arg(long, value_name = "ID")]
        project: ProjectId,
    },
    /// End a key at once
    Revoke(OneKey),
    /// Make a key in place of another: of the same scope, name and networks
    Regenerate {
        #[command(flatten)]
        key: OneKey,
        /// Hours for which the old key stays good beside the new one
        #[arg(long, value_name = "HOURS", default_value_t = 0,
              value_parser = clap::value_parser!(i64).range(0..=allswell_core::limits::KEY_OVERLAP_HOURS_MAX))]
        overlap: i64,
    },
}

#[derive(Args)]
pub struct OneKey {
    /// Id of the project, as `project list` shows it
    #[arg(long, value_name = "ID")]
    pub project: ProjectId,
    /// Id of the key, as `api-key list` shows it
    pub key: KeyId,
}

#[derive(Copy, Clone, ValueEnum)]
pub enum Scope {
    /// Everything in the management API
    ReadWrite,
    /// Looking
    ReadOnly,
    /// Pings by slug
    Ping,
    /// The gauges for Prometheus
    Metrics,
}

#[derive(Subcommand)]
pub enum CheckCommand {
    /// Make a check; prints its id and its ping address
    Create {
        /// Id of the project, as `project list` shows it
        #[arg(long, value_name = "ID")]
        project: ProjectId,
        /// What people call the check
        #[arg(long)]
        name: String,
        /// Readable part of its address for pings by slug
        #[arg(long, default_value = "")]
        slug: String,
        /// Tags, separated by spaces
        #[arg(long, default_value = "")]
        tags: String,
        /// What it is for, in as many words as you like
        #[arg(long, value_name = "TEXT", default_value = "")]
        description: String,
        /// Time between two pings: in seconds, or like 90s, 5m, 1h, 1d; a minute to a year
        #[arg(long, value_name = "TIME", conflicts_with = "schedule",
              default_value_t = allswell_core::limits::PERIOD_SECS_DEFAULT, value_parser = secs)]
        period: i64,
        /// Cron or OnCalendar expression, instead of a period
        #[arg(long, value_name = "EXPRESSION")]
        schedule: Option<String>,
        /// Time zone of the schedule
        #[arg(long, value_name = "ZONE", default_value = "UTC", requires = "schedule")]
        tz: String,
        /// How late a ping may be, in the same form; a minute to a year
        #[arg(long, value_name = "TIME", default_value_t = allswell_core::limits::GRACE_SECS_DEFAULT,
              value_parser = secs)]
        grace: i64,
        /// Channels to tell: `all`, or their ids; may be given several times
        #[arg(long = "channel", value_name = "ID")]
        channels: Vec<String>,
        #[command(flatten)]
        rules: Box<RuleFlags>,
    },
    /// Change what is named of a check, and leave the rest
    Update(Box<EditCheck>),
    /// The checks of a project
    List {
        /// Id of the project, as `project list` shows it
        #[arg(long, value_name = "ID")]
        project: ProjectId,
    },
    /// A check with its settings, its latest pings, flips and deliveries, and why each flip happened
    Show(OneCheck),
    /// One ping of a check, with its body
    Ping {
        #[command(flatten)]
        one: OneCheck,
        /// Number of the ping, as `check show` lists it
        n: u64,
    },
    /// Expect nothing of a check until it is pinged or resumed
    Pause {
        #[command(flatten)]
        one: OneCheck,
        /// When the pause ends by itself and the check is expected again: an instant in RFC 3339, or a time of day in the time
        /// zone of the check, such as 08:00, the next one there is
        #[arg(long, value_name = "INSTANT")]
        until: Option<String>,
    },
    /// Begin anew with a paused check
    Resume(OneCheck),
}

#[derive(Args)]
pub struct OneCheck {
    /// Id of the project, as `project list` shows it
    #[arg(long, value_name = "ID")]
    pub project: ProjectId,
    /// Id of the check
    pub check: CheckId,
}

#[derive(Subcommand)]
pub enum ScheduleCommand {
    /// The next instants of an expression
    Next {
        /// Cron or OnCalendar expression
        #[arg(long, value_name = "EXPRESSION", required_unless_present = "stdin")]
        expr: Option<String>,
        /// Time zone of the expression
        #[arg(long, value_name = "ZONE", default_value = "UTC")]
        tz: String,
        /// Instant to begin after, in RFC 3339 [default: now]
        #[arg(long, value_name = "INSTANT")]
        after: Option<String>,
        /// How many instants, at most 100
        #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
        count: u16,
        /// Read lines of EXPRESSION, ZONE and AFTER with tabs between and answer each with a line of JSON; a line break inside an
        /// expression is written \n
        #[arg(long, conflicts_with_all = ["expr", "after"])]
        stdin: bool,
    },
}

#[derive(Subcommand)]
pub enum OutboundCommand {
    /// Judge a URL as a webhook's would be: its form, its name, every address, with the setting that would allow it
    Check {
        /// The URL to judge
        url: String,
        /// Who aims the call: webhook, probe, job, channel, sign-on or operator
        #[arg(long, default_value = "webhook")]
        class: String,
        /// Call it, through the same door as everything else, and show what came of it
        #[arg(long)]
        send: bool,
        /// Method of the call
        #[arg(long, default_value = "GET", requires = "send")]
        method: String,
        /// A header to send; may be given several times
        #[arg(long = "header", value_name = "NAME:VALUE", requires = "send")]
        headers: Vec<String>,
        /// Redirects to follow; for probes only
        #[arg(long, value_name = "N", default_value_t = 0, requires = "send",
              value_parser = clap::value_parser!(u8).range(0..=i64::from(allswell_core::limits::REDIRECTS_MAX)))]
        redirects: u8,
        /// Call it this often, one after the other
        #[arg(long, value_name = "N", default_value_t = 1, requires = "send",
              value_parser = clap::value_parser!(u16).range(1..=100))]
        repeat: u16,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn nameless(command: &clap::Command, path: &str, found: &mut Vec<String>) {
        let path = format!("{path} {}", command.get_name());
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            if arg.get_help().is_none() {
                found.push(format!("{path} {}", arg.get_id()));
            }
        }
        for sub in command.get_subcommands() {
            nameless(sub, &path, found);
        }
    }

    #[test]
    fn everything_that_can_be_typed_is_explained() {
        let mut found = Vec::new();
        nameless(&Arguments::command(), "", &mut found);
        assert!(found.is_empty(), "no help for {found:#?}");
    }

    #[test]
    fn the_configuration_of_a_run_can_be_named_on_both_sides_of_its_command() {
        for typed in [
            ["allswell", "--config", "x.toml", "run", "true"],
            ["allswell", "run", "--config", "x.toml", "true"],
        ] {
            let arguments = Arguments::parse_from(typed);
            let Command::Run(job) = arguments.command else {
                panic!("it is no run");
            };
            assert_eq!(
                job.config.or(arguments.config),
                Some(PathBuf::from("x.toml")),
                "{typed:?}"
            );
        }
    }
}
