//! Octavia: the load balancers that a cluster's own services have asked for.

use hyper::Method;
use serde_json::Value;

use super::call::{Call, encode};
use super::error::{CloudError, Service};
use super::{Actor, Cloud};

/// A load balancer as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balancer {
    pub id: String,
    pub name: String,
    pub project_id: String,
    pub description: String,
    /// `ACTIVE`, `PENDING_DELETE`, `ERROR` and the like.
    pub status: String,
}

impl Cloud {
    /// The load balancers that the actor may see; all of them for Octavia's own observers.
    pub async fn balancers(&self, actor: &Actor) -> Result<Vec<Balancer>, CloudError> {
        let base = self.url(Service::Octavia, &actor.project_id).await?;
        let url = format!("{base}/v2.0/lbaas/loadbalancers");
        let call = Call::get(Service::Octavia, url, &actor.token, "the load balancers");
        Ok(balancers(&self.inner.caller.json(call).await?))
    }

    /// Deletes one with its listeners, pools and members.
    pub async fn delete_balancer(&self, actor: &Actor, id: &str) -> Result<(), CloudError> {
        let base = self.url(Service::Octavia, &actor.project_id).await?;
        let url = format!("{base}/v2.0/lbaas/loadbalancers/{}?cascade=true", encode(id));
        let call = Call::get(Service::Octavia, url, &actor.token, "the load balancer");
        self.inner.caller.send(call.method(Method::DELETE)).await.map(|_| ())
    }
}

fn balancers(body: &Value) -> Vec<Balancer> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let balancer = |b: &Value| Balancer {
        id: text(&b["id"]),
        name: text(&b["name"]),
        project_id: text(&b["project_id"]),
        description: text(&b["description"]),
        status: text(&b["provisioning_status"]),
    };
    body["loadbalancers"].as_array().into_iter().flatten().map(balancer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_is_read() {
        let body = json!({"loadbalancers": [{
            "id": "1", "name": "kube_service_x", "project_id": "p",
            "description": "Kubernetes external service a/b from cluster c",
            "provisioning_status": "ACTIVE"}]});
        let found = balancers(&body);
        assert_eq!((found.len(), found[0].project_id.as_str()), (1, "p"));
        assert_eq!(found[0].status, "ACTIVE");
        assert!(balancers(&json!({})).is_empty());
    }
}
