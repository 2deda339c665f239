//! magnumd: OpenStack Magnum in one process.
//!
//! The rooms, each importing downward only (`tests/rooms.rs` checks it):
//! [`base`] is the ground, [`model`] the words, [`store`] the memory, [`driver`] the craft.

#![forbid(unsafe_code)]

pub mod api;
pub mod base;
pub mod bootstrap;
pub mod conductor;
pub mod config;
pub mod discovery;
pub mod driver;
#[cfg(feature = "lab")]
pub mod lab;
pub mod model;
pub mod openstack;
pub mod pki;
pub mod store;
