//! magnumd: OpenStack Magnum in one process.
//!
//! The rooms, each importing downward only (`tests/rooms` checks it):
//!
//! - [`base`], the ground: clock, dice, secrets, HTTP; [`model`], the words.
//! - Hands: [`store`], the memory; [`openstack`], the clients; [`pki`], keys and certificates;
//!   [`kube`], a look into a cluster.
//! - [`driver`], the craft: a cluster goes in, what Heat shall build comes out.
//! - [`conductor`], the will: brings the cloud into line with what tenants were promised.
//! - Listeners: [`api`], [`discovery`], [`bootstrap`]; [`ops`] for the operator.
//! - [`preflight`], which looks at a cloud before a cluster does; [`setup`], which prepares one.
//! - [`config`], what the operator decided; [`daemon`], which builds, starts and stops it all.
//! - [`lab`], a small cloud to try and test it in, which knows none of the others.

#![forbid(unsafe_code)]

pub mod api;
pub mod base;
pub mod bootstrap;
pub mod conductor;
pub mod config;
pub mod daemon;
pub mod discovery;
pub mod driver;
pub mod kube;
#[cfg(feature = "lab")]
pub mod lab;
pub mod model;
pub mod openstack;
pub mod ops;
pub mod pki;
pub mod preflight;
pub mod setup;
pub mod store;
