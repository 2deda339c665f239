//! The API server of a master: TLS with a certificate that the master signs itself or is issued,
//! for administrators who show one of theirs.
//!
//! It listens wherever the network leads to the master from outside; what it answers is next door.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair,
};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, ServerConfig, SignatureScheme};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::super::fault::ApiHarm;
use super::super::range::API_PORT;
use super::super::world::World;
use super::bundle::Bundle;
use super::{docker, kubernetes};
use crate::base::http::server::{HttpListener, Limits, Request, Response, Service};
use crate::base::http::tls;

/// Who may ask: the only group that Kubernetes itself knows.
const ADMINISTRATORS: &str = "system:masters";
/// How soon a change of the network, or a fault, is noticed; on the wall's clock.
const NOTICE: Duration = Duration::from_millis(50);
/// For how many of these an address is waited for.
const PATIENCE: u32 = 100;

/// An API server that is set up and does not listen yet.
pub(super) struct Api {
    /// Magnum's id of the cluster whose nodes it shows.
    cluster: String,
    /// The machine's name.
    node: String,
    port: u16,
    speaks: Speaks,
    /// Of Kubernetes.
    version: String,
    /// None listens without TLS.
    own: Option<Arc<ServerConfig>>,
    /// Like its own, signed by an authority that only bears the name of the cluster's.
    forged: Option<Arc<ServerConfig>>,
}

/// Whose API it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    Kubernetes,
    Docker,
}

/// Where it listens, and how it misbehaves.
#[derive(Debug, PartialEq, Eq)]
struct Standing {
    addresses: Vec<Ipv4Addr>,
    harm: Option<ApiHarm>,
}

impl Api {
    /// Signs the server's certificate as kubeadm does, with the names that it is told.
    pub fn new(bundle: &Bundle, node: &str, cluster: &str) -> Result<Self, String> {
        let authority = bundle.text("pki/ca.crt")?;
        let text = |e: rcgen::Error| format!("the API server's certificate cannot be made: {e}");
        let key = KeyPair::from_pem(bundle.text("pki/ca.key")?).map_err(text)?;
        let issuer = Issuer::from_ca_cert_pem(authority, key).map_err(text)?;
        let mut names = bundle.kubeadm()?.names;
        names.extend([node, "kubernetes", "kubernetes.default"].map(str::to_owned));
        let (certificate, key) = serving(&names, &issuer).map_err(text)?;
        Self::with(bundle, authority, (&certificate, &key), names, node, cluster)
    }

    /// With the certificate and key that a master without the authority's key was issued.
    pub fn issued(
        bundle: &Bundle,
        certificate: &str,
        key: &str,
        node: &str,
        cluster: &str,
    ) -> Result<Self, String> {
        let names = vec![node.to_owned()];
        Self::with(bundle, bundle.text("pki/ca.crt")?, (certificate, key), names, node, cluster)
    }

    fn with(
        bundle: &Bundle,
        authority: &str,
        (certificate, key): (&str, &str),
        names: Vec<String>,
        node: &str,
        cluster: &str,
    ) -> Result<Self, String> {
        let text = |e: rcgen::Error| format!("a forged certificate cannot be made: {e}");
        let configured = |certificate: &str, key: &str| {
            let signed = tls::client_verifier(authority).map_err(|e| e.to_string())?;
            let config = tls::server_config_for(certificate, key, Arc::new(Administrators(signed)));
            config.map(Arc::new).map_err(|e| e.to_string())
        };
        let impostor = impostor(authority).map_err(text)?;
        let (forged, forged_key) = serving(&names, &impostor).map_err(text)?;
        Ok(Self {
            cluster: cluster.to_owned(),
            node: node.to_owned(),
            port: API_PORT,
            speaks: Speaks::Kubernetes,
            version: bundle.version(),
            own: Some(configured(certificate, key)?),
            forged: Some(configured(&forged, &forged_key)?),
        })
    }

    /// Docker's, at its port; `identity` is certificate, key and authority. Every client of the
    /// authority may ask: Docker knows no groups.
    pub fn docker(
        node: &str,
        cluster: &str,
        port: u16,
        identity: Option<(&str, &str, &str)>,
    ) -> Result<Self, String> {
        let own = identity.map(|(certificate, key, authority)| {
            let clients = tls::client_verifier(authority)?;
            tls::server_config_for(certificate, key, clients).map(Arc::new)
        });
        let own = own.transpose().map_err(|e| e.to_string())?;
        let (cluster, node) = (cluster.to_owned(), node.to_owned());
        let (speaks, version) = (Speaks::Docker, String::new());
        Ok(Self { cluster, node, port, speaks, version, own, forged: None })
    }

    /// Listens until this future is dropped; says when it does so wherever it can.
    pub async fn serve(self, world: Arc<World>, instance: String, listens: oneshot::Sender<()>) {
        let name = self.node.clone();
        let mut listens = Some(listens);
        loop {
            let standing = Standing::of(&world, &instance, &name);
            let (stop, mut serving) = (CancellationToken::new(), JoinSet::new());
            let mut silent = Vec::new();
            for address in &standing.addresses {
                let settings = match standing.harm {
                    Some(ApiHarm::Refuse) => continue,
                    Some(ApiHarm::Dead) => None,
                    Some(ApiHarm::Forge) => Some(self.forged.as_ref().or(self.own.as_ref())),
                    None => Some(self.own.as_ref()),
                };
                let limits = Limits { drain_time: NOTICE, ..Limits::default() };
                let door = match patient((*address, self.port).into(), limits).await {
                    Ok(door) => door,
                    Err(error) => {
                        warn!(name, %address, %error, "a guest's API server cannot listen");
                        continue;
                    }
                };
                let Some(settings) = settings else {
                    // The system accepts connections, and nobody ever reads them.
                    silent.push(door);
                    continue;
                };
                let door = match settings {
                    Some(settings) => door.with_tls(watch::channel(Arc::clone(settings)).1),
                    None => door,
                };
                let front = Front {
                    world: Arc::clone(&world),
                    cluster: self.cluster.clone(),
                    node: name.clone(),
                    speaks: self.speaks,
                    version: self.version.clone(),
                };
                serving.spawn(door.serve(Arc::new(front), stop.clone()));
            }
            // Whoever has gone away does not wait for it.
            _ = listens.take().map(|listens| listens.send(()));
            while Standing::of(&world, &instance, &name) == standing {
                tokio::time::sleep(NOTICE).await;
            }
            stop.cancel();
            while serving.join_next().await.is_some() {}
        }
    }
}

/// A door; the server before this one, with other certificates, may take a moment to leave.
async fn patient(address: SocketAddr, limits: Limits) -> io::Result<HttpListener> {
    for _ in 0..PATIENCE {
        match HttpListener::bind(address, limits).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                tokio::time::sleep(NOTICE).await;
            }
            other => return other,
        }
    }
    HttpListener::bind(address, limits).await
}

impl Standing {
    fn of(world: &World, instance: &str, name: &str) -> Self {
        let addresses = world.lock().network.floating_of(instance);
        // Others lead nowhere on this machine.
        let addresses = addresses.into_iter().filter(Ipv4Addr::is_loopback).collect();
        Self { addresses, harm: world.faults.of_api(name) }
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// A certificate for a server with these names, and its key.
fn serving(
    names: &[String],
    issuer: &Issuer<'_, KeyPair>,
) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = common_name("kube-apiserver");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok((params.signed_by(&key, issuer)?.pem(), key.serialize_pem()))
}

/// An authority with the name of another and a key of its own.
fn impostor(authority: &str) -> Result<Issuer<'static, KeyPair>, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let name = x509_parser::pem::parse_x509_pem(authority.as_bytes()).ok();
    let name = name.and_then(|(_, pem)| {
        let certificate = pem.parse_x509().ok()?;
        let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
        Some(name.to_owned())
    });
    params.distinguished_name = common_name(name.as_deref().unwrap_or("kubernetes"));
    Ok(Issuer::new(params, key))
}

/// Clients of the cluster's authority who are administrators.
#[derive(Debug)]
struct Administrators(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Administrators {
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.0.verify_client_cert(certificate, intermediates, now)?;
        let is_administrator = X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| {
            let mut groups = parsed.subject().iter_organization();
            groups.any(|group| group.as_str() == Ok(ADMINISTRATORS))
        });
        match is_administrator {
            true => Ok(verified),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Answers for one cluster.
struct Front {
    world: Arc<World>,
    cluster: String,
    node: String,
    speaks: Speaks,
    version: String,
}

impl Service for Front {
    async fn handle(&self, request: Request) -> Response {
        if self.speaks == Speaks::Docker {
            return docker::handle(&self.world, &self.cluster, &self.node, &request);
        }
        let Self { world, cluster, version, .. } = self;
        kubernetes::Front { world, cluster, version }.handle(&request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: under load the server with the former certificates was still there when the
    /// next one came, which then never listened.
    #[tokio::test]
    async fn an_address_that_is_about_to_be_left_is_waited_for() {
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let leaves = async {
            tokio::time::sleep(3 * NOTICE).await;
            drop(held);
        };
        let (door, ()) = tokio::join!(patient(address, Limits::default()), leaves);
        assert_eq!(door.unwrap().address().unwrap(), address);
    }
}
