//! Certificates that nodes may ask for: which CA signs, and every word of the subject. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Deserialize;

use super::admission::Guest;
use super::door::Fault;
use crate::model::certificate::CertificateKind;
use crate::pki::authority::Leaf;

/// What a node sends to `csr`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CsrRequest {
    pub purpose: String,
    /// PEM.
    pub csr: String,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Kubelet,
    EtcdServer,
    EtcdPeer,
    EtcdClient,
    FrontProxyClient,
    /// The Docker daemon of a manager, which is called from outside too.
    DockerServer,
    /// Serves and calls others of its cluster, whatever that is made of.
    Server,
}

impl Purpose {
    /// The purpose a guest may have; `allowed` is what the cluster's driver says.
    pub fn of(text: &str, guest: &Guest, allowed: &[String]) -> Result<Self, Fault> {
        let purpose = match text {
            "kubelet" => Self::Kubelet,
            "etcd-server" => Self::EtcdServer,
            "etcd-peer" => Self::EtcdPeer,
            "etcd-client" => Self::EtcdClient,
            "front-proxy-client" => Self::FrontProxyClient,
            "docker-server" => Self::DockerServer,
            "server" => Self::Server,
            _ => {
                return Err(Fault::bad(
                    "purpose must be one of kubelet, etcd-server, etcd-peer, etcd-client, \
                     front-proxy-client, server, docker-server.",
                ));
            }
        };
        if !allowed.iter().any(|allowed| allowed == text) {
            let role = if guest.master_index.is_some() { "masters" } else { "workers" };
            return Err(Fault::forbidden(format!(
                "The driver of this cluster gives {role} no certificate for purpose {text}."
            )));
        }
        Ok(purpose)
    }

    /// The CA that signs.
    pub const fn authority(self) -> CertificateKind {
        match self {
            Self::Kubelet | Self::Server | Self::DockerServer => CertificateKind::Kubernetes,
            Self::EtcdServer | Self::EtcdPeer | Self::EtcdClient => CertificateKind::Etcd,
            Self::FrontProxyClient => CertificateKind::FrontProxy,
        }
    }

    /// The certificate; `addresses` are the node's own, as far as they are known.
    pub fn leaf(self, guest: &Guest, addresses: &[IpAddr]) -> Leaf {
        let (common_name, organization) = match self {
            Self::Kubelet => {
                (format!("system:node:{}", guest.name), Some("system:nodes".to_owned()))
            }
            Self::EtcdServer | Self::EtcdPeer | Self::Server | Self::DockerServer => {
                (guest.name.clone(), None)
            }
            Self::EtcdClient => ("kube-apiserver-etcd-client".to_owned(), None),
            Self::FrontProxyClient => ("front-proxy-client".to_owned(), None),
        };
        // Every node proves who it is to another one; only some are called.
        if matches!(self, Self::EtcdClient | Self::FrontProxyClient) {
            return Leaf { common_name, organization, client: true, ..Leaf::default() };
        }
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        Leaf {
            common_name,
            organization,
            dns: vec![guest.name.clone(), "localhost".to_owned()],
            addresses: loopback.iter().chain(addresses).copied().collect(),
            server: true,
            // Docker gives all that it has to whoever calls with a certificate of this CA.
            client: self != Self::DockerServer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(master_index: Option<u32>) -> Guest {
        Guest { name: "k1-x-node-0".to_owned(), nodegroup: "g".to_owned(), master_index }
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
            ("admin", 400, 400),
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
        let leaf = Purpose::Kubelet.leaf(&guest(None), &[address]);
        assert_eq!(leaf.common_name, "system:node:k1-x-node-0");
        assert_eq!(leaf.organization.as_deref(), Some("system:nodes"));
        assert_eq!(leaf.dns, ["k1-x-node-0", "localhost"]);
        assert_eq!(leaf.addresses.len(), 3);
        let client = Purpose::EtcdClient.leaf(&guest(Some(0)), &[address]);
        assert_eq!(client.common_name, "kube-apiserver-etcd-client");
        assert!(client.dns.is_empty() && client.addresses.is_empty() && !client.server);
        let peer = Purpose::EtcdPeer.leaf(&guest(Some(0)), &[address]);
        assert!(peer.server && peer.client && peer.organization.is_none());
        let docker = Purpose::DockerServer.leaf(&guest(Some(0)), &[address]);
        assert!(docker.server && !docker.client && docker.organization.is_none());
    }
}
