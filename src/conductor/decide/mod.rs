//! What is seen of stacks and nodes → what to do next, or what to show. Pure: tested as tables, in
//! microseconds.

pub mod change;
pub mod creation;
