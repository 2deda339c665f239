//! `magnumd cluster`: what an operator does about one cluster.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use magnumd::conductor::custodian::{AdoptOrder, Adopted};
use serde_json::json;
use uuid::Uuid;

use super::Output;
use super::state::{self, Failure, Place, Reader};

#[derive(Debug, Args)]
pub struct Cluster {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Link a record to its Heat stack again; or make a record for a stack that lost its own.
    Adopt(Adopt),
}

#[derive(Debug, Args)]
struct Adopt {
    /// The cluster's uuid, as in the stack's tag magnum-cluster-UUID.
    #[arg(value_name = "UUID")]
    cluster: Uuid,
    /// Without a record: the template that the cluster was made from, by uuid or name.
    #[arg(long)]
    template: Option<String>,
    /// Without a record: its owner's user id; by default whoever gave the trust.
    #[arg(long, value_name = "USER_ID")]
    owner: Option<String>,
    /// Without a record: its name; by default what its stack's name tells.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    place: Place,
}

impl Cluster {
    pub fn run(self) -> ExitCode {
        let Verb::Adopt(adopt) = self.verb;
        state::run(adopt.adopt())
    }
}

impl Adopt {
    async fn adopt(self) -> Result<ExitCode, Failure> {
        let Self { cluster, template, owner, name, place } = self;
        let order = AdoptOrder { cluster, template, owner, name };
        let adopted: Adopted = match place.reader().await? {
            Reader::Daemon(mut client) => client.post("/adopt", &order).await?,
            Reader::File(store) => place.custodian(*store)?.adopt(&order).await?,
        };
        match place.output {
            Output::Json => say!("{}", json!(adopted)),
            Output::Text => adopted.report.iter().for_each(|line| say!("{line}")),
        }
        Ok(match adopted.done {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}
