//! The real binary as its process manager, its disk and its operator see it.

#![cfg(feature = "lab")]
#![allow(clippy::unwrap_used, reason = "tests unwrap freely")]

mod disk;
mod load;
mod manners;
mod ops;
#[allow(dead_code, reason = "tests/attack has it too, and asks for more")]
mod process;
mod start;
mod tls;
