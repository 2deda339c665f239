//! The key material of a cluster.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ClusterId;
use super::status::spelled;
use crate::base::secret::Sealed;

/// Which certificate or key of a cluster. Stored by position: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CertificateKind {
    /// The main CA, of API servers, kubelets and users.
    Kubernetes,
    Etcd,
    FrontProxy,
    /// CN `admin`, O `system:masters`: with it we look into the cluster.
    Client,
    /// The key pair that signs service-account tokens; its "certificate" is the public key.
    ServiceAccount,
}

/// Of which algorithm the keys of new authorities are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum KeyAlgorithm {
    #[serde(rename = "ecdsa-p256")]
    EcdsaP256,
    #[serde(rename = "rsa")]
    Rsa,
}

impl KeyAlgorithm {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "ecdsa-p256",
            Self::Rsa => "rsa",
        }
    }
}

impl CertificateKind {
    pub const ALL: [Self; 5] =
        [Self::Kubernetes, Self::Etcd, Self::FrontProxy, Self::Client, Self::ServiceAccount];

    /// What a rotation replaces: the authorities, and what the main one has signed for us.
    /// Service-account tokens outlive it, because their keys are no certificates.
    pub const ROTATED: [Self; 4] = [Self::Kubernetes, Self::Etcd, Self::FrontProxy, Self::Client];

    /// The CA that a request means by `ca_cert_type`, the main one where it says nothing; None where
    /// it names none.
    pub fn of_ca_cert_type(text: Option<&str>) -> Option<Self> {
        match text {
            // `kubelet` is what upstream's node scripts ask for.
            None | Some("" | "kubernetes" | "kubelet") => Some(Self::Kubernetes),
            Some("etcd") => Some(Self::Etcd),
            Some("front_proxy" | "front-proxy") => Some(Self::FrontProxy),
            Some(_) => None,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Etcd => "etcd",
            Self::FrontProxy => "front-proxy",
            Self::Client => "client",
            Self::ServiceAccount => "service-account",
        }
    }

    /// The single byte that stands for this kind in keys.
    pub const fn tag(self) -> u8 {
        match self {
            Self::Kubernetes => 0,
            Self::Etcd => 1,
            Self::FrontProxy => 2,
            Self::Client => 3,
            Self::ServiceAccount => 4,
        }
    }
}

spelled! {
    /// What a certificate is for that a node asks for, as nodes and drivers spell it.
    Purpose {
        Kubelet = "kubelet",
        EtcdServer = "etcd-server",
        EtcdPeer = "etcd-peer",
        EtcdClient = "etcd-client",
        FrontProxyClient = "front-proxy-client",
        // The Docker daemon of a manager, which is called from outside too.
        DockerServer = "docker-server",
        // Serves and calls others of its cluster, whatever that is made of.
        Server = "server",
        // The rest is for control planes that have no key of an authority to sign for themselves.
        KubeApiserver = "kube-apiserver",
        KubeApiserverKubeletClient = "kube-apiserver-kubelet-client",
        KubeControllerManager = "kube-controller-manager",
        KubeScheduler = "kube-scheduler",
        KubeProxy = "kube-proxy",
        Admin = "admin",
    }
}

impl Purpose {
    /// All of them, for a sentence.
    pub fn listed() -> String {
        Self::ALL.iter().map(|purpose| purpose.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// One certificate (or public key) in PEM and its private key, sealed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    pub cluster_id: ClusterId,
    pub kind: CertificateKind,
    pub pem: String,
    /// PKCS#8 PEM, sealed for [`Certificate::owner`].
    pub key: Sealed,
}

impl Certificate {
    /// What the private key is bound to when sealed.
    pub fn owner(cluster: ClusterId, kind: CertificateKind) -> String {
        format!("certificate/{cluster}/{}", kind.as_str())
    }
}

/// What a rotation has drawn and will put in the place of the certificate of the same kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NextCertificate(pub Certificate);
