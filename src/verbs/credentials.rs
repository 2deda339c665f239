//! The caller's credentials, where every OpenStack client looks for them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use magnumd::openstack::{Credentials, CredentialsError};

/// Why the environment's credentials are not usable.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error("{path}: {reason}")]
    File { path: PathBuf, reason: std::io::Error },
    #[error("OS_CLOUD is set, but there is no clouds.yaml; looked at {0}")]
    NoFile(String),
}

/// `OS_CLOUD` with a `clouds.yaml`, or else `OS_AUTH_URL` and its companions; None without both.
pub fn of_environment() -> Result<Option<Credentials>, EnvironmentError> {
    let variables: BTreeMap<String, String> =
        std::env::vars().filter(|(name, _)| name.starts_with("OS_")).collect();
    let Some(cloud) = variables.get("OS_CLOUD").filter(|cloud| !cloud.is_empty()) else {
        return Ok(Credentials::of_variables(&variables)?);
    };
    let places = places(variables.get("OS_CLIENT_CONFIG_FILE"));
    let Some(path) = places.iter().find(|path| path.is_file()) else {
        let all: Vec<String> = places.iter().map(|path| path.display().to_string()).collect();
        return Err(EnvironmentError::NoFile(all.join(", ")));
    };
    let text = std::fs::read_to_string(path)
        .map_err(|reason| EnvironmentError::File { path: path.clone(), reason })?;
    Ok(Some(Credentials::of_clouds_yaml(&text, cloud)?))
}

fn places(named: Option<&String>) -> Vec<PathBuf> {
    if let Some(named) = named {
        return vec![PathBuf::from(named)];
    }
    let home = std::env::home_dir().map(|home| home.join(".config/openstack/clouds.yaml"));
    let all = [Some("clouds.yaml".into()), home, Some("/etc/openstack/clouds.yaml".into())];
    all.into_iter().flatten().collect()
}
