//! The ground: time, chance, secrets and HTTP, with nothing of Magnum in it.
//!
//! Clock and entropy are values handed to constructors, so that a test can run
//! a day in a second and draw the same keys twice. HTTP is spoken in two files
//! only; whoever talks to the network talks through them.

pub mod archive;
pub mod backoff;
pub mod clock;
pub mod fail_points;
pub mod heartbeat;
pub mod http;
pub mod id;
pub mod metrics;
pub mod party;
pub mod pool;
pub mod printable;
pub mod secret;
pub mod turns;
