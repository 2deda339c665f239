//! HTTP in both directions, with a deadline and a size limit on everything.

pub mod client;
pub mod server;
pub mod tls;
