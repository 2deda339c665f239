//! `magnumd damage`: records that cannot be read, shown and deleted.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use magnumd::store::repair::{BadPlace, BadRecord, Forgotten};
use serde_json::json;

use super::state::{self, Failure, Place, Reader};
use super::{Output, agreed};

#[derive(Debug, Args)]
pub struct DamageVerb {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show every record that cannot be read, why, and what text can be seen in it.
    List(List),
    /// Delete one of them, with all that belongs to it; a record that can be read is never deleted.
    Delete(Delete),
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Delete {
    /// The table, as `list` shows it, such as cluster.
    #[arg(value_name = "TABLE")]
    table: String,
    /// The key, as `list` shows it.
    #[arg(id = "record", value_name = "KEY")]
    key: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    place: Place,
}

impl DamageVerb {
    pub fn run(self) -> ExitCode {
        state::run(async {
            match self.verb {
                Verb::List(list) => list.list().await,
                Verb::Delete(delete) => delete.delete().await,
            }
        })
    }
}

async fn found(place: &Place) -> Result<Vec<BadRecord>, Failure> {
    Ok(match place.reader().await? {
        Reader::Daemon(mut client) => client.get("/damage").await?,
        Reader::File(store) => store.bad_records()?,
    })
}

impl List {
    async fn list(self) -> Result<ExitCode, Failure> {
        let records = found(&self.place).await?;
        match self.place.output {
            Output::Json => say!("{}", json!(records)),
            Output::Text => show(&records),
        }
        Ok(match records.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

impl Delete {
    async fn delete(self) -> Result<ExitCode, Failure> {
        let Self { table, key, yes, place } = self;
        let is_text = place.output == Output::Text;
        if !yes {
            let all = found(&place).await?;
            let meant: Vec<BadRecord> =
                all.into_iter().filter(|r| r.table == table && r.key == key).collect();
            if is_text && !meant.is_empty() {
                show(&meant);
            }
            let question = format!("Delete {table} {key} and all that belongs to it?");
            if !meant.is_empty()
                && !agreed(&question).map_err(|e| Failure::File("the terminal".into(), e))?
            {
                return Err(Failure::Other("nothing was deleted; --yes does it unasked".into()));
            }
        }
        let wish = BadPlace { table, key };
        let Forgotten { table, key, with } = match place.reader().await? {
            Reader::Daemon(mut client) => client.post("/damage/delete", &wish).await?,
            Reader::File(store) => store.forget(&wish).await?,
        };
        match is_text {
            true => {
                say!("{table} {key} deleted, with {with} records that belonged to it");
                if table == "cluster" {
                    say!("magnumd orphans list shows what it had in OpenStack");
                }
            }
            false => say!("{}", json!({"table": table, "key": key, "with": with})),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn show(records: &[BadRecord]) {
    for BadRecord { table, key, problem, bytes, revision, words } in records {
        say!("{table} {key}: {problem} ({bytes} bytes, revision {revision})");
        if !words.is_empty() {
            say!("    text in it: {}", words.join(" · "));
        }
    }
    if records.is_empty() {
        say!("every record can be read");
    }
}
