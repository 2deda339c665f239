//! Shapes that records had in releases before this one. Frozen: never edited.

mod operation;
mod rollout;

pub(super) use operation::{operation, operation_of_json};
pub(super) use rollout::rollout;
