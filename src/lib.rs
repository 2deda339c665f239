//! magnumd: OpenStack Magnum in one process.
//!
//! The rooms, each importing downward only (`tests/rooms.rs` checks it):
//! [`base`] is the ground.

#![forbid(unsafe_code)]

pub mod base;
