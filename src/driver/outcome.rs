//! What Heat built, read from the stack's outputs.

use serde_json::Value;

use super::Outcome;
use super::manifest::Outputs;
use crate::model::stack::Stack;

/// `format` makes a URL of the API's address.
pub fn read(outputs: &Outputs, format: &str, masters: u32, stack: &Stack) -> Outcome {
    let url = |address: &str| match address.contains("://") {
        true => address.to_owned(),
        false => format.replacen("{}", address, 1),
    };
    let api = stack.text(&outputs.api_address.heat).filter(|address| !address.is_empty());
    Outcome {
        api_address: api.map(url),
        master_addresses: addresses(stack, outputs.master_addresses.as_deref()),
        worker_addresses: addresses(stack, outputs.worker_addresses.as_deref()),
        master_private: private(stack, outputs.master_private.as_deref(), masters),
        api_internal: outputs
            .api_internal
            .as_deref()
            .and_then(|output| stack.text(output))
            .map(str::to_owned),
        api_public: api_public(stack, outputs.api_public.as_deref()),
    }
}

/// Addresses that are known, in order.
fn addresses(stack: &Stack, output: Option<&str>) -> Vec<String> {
    let known = output.map(|output| stack.list(output)).unwrap_or_default();
    known.into_iter().filter(|address| !address.is_empty()).collect()
}

/// None until all of them are known.
fn private(stack: &Stack, output: Option<&str>, masters: u32) -> Option<Vec<String>> {
    let Some(output) = output else { return Some(Vec::new()) };
    let known = stack.list(output);
    let complete = known.len() == masters as usize && known.iter().all(|a| !a.is_empty());
    complete.then_some(known)
}

/// Every address by which somebody outside may call the API; None until all are known.
fn api_public(stack: &Stack, output: Option<&str>) -> Option<Vec<String>> {
    let Some(output) = output else { return Some(Vec::new()) };
    let wanted = stack.outputs.get(output).and_then(Value::as_array)?;
    let known: Vec<String> = wanted
        .iter()
        .filter_map(Value::as_str)
        .filter(|a| !a.is_empty())
        .map(str::to_owned)
        .collect();
    (known.len() == wanted.len()).then_some(known)
}
