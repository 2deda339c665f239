//! HTTP in both directions, with a deadline and a size limit on everything.

pub mod client;
mod connection;
mod pace;
mod room;
pub mod server;
pub mod sources;
pub mod stream;
#[cfg(test)]
mod tests;
pub mod tls;
