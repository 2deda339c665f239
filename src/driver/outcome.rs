//! What Heat built, read from the stack's outputs.
//!
//! A stack is its tenant's, who can make its outputs anything. What is no address is left out, for
//! other members' clients are told of these, and records have a size.

use std::net::{IpAddr, Ipv6Addr};

use serde_json::Value;

use super::Outcome;
use super::manifest::Outputs;
use crate::model::stack::Stack;

/// How many addresses outside an API may have: its masters', those of load balancers, and names.
const MOST_PUBLIC: usize = 64;

/// `format` makes a URL of the API's address.
pub fn read(outputs: &Outputs, format: &str, masters: u32, stack: &Stack) -> Outcome {
    let mut odd = Vec::new();
    let outcome = Outcome {
        api_address: text(stack, &outputs.api_address.heat, &mut odd, |text| url(text, format)),
        master_addresses: addresses(stack, outputs.master_addresses.as_deref(), &mut odd),
        worker_addresses: addresses(stack, outputs.worker_addresses.as_deref(), &mut odd),
        master_private: private(stack, outputs.master_private.as_deref(), masters),
        api_internal: outputs.api_internal.as_deref().and_then(|output| {
            text(stack, output, &mut odd, |text| is_host(text).then(|| text.to_owned()))
        }),
        api_public: api_public(stack, outputs.api_public.as_deref()),
        remark: None,
    };
    let remark = (!odd.is_empty()).then(|| {
        format!("What is no address in the stack's output {} is not shown.", odd.join(", "))
    });
    Outcome { remark, ..outcome }
}

/// One output, if it is known and means something.
fn text<'o>(
    stack: &Stack,
    output: &'o str,
    odd: &mut Vec<&'o str>,
    meant: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    let known = stack.text(output)?;
    let meant = meant(known);
    if meant.is_none() {
        odd.push(output);
    }
    meant
}

/// Addresses that are known, in order.
fn addresses<'o>(stack: &Stack, output: Option<&'o str>, odd: &mut Vec<&'o str>) -> Vec<String> {
    let Some(output) = output else { return Vec::new() };
    let known = stack.list(output).into_iter().filter(|address| !address.is_empty());
    let (addresses, others): (Vec<_>, Vec<_>) = known.partition(|address| is_host(address));
    if !others.is_empty() {
        odd.push(output);
    }
    addresses
}

/// None until all of them are known.
fn private(stack: &Stack, output: Option<&str>, masters: u32) -> Option<Vec<String>> {
    let Some(output) = output else { return Some(Vec::new()) };
    let known = stack.list(output);
    let complete = known.len() == masters as usize && known.iter().all(|a| is_host(a));
    complete.then_some(known)
}

/// Every address by which somebody outside may call the API; None until all are known.
fn api_public(stack: &Stack, output: Option<&str>) -> Option<Vec<String>> {
    let Some(output) = output else { return Some(Vec::new()) };
    let wanted = stack.outputs.get(output).and_then(Value::as_array)?;
    let known: Vec<String> =
        wanted.iter().filter_map(Value::as_str).filter(|a| is_host(a)).map(str::to_owned).collect();
    (known.len() == wanted.len() && known.len() <= MOST_PUBLIC).then_some(known)
}

/// The URL of an API at what an output says: an address, one with a port where `format` has none
/// of its own, or a URL without a path.
fn url(text: &str, format: &str) -> Option<String> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let place = rest.strip_suffix('/').unwrap_or(rest);
        return (["http", "https", "tcp"].contains(&scheme) && is_place(place))
            .then(|| text.to_owned());
    }
    let has_port = format.contains("{}:");
    if text.parse::<Ipv6Addr>().is_ok() {
        return Some(format.replacen("{}", &format!("[{text}]"), 1));
    }
    (is_host(text) || (!has_port && is_place(text))).then(|| format.replacen("{}", text, 1))
}

/// Where something listens: an address or a name, perhaps with a port; of IPv6 in brackets.
fn is_place(text: &str) -> bool {
    let is_port = |port: &str| {
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    if let Some((address, port)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address.parse::<Ipv6Addr>().is_ok()
            && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    match text.rsplit_once(':') {
        Some((host, port)) => !host.contains(':') && is_host(host) && is_port(port),
        None => is_host(text),
    }
}

/// An IP address or the name of a host.
fn is_host(text: &str) -> bool {
    let part = |part: &str| {
        (1..=63).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !part.starts_with('-')
    };
    text.len() <= 255 && (text.parse::<IpAddr>().is_ok() || text.split('.').all(part))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::stack::StackStatus;

    fn of(outputs: &Value, format: &str) -> Outcome {
        let stack = Stack {
            id: "1".to_owned(),
            name: "s".to_owned(),
            status: StackStatus::parse("CREATE_COMPLETE").unwrap(),
            status_reason: String::new(),
            parameters: Default::default(),
            outputs: outputs.as_object().unwrap().clone().into_iter().collect(),
            tags: Vec::new(),
        };
        read(&Outputs::default(), format, 1, &stack)
    }

    #[test]
    fn an_address_is_shown_and_what_is_none_is_told() {
        let format = "https://{}:6443";
        for (told, shown) in [
            ("203.0.113.9", "https://203.0.113.9:6443"),
            ("api.example.com", "https://api.example.com:6443"),
            ("2001:db8::9", "https://[2001:db8::9]:6443"),
            ("tcp://203.0.113.9:2376", "tcp://203.0.113.9:2376"),
            ("https://[2001:db8::9]:443/", "https://[2001:db8::9]:443/"),
        ] {
            let outcome = of(&json!({ "api_address": told }), format);
            assert_eq!((outcome.api_address.as_deref(), outcome.remark), (Some(shown), None));
        }
        let long = "A".repeat(300_000);
        for odd in [
            "127.254.0.4:18711/v1/#",
            "127.254.0.4:18711",
            "a b",
            "x@y",
            "https://x/#",
            "file://x",
            "https://x:0",
            "https://x:y",
            "javascript:alert(1)",
            "\n",
            "a..b",
            "-x",
            "::1]",
            &long,
        ] {
            let outcome = of(&json!({ "api_address": odd }), format);
            assert_eq!(outcome.api_address, None, "{odd}");
            let said = "What is no address in the stack's output api_address is not shown.";
            assert_eq!(outcome.remark.as_deref(), Some(said));
        }
        let bare = of(&json!({"api_address": "203.0.113.9:6444"}), "https://{}");
        assert_eq!(bare.api_address.as_deref(), Some("https://203.0.113.9:6444"));
    }

    #[test]
    fn lists_have_addresses_only() {
        let outcome = of(
            &json!({
                "kube_masters": ["10.0.0.5", "10.0.0.5/24"], "kube_minions": ["x".repeat(500_000)],
                "kube_masters_private": ["10.0.0.5\n"], "api_internal": "$(reboot)",
                "api_public": ["203.0.113.9", "a b"],
            }),
            "https://{}:6443",
        );
        assert_eq!(outcome.master_addresses, ["10.0.0.5"]);
        assert!(outcome.worker_addresses.is_empty());
        assert_eq!((outcome.master_private, outcome.api_internal), (None, None));
        assert_eq!(outcome.api_public, None);
        let said = "What is no address in the stack's output kube_masters, kube_minions, \
                    api_internal is not shown.";
        assert_eq!(outcome.remark.as_deref(), Some(said));
        let many = of(&json!({"api_public": vec!["x"; MOST_PUBLIC + 1]}), "https://{}:6443");
        assert_eq!(many.api_public, None);
    }
}
