//! Writes what people read and shells complete, all of it from the command tree itself: a man
//! page for every verb and completions for bash, zsh and fish.
//!
//! `cargo run --example manual --no-default-features --features journald,etcd-v3 -- DIR` makes `DIR/man`
//! and `DIR/completions`. `packaging/build` calls it; no part of it is linked into magnumd.

#![forbid(unsafe_code)]

// The command tree, without what carries its verbs out.
#[expect(dead_code, reason = "here verbs are described, not run")]
#[path = "../src/verbs/mod.rs"]
mod verbs;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

const NAME: &str = "magnumd";

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: manual DIR");
        return ExitCode::from(2);
    };
    match write(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("manual: {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &Path) -> io::Result<()> {
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    std::fs::create_dir_all(&man)?;
    std::fs::create_dir_all(&completions)?;
    let mut tree = verbs::Arguments::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut tree, NAME, &completions)?;
    }
    let mut tree = verbs::Arguments::command().disable_help_subcommand(true);
    tree.build();
    pages(&tree, &man)
}

/// The page of a verb and those of the verbs below it.
fn pages(verb: &Command, folder: &Path) -> io::Result<()> {
    let source = format!("{NAME} {}", env!("CARGO_PKG_VERSION"));
    let page = Man::new(verb.clone()).date(date()).source(source).manual(NAME);
    page.generate_to(folder)?;
    verb.get_subcommands().try_for_each(|below| pages(below, folder))
}

/// The day of the sources, so that the same sources give the same pages.
fn date() -> String {
    let seconds = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    let moment = time::OffsetDateTime::from_unix_timestamp(seconds.unwrap_or_default());
    moment.map(|moment| moment.date().to_string()).unwrap_or_default()
}
