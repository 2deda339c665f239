//! Hostile input on the real request path: whatever arrives, the answer is a success or a
//! refusal with a JSON body; never a panic, never a 500, never silence.
//!
//! Inputs are recorded exchanges of upstream's clients, changed at a few places, because random
//! bytes go no further than the first parser. Each target has a daemon and a cloud of its own.
//!
//! - `MAGNUMD_FUZZ_SECONDS=60` is how long each target runs; 1 unless said otherwise.
//! - `MAGNUMD_FUZZ_SEED=N` begins with the case of that number, which a failure prints.

#![cfg(feature = "lab")]
#![allow(clippy::unwrap_used, reason = "tests unwrap freely")]

mod corpus;
mod dice;
mod doors;
#[path = "../lab/harness.rs"]
#[allow(dead_code, reason = "the tests in the lab use the rest")]
mod harness;
mod mutate;
#[path = "../bootstrap/place.rs"]
#[allow(dead_code, reason = "the tests of the bootstrap door use the rest")]
mod place;
mod policies;
mod requests;
mod run;
mod site;
mod targets;
mod wire;
