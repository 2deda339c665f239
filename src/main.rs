//! Arguments → verbs → exit codes.

#![forbid(unsafe_code)]

mod verbs;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    magnumd::base::http::tls::install_provider();
    verbs::Arguments::parse().run()
}
