//! Octavia: the load balancers that a cluster's own services have asked for, and the floating
//! IPs of Neutron that lead to them.

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

/// A floating IP as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FloatingIp {
    pub id: String,
    pub address: String,
    pub description: String,
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

    /// The floating IPs of the actor's project.
    pub async fn floating_ips(&self, actor: &Actor) -> Result<Vec<FloatingIp>, CloudError> {
        let path = format!("floatingips?project_id={}", encode(&actor.project_id));
        let url = self.neutron_url(actor, &path).await?;
        let call = Call::get(Service::Neutron, url, &actor.token, "the floating IPs");
        Ok(floating_ips(&self.inner.caller.json(call).await?))
    }

    /// Whether an address is a floating one of a project and leads to a port of it. To one who may
    /// see only their own project Neutron shows nothing of another.
    pub async fn leads_floating(
        &self,
        actor: &Actor,
        project: &str,
        address: &str,
    ) -> Result<bool, CloudError> {
        let path = format!(
            "floatingips?project_id={}&floating_ip_address={}",
            encode(project),
            encode(address)
        );
        let url = self.neutron_url(actor, &path).await?;
        let call = Call::get(Service::Neutron, url, &actor.token, "the floating IP");
        Ok(leads(&self.inner.caller.json(call).await?, project, address))
    }

    pub async fn delete_floating_ip(&self, actor: &Actor, id: &str) -> Result<(), CloudError> {
        let url = self.neutron_url(actor, &format!("floatingips/{}", encode(id))).await?;
        let call = Call::get(Service::Neutron, url, &actor.token, "the floating IP");
        self.inner.caller.send(call.method(Method::DELETE)).await.map(|_| ())
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Neutron's filters are not trusted: a proxy or an old release may ignore one.
fn leads(body: &Value, project: &str, address: &str) -> bool {
    let mut all = body["floatingips"].as_array().into_iter().flatten();
    all.any(|f| {
        let owner = f["project_id"].as_str().or(f["tenant_id"].as_str());
        f["floating_ip_address"] == address
            && owner == Some(project)
            && f["port_id"].as_str().is_some_and(|port| !port.is_empty())
    })
}

pub(super) fn floating_ips(body: &Value) -> Vec<FloatingIp> {
    let floating_ip = |f: &Value| FloatingIp {
        id: text(&f["id"]),
        address: text(&f["floating_ip_address"]),
        description: text(&f["description"]),
    };
    body["floatingips"].as_array().into_iter().flatten().map(floating_ip).collect()
}

pub(super) fn balancers(body: &Value) -> Vec<Balancer> {
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
        let body = json!({"floatingips": [{
            "id": "2", "floating_ip_address": "203.0.113.9", "description": "for the web"}]});
        for (project, port, is_so) in
            [("p", json!("x"), true), ("q", json!("x"), false), ("p", json!(null), false)]
        {
            let body = json!({"floatingips": [{
                "floating_ip_address": "203.0.113.9", "project_id": project, "port_id": port}]});
            assert_eq!(leads(&body, "p", "203.0.113.9"), is_so, "{body}");
            assert!(!leads(&body, "p", "203.0.113.8"));
        }
        let found = floating_ips(&body).remove(0);
        assert_eq!((found.id.as_str(), found.address.as_str()), ("2", "203.0.113.9"));
    }
}
