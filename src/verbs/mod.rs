//! The verbs of the command line.

/// One line of a verb's output.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::verbs::say(&format!("{}\n", format_args!($($words)*)))
    };
}

mod backup;
mod check;
mod cluster;
mod compact;
mod config;
mod credentials;
mod damage;
mod driver;
mod export;
#[cfg(feature = "lab")]
mod lab;
mod logging;
mod manager;
mod orphans;
mod paint;
mod policy;
mod preflight;
mod reload;
mod restore;
mod serve;
mod setup;
mod signals;
mod source;
mod state;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// The file could be read but not used (sysexits.h EX_CONFIG).
const WRONG_CONFIGURATION: u8 = 78;
/// The state is of a newer release, or damaged (EX_DATAERR).
const UNUSABLE_STATE: u8 = 65;

/// OpenStack Magnum in one process: Kubernetes clusters built by Heat on the tenant's own cloud.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve a real OpenStack.
    Serve(serve::Serve),
    /// Parse a configuration and everything it names; open nothing.
    Check(check::Check),
    Setup(Box<setup::Setup>),
    Preflight(Box<preflight::Preflight>),
    /// Show the options in force, or import Magnum's own configuration.
    Config(config::Config),
    /// Show the built-in policy.
    Policy(policy::Policy),
    /// List, show, check and render drivers, without a cloud.
    Driver(driver::DriverVerb),
    /// Write the whole state into one file, while magnumd runs or not.
    Backup(backup::Backup),
    /// Make the state from a backup.
    Restore(restore::Restore),
    /// Check every record, index, secret and reference of the state or of a backup.
    Verify(verify::Verify),
    /// Show and delete records that cannot be read, while magnumd runs or not.
    Damage(damage::DamageVerb),
    /// Give back the space of deleted records; magnumd must not run.
    Compact(compact::Compact),
    /// Write the state as JSON lines, without secrets unless asked.
    Export(export::Export),
    /// Make the state from an export with secrets, sealed with another key if need be.
    Import(restore::Import),
    /// Find and delete what clusters left behind in OpenStack.
    Orphans(orphans::OrphansVerb),
    /// Do something about one cluster.
    Cluster(cluster::Cluster),
    /// Run a small simulated cloud with magnumd in it, and build a cluster there.
    #[cfg(feature = "lab")]
    Lab(lab::Lab),
}

impl Arguments {
    pub fn run(self) -> ExitCode {
        match self.verb {
            Verb::Serve(serve) => serve.run(),
            Verb::Check(check) => check.run(),
            Verb::Setup(setup) => setup.run(),
            Verb::Preflight(preflight) => preflight.run(),
            Verb::Config(config) => config.run(),
            Verb::Policy(policy) => policy.run(),
            Verb::Driver(driver) => driver.run(),
            Verb::Backup(backup) => backup.run(),
            Verb::Restore(restore) => restore.run(),
            Verb::Verify(verify) => verify.run(),
            Verb::Damage(damage) => damage.run(),
            Verb::Compact(compact) => compact.run(),
            Verb::Export(export) => export.run(),
            Verb::Import(import) => import.run(),
            Verb::Orphans(orphans) => orphans.run(),
            Verb::Cluster(cluster) => cluster.run(),
            #[cfg(feature = "lab")]
            Verb::Lab(lab) => lab.run(),
        }
    }
}

/// For people, or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// A verb's output; whoever reads no more of it has had enough.
fn say(text: &str) {
    use std::io::Write;
    if let Err(e) = std::io::stdout().write_all(text.as_bytes())
        && e.kind() != std::io::ErrorKind::BrokenPipe
    {
        complain(&format_args!("standard output: {e}"));
    }
}

/// Asks on the terminal; without one the answer is no.
fn agreed(question: &str) -> std::io::Result<bool> {
    use std::io::{IsTerminal, Write};
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// The last words of a verb that failed.
fn complain(error: &dyn std::fmt::Display) {
    eprintln!("magnumd: {error}");
}
