//! What a cloud has, lacks and limits: asked before anything is built there.

use std::collections::BTreeMap;

use hyper::Method;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::call::{Call, encode};
use super::error::{CloudError, Service};
use super::{Actor, Cloud};
use crate::base::clock::Timestamp;

/// How much of something a project may have, and has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// None is without limit.
    pub limit: Option<u64>,
    pub used: u64,
}

impl Allowance {
    /// None is without limit.
    pub fn left(self) -> Option<u64> {
        self.limit.map(|limit| limit.saturating_sub(self.used))
    }
}

/// A service's allowances by the name of the resource.
pub type Allowances = BTreeMap<String, Allowance>;

/// How full the pools of a network are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub total: u64,
    pub used: u64,
}

impl Cloud {
    /// Instances, cores, RAM and so on of a project at Nova.
    pub async fn compute_quota(
        &self,
        actor: &Actor,
        project: &str,
    ) -> Result<Allowances, CloudError> {
        let base = self.url(Service::Nova, &actor.project_id).await?;
        let url = format!("{base}/os-quota-sets/{}/detail", encode(project));
        let body = self.get(Service::Nova, url, actor, "the project's quota").await?;
        Ok(allowances(&body["quota_set"], "in_use"))
    }

    /// Networks, ports, floating addresses and so on of a project at Neutron.
    pub async fn network_quota(
        &self,
        actor: &Actor,
        project: &str,
    ) -> Result<Allowances, CloudError> {
        let url = self.neutron_url(actor, &format!("quotas/{}/details", encode(project))).await?;
        let body = self.get(Service::Neutron, url, actor, "the project's quota").await?;
        Ok(allowances(&body["quota"], "used"))
    }

    /// Volumes and gigabytes of a project at Cinder.
    pub async fn volume_quota(
        &self,
        actor: &Actor,
        project: &str,
    ) -> Result<Allowances, CloudError> {
        let base = self.url(Service::Cinder, &actor.project_id).await?;
        let base = match base.contains(&actor.project_id) {
            true => base,
            false => format!("{base}/{}", actor.project_id),
        };
        let url = format!("{base}/os-quota-sets/{}?usage=True", encode(project));
        let body = self.get(Service::Cinder, url, actor, "the project's quota").await?;
        Ok(allowances(&body["quota_set"], "in_use"))
    }

    /// Addresses of a network; None where only administrators may see them.
    pub async fn addresses(
        &self,
        actor: &Actor,
        network: &str,
    ) -> Result<Option<Addresses>, CloudError> {
        let path = format!("network-ip-availabilities?network_id={}", encode(network));
        let url = self.neutron_url(actor, &path).await?;
        let body = match self.get(Service::Neutron, url, actor, "the addresses").await {
            Ok(body) => body,
            // Without the extension, or without the right to look.
            Err(CloudError::Missing { .. } | CloudError::Refused { .. }) => return Ok(None),
            Err(e) => return Err(e),
        };
        let all = body["network_ip_availabilities"].as_array().map(Vec::as_slice);
        // A tenant is shown an empty list instead of a refusal.
        let found = all.unwrap_or_default().iter().find(|one| one["network_id"] == network);
        Ok(found.map(|one| Addresses {
            // A range of IPv6 has more than fits.
            total: one["total_ips"].as_u64().unwrap_or(u64::MAX),
            used: one["used_ips"].as_u64().unwrap_or(0),
        }))
    }

    /// Names of the networks that lead outside.
    pub async fn external_networks(&self, actor: &Actor) -> Result<Vec<String>, CloudError> {
        let url = self.neutron_url(actor, "networks?router:external=True").await?;
        let body = self.get(Service::Neutron, url, actor, "the networks").await?;
        let all = body["networks"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(all.iter().filter_map(|n| n["name"].as_str()).map(str::to_owned).collect())
    }

    /// Every resource type of which Heat can make something in this cloud.
    pub async fn resource_types(&self, actor: &Actor) -> Result<Vec<String>, CloudError> {
        let base = self.url(Service::Heat, &actor.project_id).await?;
        let url = format!("{base}/resource_types");
        let body = self.get(Service::Heat, url, actor, "the resource types").await?;
        let all = body["resource_types"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(all.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// A cluster template as our own API shows it, by name or UUID.
    pub async fn own_template(&self, actor: &Actor, name: &str) -> Result<Value, CloudError> {
        let base = self.url(Service::Magnum, &actor.project_id).await?;
        let url = format!("{base}/clustertemplates/{}", encode(name));
        self.get(Service::Magnum, url, actor, "the template").await
    }

    /// The date of Keystone's answers, asked without an account; not every server sends one.
    pub async fn time_of_keystone(&self) -> Result<Option<Timestamp>, CloudError> {
        let call = Call {
            service: Service::Keystone,
            method: Method::GET,
            url: self.keystone().auth_url().to_owned(),
            token: None,
            headers: Vec::new(),
            body: None,
            what: "the version document",
        };
        let answer = self.inner.caller.send(call).await?;
        Ok(answer.header("date").and_then(http_date))
    }

    pub(super) async fn neutron_url(
        &self,
        actor: &Actor,
        path: &str,
    ) -> Result<String, CloudError> {
        let base = self.url(Service::Neutron, &actor.project_id).await?;
        Ok(format!("{}/v2.0/{path}", base.trim_end_matches("/v2.0")))
    }
}

/// Limits with what is used or reserved of them; a negative limit is none.
pub(super) fn allowances(set: &Value, used: &str) -> Allowances {
    let read = |(name, one): (&String, &Value)| {
        let limit = u64::try_from(one["limit"].as_i64()?).ok();
        let count = |key: &str| one[key].as_u64().unwrap_or(0);
        Some((name.clone(), Allowance { limit, used: count(used) + count("reserved") }))
    };
    set.as_object().into_iter().flatten().filter_map(read).collect()
}

/// `Tue, 24 Nov 2026 15:00:00 GMT`.
pub(super) fn http_date(text: &str) -> Option<Timestamp> {
    let at = OffsetDateTime::parse(&text.replace("GMT", "+0000"), &Rfc2822).ok()?;
    i64::try_from(at.unix_timestamp_nanos() / 1000).ok().map(Timestamp::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn allowances_are_read_in_both_spellings() {
        let nova = json!({"id": "p", "cores": {"limit": 20, "in_use": 4, "reserved": 1},
                          "ram": {"limit": -1, "in_use": 9, "reserved": 0}});
        let found = allowances(&nova, "in_use");
        assert_eq!(found["cores"].left(), Some(15));
        assert_eq!(found["ram"].left(), None);
        assert_eq!(found.len(), 2);
        let neutron = json!({"port": {"limit": 5, "used": 7, "reserved": 0}});
        assert_eq!(allowances(&neutron, "used")["port"].left(), Some(0));
    }

    #[test]
    fn the_date_of_an_answer() {
        let at = http_date("Tue, 24 Nov 2026 15:00:00 GMT").unwrap();
        assert_eq!(at, Timestamp::parse("2026-11-24T15:00:00Z").unwrap());
        assert_eq!(http_date("yesterday"), None);
    }
}
