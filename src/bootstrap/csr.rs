//! Certificates that nodes may ask for: which CA signs, and every word of the subject. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Deserialize;

use super::admission::NodeIdentity;
use super::http::Fault;
use crate::model::certificate::{CertificateKind, Purpose};
use crate::pki::authority::Leaf;

/// What a node sends to `csr`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CsrRequest {
    pub purpose: String,
    /// PEM.
    pub csr: String,
}

impl Purpose {
    /// The purpose a guest may have; `allowed` is what the cluster's driver says.
    pub fn of(text: &str, guest: &NodeIdentity, allowed: &[String]) -> Result<Self, Fault> {
        let Some(purpose) = Self::parse(text) else {
            return Err(Fault::bad(format!("purpose must be one of {}.", Self::listed())));
        };
        if !allowed.iter().any(|allowed| allowed == text) {
            let role = if guest.master_index.is_some() { "masters" } else { "workers" };
            return Err(Fault::forbidden(format!(
                "The driver of this cluster gives {role} no certificate for purpose {text}."
            )));
        }
        Ok(purpose)
    }

    /// Whether it is what clients outside the cluster call, by every name that the API has.
    pub const fn is_the_api(self) -> bool {
        matches!(self, Self::KubeApiserver | Self::DockerServer)
    }

    /// The CA that signs.
    pub const fn authority(self) -> CertificateKind {
        match self {
            Self::EtcdServer | Self::EtcdPeer | Self::EtcdClient => CertificateKind::Etcd,
            Self::FrontProxyClient => CertificateKind::FrontProxy,
            _ => CertificateKind::Kubernetes,
        }
    }

    /// The certificate; `addresses` are the node's own, as far as they are known, and `api_names`
    /// those by which anybody calls the API.
    pub fn leaf(self, guest: &NodeIdentity, addresses: &[IpAddr], api_names: &[String]) -> Leaf {
        let (common_name, organization) = match self {
            Self::Kubelet => (format!("system:node:{}", guest.name), Some("system:nodes")),
            Self::EtcdServer | Self::EtcdPeer | Self::Server | Self::DockerServer => {
                (guest.name.clone(), None)
            }
            Self::EtcdClient => ("kube-apiserver-etcd-client".to_owned(), None),
            Self::FrontProxyClient => ("front-proxy-client".to_owned(), None),
            Self::KubeApiserver => ("kube-apiserver".to_owned(), None),
            Self::KubeApiserverKubeletClient => ("kube-apiserver-kubelet-client".to_owned(), None),
            Self::KubeControllerManager => ("system:kube-controller-manager".to_owned(), None),
            Self::KubeScheduler => ("system:kube-scheduler".to_owned(), None),
            Self::KubeProxy => ("system:kube-proxy".to_owned(), Some("system:node-proxier")),
            Self::Admin => ("admin".to_owned(), Some("system:masters")),
        };
        let organization = organization.map(str::to_owned);
        // Every node proves who it is to another one; only some are called.
        let is_called = matches!(
            self,
            Self::Kubelet
                | Self::EtcdServer
                | Self::EtcdPeer
                | Self::DockerServer
                | Self::Server
                | Self::KubeApiserver
        );
        if !is_called {
            return Leaf { common_name, organization, client: true, ..Leaf::default() };
        }
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let mut leaf = Leaf {
            common_name,
            organization,
            dns: vec![guest.name.clone(), "localhost".to_owned()],
            addresses: loopback.iter().chain(addresses).copied().collect(),
            server: true,
            // Docker gives all that it has to whoever calls with a certificate of this CA.
            client: !matches!(self, Self::KubeApiserver | Self::DockerServer),
            uris: Vec::new(),
        };
        for name in api_names.iter().filter(|_| self.is_the_api()) {
            match name.parse() {
                Ok(address) if leaf.addresses.contains(&address) => {}
                Ok(address) => leaf.addresses.push(address),
                Err(_) => leaf.dns.push(name.clone()),
            }
        }
        leaf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(master_index: Option<u32>) -> NodeIdentity {
        NodeIdentity { name: "k1-x-node-0".to_owned(), nodegroup: "g".to_owned(), master_index }
    }

    #[test]
    fn purposes_and_who_may_have_them() {
        for (text, master, worker) in [
            ("kubelet", 200, 200),
            ("etcd-server", 200, 403),
            ("etcd-peer", 200, 403),
            ("etcd-client", 200, 403),
            ("front-proxy-client", 200, 403),
            ("server", 403, 403),
            ("docker-server", 403, 403),
            ("admin", 403, 403),
            ("king", 400, 400),
            ("", 400, 400),
        ] {
            let status = |index: Option<u32>| {
                let kubernetes =
                    ["kubelet", "etcd-server", "etcd-peer", "etcd-client", "front-proxy-client"]
                        .map(str::to_owned);
                let allowed = if index.is_some() { &kubernetes[..] } else { &kubernetes[..1] };
                let purpose = Purpose::of(text, &guest(index), allowed);
                purpose.map_or_else(|f| f.status.as_u16(), |_| 200)
            };
            assert_eq!((status(Some(0)), status(None)), (master, worker), "{text}");
        }
    }

    #[test]
    fn every_word_of_a_certificate_is_ours() {
        let address: IpAddr = "10.0.0.5".parse().unwrap();
        let leaf = Purpose::Kubelet.leaf(&guest(None), &[address], &[]);
        assert_eq!(leaf.common_name, "system:node:k1-x-node-0");
        assert_eq!(leaf.organization.as_deref(), Some("system:nodes"));
        assert_eq!(leaf.dns, ["k1-x-node-0", "localhost"]);
        assert_eq!(leaf.addresses.len(), 3);
        let client = Purpose::EtcdClient.leaf(&guest(Some(0)), &[address], &[]);
        assert_eq!(client.common_name, "kube-apiserver-etcd-client");
        assert!(client.dns.is_empty() && client.addresses.is_empty() && !client.server);
        let peer = Purpose::EtcdPeer.leaf(&guest(Some(0)), &[address], &[]);
        assert!(peer.server && peer.client && peer.organization.is_none());
        let docker = Purpose::DockerServer.leaf(&guest(Some(0)), &[address], &[]);
        assert!(docker.server && !docker.client && docker.organization.is_none());
    }

    #[test]
    fn only_the_api_server_is_called_by_the_names_of_the_api() {
        let (address, names) =
            ("10.0.0.5".parse().unwrap(), ["kubernetes", "10.0.0.5", "10.254.0.1"]);
        let names = names.map(str::to_owned);
        for &purpose in Purpose::ALL {
            let leaf = purpose.leaf(&guest(Some(0)), &[address], &names);
            let named = leaf.dns.iter().any(|name| name == "kubernetes");
            assert_eq!(named, purpose.is_the_api(), "{purpose:?}");
            let is_administrator = leaf.organization.as_deref() == Some("system:masters");
            assert_eq!(is_administrator, purpose == Purpose::Admin, "{purpose:?}");
        }
        let api = Purpose::KubeApiserver.leaf(&guest(Some(0)), &[address], &names);
        let addresses: Vec<String> = api.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["127.0.0.1", "::1", "10.0.0.5", "10.254.0.1"]);
        assert_eq!(api.dns, ["k1-x-node-0", "localhost", "kubernetes"]);
        assert!(api.server && !api.client);
    }
}
