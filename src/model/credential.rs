//! How we act for a cluster after its tenant's token is gone.

use serde::{Deserialize, Serialize};

use super::ClusterId;
use crate::base::secret::Sealed;

/// The trustee user and the trust that lets it act for the tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Credential {
    pub cluster_id: ClusterId,
    /// `<cluster uuid>_<project id>`, in the trustee domain.
    pub trustee_name: String,
    /// Drawn and stored before Keystone is asked; sealed for [`Credential::owner`].
    pub trustee_password: Sealed,
    pub trustee_user_id: Option<String>,
    pub trust_id: Option<String>,
    /// A rotation's password, drawn before Keystone is asked; sealed like the other.
    pub next_password: Option<Sealed>,
    /// A rotation's trust.
    pub next_trust: Option<String>,
    /// The trust that a rotation has replaced and still has to delete.
    pub former_trust: Option<String>,
}

impl Credential {
    /// What the password is bound to when sealed.
    pub fn owner(cluster: ClusterId) -> String {
        format!("credential/{cluster}")
    }
}
