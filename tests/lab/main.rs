//! The real daemon against the simulated cloud, through HTTP.

#![cfg(feature = "lab")]
#![allow(clippy::unwrap_used, reason = "tests unwrap freely")]

mod authorities;
mod clusters;
mod coreos;
mod crash;
mod drivers;
mod faults;
mod fields;
mod first_contact;
mod flavors;
mod golden;
mod hangups;
mod harness;
mod health;
mod inline;
mod keeping;
mod keys;
mod late;
mod late_acts;
mod members;
mod nodegroups;
mod orphans;
mod pairs;
mod parallel;
mod patience;
mod policy;
mod preflight;
mod refusals;
mod regions;
mod resize;
mod rotation;
mod setup;
mod swarm;
mod sync;
mod upgrade;
