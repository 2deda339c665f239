//! What Nova asks for every server that it builds: its dynamic vendor data.
//!
//! Here and not at the listener of the nodes, because it is Nova that asks: from the control plane,
//! with a token of Keystone's, trusting the certificate that this listener has.

use serde_json::{Value, json};
use tracing::debug;
use uuid::Uuid;

use super::context::Context;
use super::error::{ApiError, Outcome};
use super::reply::Reply;

/// `POST /vendordata`, with the body of Nova's `DynamicVendorData`: an object, of which only
/// `instance-id` is read. The answer stands in the server's `vendor_data2.json`, under the name
/// that the operator has given the target.
///
/// No rule of the policy guards it: whoever had a secret could be any node of any tenant.
pub fn give(cx: &Context<'_>) -> Outcome<Reply> {
    cx.query(&[])?;
    let requester = cx.requester();
    let is_service = requester.has_role("service") || cx.is_admin;
    // Nodes of an administrator's clusters act with roles of his.
    if !is_service || requester.trust.is_some() {
        return Err(ApiError::forbidden(
            "Vendor data is given to Nova alone: this needs the role service or admin, and no trust.",
        ));
    }
    let body = cx.body("vendordata")?;
    let server = body["instance-id"].as_str().and_then(|id| Uuid::try_parse(id).ok());
    let server = server.ok_or_else(|| {
        let given = match &body["instance-id"] {
            Value::Null => "it is missing".to_owned(),
            other => format!("not {}", other.to_string().chars().take(80).collect::<String>()),
        };
        ApiError::invalid(format!("instance-id must be the UUID of a server; {given}."))
    })?;
    debug!(%server, "vendor data given");
    let secret = cx.api.conductor.vendor_secret(server);
    Reply::shown(&json!({ "secret": secret.expose() }))
}
