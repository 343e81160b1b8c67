//! `allswell delivery`, as it is typed.

use allswell_core::id::{CheckId, DeliveryId, ProjectId};
use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub enum DeliveryCommand {
    /// The newest deliveries of a project, or of one of its checks
    List {
        /// Id of the project, as `project list` shows it
        #[arg(long, value_name = "ID")]
        project: ProjectId,
        /// Only what tells of this check
        #[arg(long, value_name = "ID")]
        check: Option<CheckId>,
        /// How many, at most 1000
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=1000))]
        count: i64,
    },
    /// One delivery with its attempts, from the flip to what the receiver answered
    Show(OneDelivery),
    /// Send one that has ended again, with its id
    Again {
        #[command(flatten)]
        delivery: OneDelivery,
        /// Also if the channel was told of a newer flip of the same check, or is about to be
        #[arg(long)]
        force: bool,
    },
}

#[derive(Args)]
pub struct OneDelivery {
    /// Id of the project, as `project list` shows it
    #[arg(long, value_name = "ID")]
    pub project: ProjectId,
    /// Id of the delivery
    pub delivery: DeliveryId,
}
