//! Where magnumd connects because a tenant says so, and where it does not.
//!
//! | who may be steered by what | where it leads | what keeps it there |
//! |---|---|---|
//! | health: `api_address`, an output of a stack that every member may update | the cluster's API | this file |
//! | `discovery_url` of a cluster, proxies, registries and prefixes of templates and labels | nowhere: they go into files of nodes | nodes connect, magnumd does not |
//! | other outputs (addresses, server ids) | into certificates and questions to Nova | read as addresses and UUIDs |
//! | a tenant's token: its service catalogue | nowhere | endpoints come from the service user's catalogue |
//! | a node's report, CSR or duty | nowhere | answers on the node's own connection |
//! | an auto-healer's report | nowhere | it calls us |
//!
//! An address is one of the cluster's when Neutron knows it as a floating address of the cluster's
//! project that leads to a port. A fixed address would not do: in a network of their own tenants
//! have whatever address they like, such as that of a host beside magnumd. Neutron picks floating
//! ones from the pools of the operator. Beside that the port is the driver's, and neither loopback,
//! link-local nor magnumd's own addresses are called whatever Neutron says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::snapshot::ClusterSnapshot;
use super::{Conductor, StepError};
use crate::model::cluster::Cluster;
use crate::openstack::Actor;

/// Why magnumd does not connect; for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Forbidden {
    #[error("it is not https, an address and a port")]
    NoAddress,
    #[error("it is an address of this host, or of no host at all")]
    Inward,
    #[error("it is magnumd's own address")]
    Own,
    #[error("its port is not the one that the driver gives the API")]
    Port,
    #[error("Neutron knows no such floating address of the cluster's project that leads to a port")]
    Foreign,
}

impl Conductor {
    /// Whether magnumd may call a cluster's API at a URL; an error where that cannot be found out
    /// now. What Neutron has said is believed for some minutes.
    pub(super) async fn reachable(
        &self,
        cluster: &Cluster,
        url: &str,
    ) -> Result<Result<(), Forbidden>, StepError> {
        let settings = &self.inner.settings;
        let at = match target(url, &settings.own_addresses, settings.health_allow_loopback) {
            Ok(at) => at,
            Err(forbidden) => return Ok(Err(forbidden)),
        };
        let known = (cluster.id, url.to_owned());
        if self.inner.vouched.get(&known).await.is_some() {
            return Ok(Ok(()));
        }
        let lost = || StepError::failed("The cluster is no more.");
        let snapshot = ClusterSnapshot::read(&self.inner.store, cluster.id)?.ok_or_else(lost)?;
        if let Some(plan) = snapshot.plan(settings, &self.inner.enrolment)
            && self.driver(&snapshot)?.api_url(&plan, &at.ip().to_string()) != url
        {
            return Ok(Err(Forbidden::Port));
        }
        let address = at.ip().to_string();
        let project = &cluster.project_id;
        // One session for all clusters; where Neutron shows it its own only, the cluster's own.
        let service = Actor::from(&*self.inner.cloud.keystone().service().await?);
        let mut leads = self.inner.cloud.leads_floating(&service, project, &address).await?;
        if !leads {
            let reader = self.reader(&snapshot).await?;
            leads = self.inner.cloud.leads_floating(&reader, project, &address).await?;
        }
        if !leads {
            return Ok(Err(Forbidden::Foreign));
        }
        self.inner.vouched.insert(known, ()).await;
        Ok(Ok(()))
    }
}

/// The address and port of a URL, if they may be a cluster's.
fn target(url: &str, own: &[IpAddr], allow_loopback: bool) -> Result<SocketAddr, Forbidden> {
    let host = url.strip_prefix("https://").ok_or(Forbidden::NoAddress)?;
    let at: SocketAddr = host.trim_end_matches('/').parse().map_err(|_| Forbidden::NoAddress)?;
    let address = at.ip().to_canonical();
    if own.iter().any(|own| own.to_canonical() == address) {
        return Err(Forbidden::Own);
    }
    match is_inward(address) && !(allow_loopback && address.is_loopback()) {
        true => Err(Forbidden::Inward),
        false => Ok(at),
    }
}

/// Whether an address stays on this host or this wire, or is nobody's.
fn is_inward(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_inward_v4(v4),
        IpAddr::V6(v6) => is_inward_v6(v6),
    }
}

fn is_inward_v4(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    address.is_loopback() || address.is_link_local() || first == 0 || first >= 224
}

fn is_inward_v6(address: Ipv6Addr) -> bool {
    let parts = address.segments();
    let v4 = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        is_inward_v4(Ipv4Addr::new(a, b, c, d))
    };
    match parts {
        // fe80::/10, fec0::/10 (site-local) and multicast.
        [0xfe80..=0xffff, ..] => true,
        // Addresses of IPv4 in other clothes: compatible, NAT64, 6to4.
        [0, 0, 0, 0, 0, 0, high, low] => high == 0 || v4(high, low),
        [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_of_somebody_else_is_called() {
        use Forbidden::{Inward, NoAddress, Own};
        let own: Vec<IpAddr> = vec!["203.0.113.2".parse().unwrap(), "2001:db8::2".parse().unwrap()];
        for (host, verdict) in [
            ("203.0.113.9:6443", None),
            ("10.0.0.7:6443", None),
            ("[2001:db8::9]:6443", None),
            ("203.0.113.2:6443", Some(Own)),
            ("203.0.113.2:9511", Some(Own)),
            ("[::ffff:203.0.113.2]:6443", Some(Own)),
            ("[2001:db8::2]:6443", Some(Own)),
            ("127.0.0.1:6443", Some(Inward)),
            ("127.9.9.9:6443", Some(Inward)),
            ("[::1]:6443", Some(Inward)),
            ("[::ffff:127.0.0.1]:6443", Some(Inward)),
            ("[::7f00:1]:6443", Some(Inward)),
            ("[64:ff9b::7f00:1]:6443", Some(Inward)),
            ("[2002:7f00:1::]:6443", Some(Inward)),
            ("[2002:a9fe:a9fe::]:6443", Some(Inward)),
            ("169.254.169.254:80", Some(Inward)),
            ("[fe80::1]:6443", Some(Inward)),
            ("[fec0::1]:6443", Some(Inward)),
            ("[ff02::1]:6443", Some(Inward)),
            ("0.0.0.0:6443", Some(Inward)),
            ("0.1.2.3:6443", Some(Inward)),
            ("[::]:6443", Some(Inward)),
            ("224.0.0.1:6443", Some(Inward)),
            ("255.255.255.255:6443", Some(Inward)),
            ("240.0.0.1:6443", Some(Inward)),
            ("localhost:6443", Some(NoAddress)),
            ("k8s.example.org:6443", Some(NoAddress)),
            ("203.0.113.9", Some(NoAddress)),
            ("203.0.113.9:22:6443", Some(NoAddress)),
            ("203.0.113.9@127.0.0.1:6443", Some(NoAddress)),
            ("0x7f.1:6443", Some(NoAddress)),
            ("2130706433:6443", Some(NoAddress)),
            ("127.1:6443", Some(NoAddress)),
            ("203.0.113.9:6443/metrics", Some(NoAddress)),
            ("203.0.113.9:6443?x", Some(NoAddress)),
            ("[fe80::1%eth0]:6443", Some(NoAddress)),
        ] {
            let said = target(&format!("https://{host}"), &own, false).err();
            assert_eq!(said, verdict, "{host}");
        }
        assert_eq!(target("http://203.0.113.9:6443", &own, false), Err(NoAddress));
        assert_eq!(target("tcp://203.0.113.9:6443", &own, false), Err(NoAddress));
        // A lab's clusters are on this host; still nobody calls magnumd itself, or the metadata.
        assert!(target("https://127.3.0.9:6443", &own, true).is_ok());
        let here = ["127.0.0.1".parse().unwrap()];
        assert_eq!(target("https://127.0.0.1:6443", &here, true), Err(Own));
        assert_eq!(target("https://169.254.169.254:80", &own, true), Err(Inward));
    }
}
