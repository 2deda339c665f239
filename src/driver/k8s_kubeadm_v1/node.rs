//! What a booting node fetches: scripts, settings, keys and manifests.

use super::options::Options;
use crate::driver::render::Templates;
use crate::driver::{BundleFile, ClusterPlan, DriverError, NodePlan};

const LIB: &str = include_str!("../../../templates/k8s_kubeadm_v1/lib.sh");

pub fn files(
    _templates: &Templates,
    _plan: &ClusterPlan,
    _options: &Options,
    _node: &NodePlan,
) -> Result<Vec<BundleFile>, DriverError> {
    Ok(vec![BundleFile { path: "lib.sh".to_owned(), mode: 0o644, content: LIB.into() }])
}
