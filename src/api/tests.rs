//! The listener as its clients use it: whole requests against a real store, without a cloud.
//!
//! Authentication is left out by handing the caller in; everything behind it is real. What
//! needs the cloud is answered 503 here and tested with one in `tests/`.

mod bookmarks;
mod fractions;
mod matrix;
mod pages;
pub mod place;
mod properties;
mod quotas;
mod reads;
mod refusals;
