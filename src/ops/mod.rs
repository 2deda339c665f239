//! Doors for the operator, apart from the ones that tenants and nodes use.

pub mod control;
