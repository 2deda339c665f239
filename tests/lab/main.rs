//! The real daemon against the simulated cloud, through HTTP.

#![cfg(feature = "lab")]

mod clusters;
mod crash;
mod faults;
mod harness;
mod refusals;
