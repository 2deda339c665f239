//! `magnumd restore` and `magnumd import`: a state from a file, whole or not at all.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use magnumd::base::clock::Clock;
use magnumd::daemon::SEALING_KEY;
use magnumd::store::backup::Backup;
use magnumd::store::directory;
use magnumd::store::dump::Import as Export;
use magnumd::store::restore::{Restored, Source, restore};
use serde_json::json;

use super::state::{self, Failure, Place};
use super::{Output, complain};

#[derive(Debug, Args)]
pub struct Restore {
    #[command(flatten)]
    from: From,
}

#[derive(Debug, Args)]
pub struct Import {
    #[command(flatten)]
    from: From,
}

#[derive(Debug, Args)]
struct From {
    /// The file to read.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The directory to restore into, instead of the configuration's storage.path.
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Move a state that is there aside; it is never deleted.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    place: Place,
}

impl Restore {
    pub fn run(self) -> ExitCode {
        let open = |file: &PathBuf| Ok(Source::Backup(Backup::open(file)?));
        state::run(async move { self.from.put_in_place(open).await })
    }
}

impl Import {
    pub fn run(self) -> ExitCode {
        let open = |file: &PathBuf| Ok(Source::Import(Export::open(file)?));
        state::run(async move { self.from.put_in_place(open).await })
    }
}

impl From {
    async fn put_in_place(
        self,
        open: impl Fn(&PathBuf) -> Result<Source, Failure>,
    ) -> Result<ExitCode, Failure> {
        let directory = match &self.into {
            Some(into) => into.clone(),
            None => self.place.directory()?,
        };
        self.place.not_running(&directory, "restore").await?;
        let source = open(&self.file)?;
        let (key, sealer) = self.place.key_for(&directory)?;
        let now = Clock::real().now();
        let restored = restore(source, &sealer, &directory, self.force, now)
            .map_err(|e| Failure::Other(format!("{e} (sealing key: {})", key.display())))?;
        self.report(&restored, &key);
        if let Some(told) = directory::exposure(&directory) {
            complain(&told);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn report(&self, restored: &Restored, key: &std::path::Path) {
        let Restored { state, aside, report } = restored;
        let path = state.display();
        if self.place.output == Output::Json {
            let aside = aside.as_ref().map(|a| a.display().to_string());
            say!("{}", json!({"state": path.to_string(), "aside": aside, "verify": report}));
            return;
        }
        say!("{path}: {} records restored", report.records);
        if let Some(aside) = aside {
            say!("the former state is now {}", aside.display());
        }
        if !report.findings.is_empty() {
            say!(
                "{} findings, as when it was written; magnumd verify lists them",
                report.findings.len()
            );
        }
        if !state.with_file_name(SEALING_KEY).exists() {
            say!(
                "a magnumd on this directory needs {} as {SEALING_KEY} beside it, or as \
                 storage.sealing_key_file",
                key.display()
            );
        }
    }
}
