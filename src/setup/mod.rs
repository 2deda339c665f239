//! Setup: makes what a cloud needs for magnumd, and takes it back.
//!
//! A plan is made first and shown; carrying it out twice changes nothing the second time. What
//! setup makes it marks, and it never changes or removes what it has not made: another Magnum's
//! account is in the way, and is named. The passwords are in the configuration before Keystone
//! is told them, so that a run that was cut off is finished by the next.

mod act;
mod edit;
mod file;
mod plan;
mod survey;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::base::id::Entropy;
use crate::openstack::{CloudError, Credentials, KeystoneAdmin, RegistrarError};

pub use plan::{Action, Line};

/// How everything shall be called.
#[derive(Clone, Debug)]
pub struct Names {
    pub user: String,
    pub project: String,
    /// Of the clusters' users; its administrator is `<domain>_domain_admin`.
    pub domain: String,
    /// Empty means the only one there is.
    pub region: String,
    /// By which clients and nodes reach this machine.
    pub address: std::net::IpAddr,
}

impl Names {
    pub fn keeper(&self) -> String {
        format!("{}_domain_admin", self.domain)
    }
}

/// Why nothing, or not everything, was done; one sentence with a cure.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(transparent)]
    KeystoneAdmin(#[from] RegistrarError),
    #[error("{what}: {source}; run it again when that is mended")]
    Cloud { what: String, source: CloudError },
    #[error("{path}: {reason}")]
    File { path: PathBuf, reason: String },
    #[error("{0}")]
    Refused(String),
}

/// An administrator with a configuration to write.
pub struct Setup<'s> {
    keystone_admin: KeystoneAdmin,
    credentials: &'s Credentials,
    names: Names,
    file: &'s Path,
    entropy: Entropy,
}

/// What shall be done; carried out by [`Setup::carry_out`].
pub struct Plan {
    pub lines: Vec<Line>,
    file: file::File,
}

impl Plan {
    /// Whether there is anything to do.
    pub fn changes(&self) -> bool {
        self.lines.iter().any(|line| matches!(line.action, Action::Create | Action::Change))
    }
}

impl<'s> Setup<'s> {
    pub async fn log_in(
        credentials: &'s Credentials,
        mut names: Names,
        file: &'s Path,
        entropy: Entropy,
    ) -> Result<Self, SetupError> {
        let keystone_admin = KeystoneAdmin::log_in(credentials).await?;
        if !keystone_admin.session().roles.iter().any(|role| role == "admin") {
            return Err(SetupError::Refused(format!(
                "the {} is not an administrator; set OS_CLOUD or OS_USERNAME to one that has the \
                 role admin",
                credentials.who
            )));
        }
        if names.region.is_empty() {
            names.region = survey::only_region(&keystone_admin).await?;
        }
        Ok(Self { keystone_admin, credentials, names, file, entropy })
    }

    /// Looks at the cloud and at the configuration; changes nothing.
    pub async fn plan(&self) -> Result<Plan, SetupError> {
        let file = file::File::read(self.file, &self.names, self.credentials, &self.entropy)?;
        let facts =
            survey::look(&self.keystone_admin, &self.names, self.credentials, &file).await?;
        Ok(Plan { lines: plan::make(&self.names, &facts, &file), file })
    }

    /// The configuration first, then Keystone, in the order of the plan.
    pub async fn carry_out(&self, plan: &Plan) -> Result<(), SetupError> {
        plan.file.write()?;
        act::make(&self.keystone_admin, &self.names, &plan.file, self.credentials).await
    }

    /// What there is of ours.
    pub async fn plan_removal(&self) -> Result<Vec<Line>, SetupError> {
        Ok(plan::removal(&survey::ours(&self.keystone_admin, &self.names).await?))
    }

    pub async fn remove(&self) -> Result<(), SetupError> {
        let ours = survey::ours(&self.keystone_admin, &self.names).await?;
        act::remove(&self.keystone_admin, &ours).await
    }
}

/// What setup writes on everything that it makes.
const MARK: &str = "Made by magnumd setup.";

fn is_ours(entry: &Value) -> bool {
    entry["description"] == MARK
}
