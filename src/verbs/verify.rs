//! `magnumd verify`: is the state, or a backup, whole?

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use magnumd::store::backup::Backup;
use magnumd::store::verify::Report;
use serde_json::json;

use super::Output;
use super::state::{self, Failure, Place, Reader};

#[derive(Debug, Args)]
pub struct Verify {
    /// A backup; without it the state is verified, through magnumd where one runs.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

impl Verify {
    pub fn run(self) -> ExitCode {
        state::run(self.verify())
    }

    async fn verify(self) -> Result<ExitCode, Failure> {
        let report: Report = match &self.file {
            Some(file) => {
                let backup = Backup::open(file)?;
                backup.verify(&self.place.backup_key()?)?
            }
            None => match self.place.reader().await? {
                Reader::Daemon(mut client) => client.get("/verify").await?,
                Reader::File(store) => store.verify()?,
            },
        };
        self.print(&report);
        Ok(match report.findings.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }

    fn print(&self, report: &Report) {
        let Report { records, index_entries, secrets, findings } = report;
        if self.place.output == Output::Json {
            return say!("{}", json!(report));
        }
        for found in findings {
            say!("{} {}: {}; cure: {}", found.table, found.key, found.problem, found.cure);
        }
        say!(
            "{records} records, {index_entries} index entries, {secrets} secrets: {}",
            match findings.len() {
                0 => "all in order".to_owned(),
                1 => "1 finding".to_owned(),
                n => format!("{n} findings"),
            }
        );
    }
}
