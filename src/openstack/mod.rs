//! The hands that reach into OpenStack.

pub mod token;
