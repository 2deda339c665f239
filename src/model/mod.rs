//! The words: what a cluster, a template, an operation *is*. No I/O.
//!
//! Everything here is plain data in Magnum's own vocabulary. What the tenant
//! may ask of a thing in which state is answered here too, so that API and
//! conductor cannot disagree.

pub mod certificate;
pub mod cluster;
pub mod cluster_template;
pub mod credential;
pub mod discovery;
pub mod driver;
pub mod duty;
pub mod etcd_member;
pub mod facts;
pub mod first_contact;
pub mod join;
pub mod labels;
pub mod name;
pub mod node;
pub mod node_key;
pub mod node_wait;
pub mod nodegroup;
pub mod operation;
pub mod quota;
pub mod requester;
pub mod rollout;
pub mod service;
pub mod stack;
pub mod stack_revision;
pub mod status;

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::base::id::ShortId;

/// Declares a UUID that cannot be mistaken for another kind's.
macro_rules! uuid_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(Uuid);

        impl $name {
            pub const fn new(id: Uuid) -> Self {
                Self(id)
            }

            pub const fn uuid(self) -> Uuid {
                self.0
            }

            /// The twelve letters that end every name we give to something outside.
            ///
            /// Derived, never drawn: after a crash we ask for the same thing.
            pub fn short(self) -> ShortId {
                ShortId::of(self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

uuid_type!(ClusterId);
uuid_type!(TemplateId);
uuid_type!(NodeGroupId);

/// The order in which records were made; unique over all kinds of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sequence(pub u64);
