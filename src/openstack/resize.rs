//! What became of a server that Heat has asked Nova to resize.
//!
//! When no host takes a server, or a host refuses, Nova puts it back as it was, `ACTIVE`. Heat takes
//! that for a resize that has not begun and waits until its own timeout
//! (`heat/engine/clients/os/nova.py`, `check_resize`), so Nova has to be asked.

use hyper::header::HeaderName;
use serde_json::Value;

use super::call::{Call, encode};
use super::error::{CloudError, Service};
use super::{Actor, Cloud};
use crate::base::clock::Timestamp;
use crate::base::printable;

const NOVA_VERSION: HeaderName = HeaderName::from_static("openstack-api-version");
/// Since then an event tells what went wrong, to whom Nova's policy lets it:
/// `os_compute_api:os-instance-actions:events:details`, by default administrators.
const WITH_DETAILS: &str = "compute 2.84";

/// A resize that Nova has given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedResize {
    /// What Nova said; None where it does not tell us.
    pub reason: Option<String>,
}

impl Cloud {
    /// Whether Nova has given up, since a moment, to resize a server to a flavor (by id). The
    /// `admin` is asked for the reason only.
    pub async fn failed_resize(
        &self,
        actor: &Actor,
        admin: &Actor,
        server: &str,
        flavor: &str,
        since: Timestamp,
    ) -> Result<Option<FailedResize>, CloudError> {
        let base = self.url(Service::Nova, &actor.project_id).await?;
        let place = format!("{base}/servers/{}", encode(server));
        let actions = format!("{place}/os-instance-actions");
        let listed = self.get(Service::Nova, actions.clone(), actor, "the server's actions").await;
        let listed = match listed {
            Err(e) if e.is_missing() => return Ok(None),
            listed => listed?,
        };
        let Some(request) = given_up(&listed["instanceActions"], since) else { return Ok(None) };
        // A host may have refused it while another one is tried, or has taken it.
        let shown = self.get(Service::Nova, place, actor, "the server").await?;
        if !is_back(&shown["server"], flavor) {
            return Ok(None);
        }
        let url = format!("{actions}/{}", encode(request));
        let call = Call::get(Service::Nova, url, &admin.token, "the server's action")
            .header(NOVA_VERSION, WITH_DETAILS);
        let reason = match self.inner.caller.json(call).await {
            Ok(body) => details(&body["instanceAction"]),
            // An older Nova, or one that tells nobody.
            Err(CloudError::Missing { .. } | CloudError::Refused { .. }) => None,
            Err(e) => return Err(e),
        };
        Ok(Some(FailedResize { reason }))
    }
}

/// The request of the last resize, if it began after a moment and something of it failed.
fn given_up(actions: &Value, since: Timestamp) -> Option<&str> {
    let began = |action: &Value| {
        let text = action["start_time"].as_str()?;
        Timestamp::parse(&format!("{}Z", text.trim_end_matches('Z')))
    };
    let resizes = actions.as_array()?.iter().filter(|a| a["action"] == "resize");
    let last = resizes.max_by_key(|a| began(a))?;
    let is_failed = last["message"].is_string() && began(last)? >= since;
    last["request_id"].as_str().filter(|_| is_failed)
}

/// Whether a server works on and has not got the flavor. Nova names it by id up to 2.46.
fn is_back(server: &Value, flavor: &str) -> bool {
    server["status"] == "ACTIVE"
        && server["OS-EXT-STS:task_state"].is_null()
        && server["flavor"]["id"] != flavor
}

fn details(action: &Value) -> Option<String> {
    let mut events = action["events"].as_array()?.iter();
    let said = events.find_map(|e| e["details"].as_str().filter(|text| !text.trim().is_empty()))?;
    Some(printable::line(&said.trim().chars().take(500).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_last_resize_counts_and_only_if_it_failed_since() {
        let action = |name: &str, at: &str, message: Value| {
            json!({"action": name, "request_id": format!("req-{at}"), "message": message,
                   "start_time": format!("2026-11-30T06:{at}.000000")})
        };
        let since = Timestamp::parse("2026-11-30T06:10:00Z").unwrap();
        let look = |actions: &[Value]| given_up(&json!(actions), since).map(str::to_owned);
        let failed = action("resize", "11:00", json!("Error"));
        assert_eq!(look(std::slice::from_ref(&failed)).as_deref(), Some("req-11:00"));
        assert_eq!(look(&[action("resize", "12:00", Value::Null), failed.clone()]), None);
        assert_eq!(look(&[action("resize", "09:00", json!("Error"))]), None, "an earlier try");
        let other = action("rebuild", "12:00", json!("Error"));
        assert_eq!(look(&[other, failed]).as_deref(), Some("req-11:00"));
        assert_eq!(look(&[]), None);
    }

    #[test]
    fn a_server_on_its_way_is_not_back() {
        let server = |status: &str, task: Value, flavor: &str| json!({"status": status, "OS-EXT-STS:task_state": task, "flavor": {"id": flavor}});
        assert!(is_back(&server("ACTIVE", Value::Null, "1"), "2"));
        assert!(!is_back(&server("ACTIVE", json!("resize_prep"), "1"), "2"));
        assert!(!is_back(&server("VERIFY_RESIZE", Value::Null, "1"), "2"));
        assert!(!is_back(&server("ACTIVE", Value::Null, "2"), "2"));
        let said = json!({"events": [{"details": null}, {"details": "No valid host was found. "}]});
        assert_eq!(details(&said).as_deref(), Some("No valid host was found."));
        assert_eq!(details(&json!({"events": []})), None);
        let said = json!({"events": [{"details": "No\u{1b}[2J\u{202e}\nhost."}]});
        assert_eq!(details(&said).as_deref(), Some("No[2J host."));
    }
}
