//! HTTP in both directions, with a deadline and a size limit on everything.

pub mod client;
mod connection;
pub mod server;
mod sources;
pub mod stream;
pub mod tls;
