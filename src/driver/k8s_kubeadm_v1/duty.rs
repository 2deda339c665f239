//! What a node that is ready fetches to do a duty: scripts, settings, authorities.
//!
//! Everything comes along, so that a node built by an older magnumd does what this one knows.

use serde::Serialize;

use super::node::{env, file, keys, pem, script};
use super::options::Options;
use crate::driver::render::Templates;
use crate::driver::{BundleFile, ClusterPlan, DriverError, DutyPlan, NodePlan};
use crate::model::duty::DutyKind;

#[derive(Serialize)]
struct DutyEnv {
    kind: &'static str,
    number: String,
    targets: String,
}

pub fn files(
    templates: &Templates,
    plan: &ClusterPlan,
    options: &Options,
    node: &NodePlan,
    duty: &DutyPlan,
) -> Result<Vec<BundleFile>, DriverError> {
    let said = DutyEnv {
        kind: duty.kind.as_str(),
        number: duty.number.to_string(),
        targets: duty.targets.join(" "),
    };
    let role = match node.master_index {
        Some(_) => file("master.sh", 0o644, script!("bundle/master.sh")),
        None => file("worker.sh", 0o644, script!("bundle/worker.sh")),
    };
    let work = match duty.kind {
        DutyKind::Drain => script!("duty/drain.sh"),
        DutyKind::TrustAuthorities => script!("duty/trust-authorities.sh"),
        DutyKind::IssueLeaves => script!("duty/issue-leaves.sh"),
        DutyKind::DropAuthorities => script!("duty/drop-authorities.sh"),
    };
    let mut files = vec![
        file("duty.sh", 0o755, script!("duty/duty.sh")),
        file("duty.env", 0o600, templates.render("duty.env", &said)?),
        file("lib.sh", 0o644, script!("lib.sh")),
        file("steps.sh", 0o644, script!("bundle/steps.sh")),
        env(templates, plan, options, node)?,
        role,
        file("work.sh", 0o644, work),
    ];
    if duty.kind == DutyKind::Drain {
        return Ok(files);
    }
    files.push(file("authorities.sh", 0o644, script!("duty/authorities.sh")));
    let given = &node.certificates;
    files.push(file("pki/ca.crt", 0o644, pem(&given.ca)));
    match (node.master_index, duty.kind) {
        (None, _) => {}
        (Some(_), DutyKind::IssueLeaves) => files.extend(keys(node)?),
        (Some(_), _) => files.extend([
            file("pki/front-proxy-ca.crt", 0o644, pem(&given.front_proxy_ca)),
            file("pki/etcd/ca.crt", 0o644, pem(&given.etcd_ca)),
        ]),
    }
    Ok(files)
}
