//! What Heat built, read from the stack's outputs.

use serde_json::Value;

use super::counts;
use crate::driver::{ClusterPlan, Outcome};
use crate::model::stack::Stack;

pub fn read(plan: &ClusterPlan, stack: &Stack) -> Outcome {
    let (masters, _) = counts(plan);
    let all = |output: &str| {
        let known = stack.list(output);
        let complete = known.len() == masters as usize && known.iter().all(|a| !a.is_empty());
        complete.then_some(known)
    };
    let internal = stack.text("api_internal").map(str::to_owned);
    Outcome {
        api_address: stack.text("api_address").map(|address| format!("https://{address}:6443")),
        master_addresses: addresses(stack, "kube_masters"),
        worker_addresses: addresses(stack, "kube_minions"),
        master_private: all("kube_masters_private"),
        api_internal: internal,
        api_public: api_public(stack),
    }
}

/// Addresses that are known, in order.
fn addresses(stack: &Stack, output: &str) -> Vec<String> {
    stack.list(output).into_iter().filter(|address| !address.is_empty()).collect()
}

/// Every address by which somebody outside may call the API; None until all are known.
fn api_public(stack: &Stack) -> Option<Vec<String>> {
    let wanted = stack.outputs.get("api_public").and_then(Value::as_array)?;
    let known: Vec<String> = wanted
        .iter()
        .filter_map(Value::as_str)
        .filter(|a| !a.is_empty())
        .map(str::to_owned)
        .collect();
    (known.len() == wanted.len()).then_some(known)
}
