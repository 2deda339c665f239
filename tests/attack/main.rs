//! Attacks on the whole: for each row of the threat model a file that tries it and asserts that it
//! fails. Each says the threat, the actor and the target.
//!
//! | row | what | file |
//! | --- | --- | --- |
//! | 1 | records that nobody can read | [`records`] |
//! | 2, 3 | a reader, and what user data give away | `tests/lab/first_contact.rs` |
//! | 4 | clients that hold a listener | [`listeners`] |
//! | 4 | clients that leave no place for others | [`places`] |
//! | 4, 5 | answers that nobody takes | [`answers`] |
//! | 5 | lists before other requests | [`lists`] |
//! | 6 | connections to where magnumd should not connect | [`addresses`] |
//! | 7 | one tenant's haste | [`fairness`] |
//! | 8 | damage that nobody sees | [`damage`] |
//! | 9 | discovery, and secrets on the machine | [`discovery`] |
//! | 10 | parsers | `tests/fuzz`, and by coverage `tests/libfuzzer` |
//!
//! Sizes are small by default; `MAGNUMD_ATTACK_CONNECTIONS`, `MAGNUMD_ATTACK_PLACES`,
//! `MAGNUMD_ATTACK_TEMPLATES` and `MAGNUMD_ATTACK_CREATIONS` make them those of the targets. Figures are printed (`--nocapture`),
//! and are worth something from a release build only. What must hold at any speed is asserted.

#![cfg(feature = "lab")]
#![allow(clippy::unwrap_used, reason = "tests unwrap freely")]
#![allow(clippy::print_stdout, reason = "the figures are for people")]

mod addresses;
mod answers;
mod damage;
mod discovery;
mod fairness;
#[path = "../lab/harness.rs"]
#[allow(dead_code, reason = "the tests of the lab use more of it")]
mod harness;
mod listeners;
mod lists;
mod places;
#[path = "../daemon/process.rs"]
#[allow(dead_code, reason = "the tests of the process use more of it")]
mod process;
mod records;

/// A size that a variable sets, for the figures.
fn size(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |text| text.parse().expect("a number"))
}
