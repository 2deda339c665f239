//! `magnumd compact`: gives back the space of deleted records.

use std::process::ExitCode;

use clap::Args;
use magnumd::store::Store;
use magnumd::store::restore::STATE;
use serde_json::json;

use super::Output;
use super::state::{self, Failure, Place, megabytes};

#[derive(Debug, Args)]
pub struct Compact {
    #[command(flatten)]
    place: Place,
}

impl Compact {
    pub fn run(self) -> ExitCode {
        state::run(self.compact())
    }

    async fn compact(self) -> Result<ExitCode, Failure> {
        let directory = self.place.directory()?;
        self.place.not_running(&directory, "compact").await?;
        let (_, sealer) = self.place.key_for(&directory)?;
        let state = directory.join(STATE);
        let (before, after) = Store::compact(&state, sealer)?;
        let path = state.display();
        match self.place.output {
            Output::Text => say!("{path}: {} → {}", megabytes(before), megabytes(after)),
            Output::Json => {
                say!("{}", json!({"file": path.to_string(), "before": before, "after": after}))
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
