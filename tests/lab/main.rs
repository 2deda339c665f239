//! The real daemon against the simulated cloud, through HTTP.

#![cfg(feature = "lab")]
#![allow(clippy::unwrap_used, reason = "tests unwrap freely")]

mod clusters;
mod crash;
mod faults;
mod golden;
mod harness;
mod keeping;
mod nodegroups;
mod orphans;
mod parallel;
mod policy;
mod refusals;
mod resize;
mod rotation;
mod sync;
