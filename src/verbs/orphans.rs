//! `magnumd orphans`: what carries our names and belongs to no cluster.

use std::collections::BTreeSet;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use magnumd::conductor::custodian::{Cleaned, Orphan, OrphanKind, OrphanWish, Orphans};
use magnumd::ops::control::CleanOrder;
use serde_json::json;
use uuid::Uuid;

use super::state::{self, Failure, Place, Reader};
use super::{Output, agreed};

#[derive(Debug, Args)]
pub struct OrphansVerb {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show stacks, trustees and load balancers without a record, and records without a stack.
    List(List),
    /// Delete what `list` shows and does not keep; shows the plan and asks first.
    Clean(Clean),
}

#[derive(Debug, Args)]
struct List {
    /// Seconds for which a stack without a record is left alone.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    grace: u64,
    /// Only this cluster's, even where another magnumd made its trustee. May be repeated.
    #[arg(long, value_name = "UUID")]
    cluster: Vec<Uuid>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Clean {
    #[command(flatten)]
    list: List,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

impl OrphansVerb {
    pub fn run(self) -> ExitCode {
        state::run(async {
            match self.verb {
                Verb::List(list) => list.list().await,
                Verb::Clean(clean) => clean.clean().await,
            }
        })
    }
}

impl List {
    fn wish(&self) -> OrphanWish {
        let clusters = self.cluster.iter().copied().collect();
        OrphanWish { grace_seconds: self.grace, clusters }
    }

    async fn find(&self) -> Result<Orphans, Failure> {
        let wish = self.wish();
        match self.place.reader().await? {
            Reader::Daemon(mut client) => Ok(client.post("/orphans", &wish).await?),
            Reader::File(store) => {
                let custodian = self.place.custodian(*store)?;
                Ok(custodian.orphans(&wish).await?)
            }
        }
    }

    async fn list(self) -> Result<ExitCode, Failure> {
        let orphans = self.find().await?;
        match self.place.output {
            Output::Json => say!("{}", json!(orphans)),
            Output::Text => show(&orphans),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Clean {
    async fn clean(self) -> Result<ExitCode, Failure> {
        let orphans = self.list.find().await?;
        let text = self.list.place.output == Output::Text;
        if text {
            show(&orphans);
        }
        let going = orphans.found.iter().filter(|o| o.kept.is_none());
        let clusters: BTreeSet<&str> = going.map(|o| o.cluster.as_str()).collect();
        if clusters.is_empty() {
            match text {
                true => say!("nothing to clean"),
                false => say!("{}", json!({"plan": orphans, "cleaned": []})),
            }
            return Ok(ExitCode::SUCCESS);
        }
        if !self.yes
            && !agreed(&format!("Delete what is left of {} clusters?", clusters.len()))
                .map_err(|e| Failure::File("the terminal".into(), e))?
        {
            if !text {
                say!("{}", json!({"plan": orphans, "cleaned": []}));
            }
            return Err(Failure::Other("nothing was deleted; --yes carries the plan out".into()));
        }
        let order = CleanOrder { wish: self.list.wish(), plan: orphans.found.clone() };
        let cleaned: Vec<Cleaned> = match self.list.place.reader().await? {
            Reader::Daemon(mut client) => client.post("/orphans/clean", &order).await?,
            Reader::File(store) => {
                let custodian = self.list.place.custodian(*store)?;
                custodian.clean(&order.wish, &order.plan).await?
            }
        };
        match text {
            true => cleaned.iter().for_each(|c| {
                say!("cluster {}: {}", c.cluster, c.report.join("; "));
            }),
            false => say!("{}", json!({"plan": orphans, "cleaned": cleaned})),
        }
        Ok(match cleaned.iter().all(|c| c.done) {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

fn show(orphans: &Orphans) {
    for Orphan { kind, id, name, project_id, cluster, kept } in &orphans.found {
        let kind = match kind {
            OrphanKind::LoadBalancer => "load balancer",
            OrphanKind::Stack => "stack",
            OrphanKind::Trustee => "trustee, with its trusts and every stack that they show,",
            OrphanKind::Record => "record",
        };
        let fate = match kept {
            None => "to be deleted".to_owned(),
            Some(why) => format!("kept: {why}"),
        };
        say!("{kind} {id} ({name}) of cluster {cluster}, project {project_id}: {fate}");
    }
    if orphans.found.is_empty() {
        say!("no orphans");
    }
    for sentence in &orphans.unseen {
        say!("not seen: {sentence}");
    }
}
