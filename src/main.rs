//! Arguments → verbs → exit codes.

#![forbid(unsafe_code)]

mod verbs;

use std::process::ExitCode;

use clap::Parser;

/// The C library's keeps what thousands of connections took for a moment for ever: it gives back
/// only what lies at the end of an arena, and there is always something behind. This one gives back
/// every page that is empty.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    magnumd::base::http::tls::install_provider();
    verbs::Arguments::parse().run()
}
