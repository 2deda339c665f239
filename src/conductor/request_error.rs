//! Why a request of a tenant was not accepted, in words for the tenant.

use super::StepError;
use crate::driver::DriverError;
use crate::openstack::CloudError;
use crate::store::{StoreError, Unfit};

/// Every variant carries one public sentence; the API gives it its status.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// What was asked for cannot be: field, value and cure are in the sentence.
    #[error("{0}")]
    Invalid(String),
    /// Something named in the request does not exist.
    #[error("{0}")]
    Missing(String),
    /// A name means several things, or the state does not allow it now.
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    Forbidden(String),
    /// A service does not accept the token: that of the tenant, who must log in anew then, or
    /// one of ours.
    #[error("{0}")]
    NotAccepted(String),
    /// An OpenStack service, or our own disk, cannot answer now.
    #[error("{0}")]
    Unavailable(String),
    #[error("the state file is at fault: {0}")]
    Internal(String),
}

impl From<StoreError> for RequestError {
    fn from(e: StoreError) -> Self {
        match e {
            StoreError::Conflict => Self::Conflict(
                "The resource was changed by another request at the same time; try again."
                    .to_owned(),
            ),
            StoreError::Limit { limit } => Self::Forbidden(format!(
                "Resource limit exceeded: You have reached the maximum clusters per project, \
                 {limit}. You may delete a cluster to make room for a new one."
            )),
            StoreError::Disk(_) | StoreError::Closed => {
                Self::Unavailable("The service cannot write its state now; try again.".to_owned())
            }
            StoreError::Unfit(Unfit::Record { table, reason }) => Self::Invalid(format!(
                "What was asked for cannot be kept: of the {} {reason}. Give fewer or shorter \
                 texts, such as labels.",
                table.replace('_', " ")
            )),
            StoreError::Unfit(e @ Unfit::Change { .. }) => Self::Invalid(format!(
                "What was asked for cannot be kept: {e}. Give fewer or shorter texts, such as \
                 labels, or ask for less at once."
            )),
            StoreError::Corrupt(e) => Self::Internal(e.to_string()),
        }
    }
}

/// What a step of the conductor came to while a tenant or a node waits for an answer.
impl From<StepError> for RequestError {
    fn from(e: StepError) -> Self {
        match e {
            StepError::Store(e) => e.into(),
            StepError::Cloud(e) => e.into(),
            StepError::Failed { reason, .. } => Self::Unavailable(reason),
            StepError::Sealed(e) => Self::Internal(e.to_string()),
            StepError::Stopped(_) => Self::Unavailable("The conductor has stopped.".to_owned()),
        }
    }
}

impl From<DriverError> for RequestError {
    fn from(e: DriverError) -> Self {
        match e {
            DriverError::Unsuitable(sentence) => Self::Invalid(sentence),
            e @ DriverError::Template { .. } => Self::Internal(e.to_string()),
        }
    }
}

impl From<CloudError> for RequestError {
    fn from(e: CloudError) -> Self {
        match &e {
            CloudError::Busy { .. } | CloudError::Unknown { .. } | CloudError::Unclear { .. } => {
                Self::Unavailable(format!("{e}. Nothing was changed; try again."))
            }
            CloudError::Refused { status: 401, service, reason } => {
                Self::NotAccepted(format!("{service} does not accept the token: {reason}"))
            }
            CloudError::Refused { status: 403, service, reason } => {
                Self::Forbidden(format!("{service} does not allow it: {reason}"))
            }
            CloudError::Missing { .. } | CloudError::Refused { .. } => Self::Invalid(e.to_string()),
        }
    }
}
