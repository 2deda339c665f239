//! `magnumd export`: the state as JSON lines.

use std::io::{BufWriter, IsTerminal};
use std::process::ExitCode;

use clap::Args;
use magnumd::base::clock::Clock;
use magnumd::store::dump::Secrets;

use super::complain;
use super::state::{self, Failure, Place, Reader};

#[derive(Debug, Args)]
pub struct Export {
    /// Write keys, passwords and tokens in plain text. Needs the sealing key.
    #[arg(long)]
    with_secrets: bool,
    #[command(flatten)]
    place: Place,
}

impl Export {
    pub fn run(self) -> ExitCode {
        state::run(self.export())
    }

    async fn export(self) -> Result<ExitCode, Failure> {
        let secrets = match self.with_secrets {
            true => Secrets::Plain,
            false => Secrets::Omitted,
        };
        if self.with_secrets {
            // Whoever cannot read the key has no business with what it seals.
            self.place.key_for(&self.place.directory()?)?;
            if std::io::stdout().is_terminal() {
                return Err(Failure::Other(
                    "secrets are not written to a terminal; send the output to a file".to_owned(),
                ));
            }
            complain(&"the output holds every private key and password in plain text");
        }
        let reader = self.place.reader().await?;
        let mut out = BufWriter::with_capacity(1 << 18, std::io::stdout().lock());
        match reader {
            Reader::Daemon(mut client) => {
                let path = match secrets {
                    Secrets::Plain => "/export?secrets=plain",
                    Secrets::Omitted => "/export",
                };
                client.fetch(path, &mut out, &|_| ()).await?;
            }
            Reader::File(store) => {
                store.export(secrets, Clock::real().now(), &mut out)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
