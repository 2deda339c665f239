//! A node's keys and requests, and whether what comes back is what was asked for.

use std::net::Ipv4Addr;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData};
use x509_parser::pem::parse_x509_pem;

/// A key with the request for its certificate.
#[derive(Debug)]
pub(super) struct Wanted {
    key: KeyPair,
    pub csr: String,
}

/// Draws a key and asks for a certificate in the node's name.
pub(super) fn request(
    purpose: &str,
    node: &str,
    address: Option<Ipv4Addr>,
) -> Result<Wanted, String> {
    let text = |e: rcgen::Error| format!("the key for {purpose} cannot be made: {e}");
    let mut names = Vec::new();
    // Servers are called by name and address, clients by neither.
    if matches!(purpose, "etcd-server" | "etcd-peer" | "docker-server") {
        names = vec![node.to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned()];
        names.extend(address.map(|a| a.to_string()));
    }
    let mut params = CertificateParams::new(names).map_err(text)?;
    let mut subject = DistinguishedName::new();
    let (common_name, organization) = match purpose {
        "kubelet" => (format!("system:node:{node}"), Some("system:nodes")),
        "etcd-client" => ("kube-apiserver-etcd-client".to_owned(), None),
        "front-proxy-client" | "kube-apiserver" => (purpose.to_owned(), None),
        _ => (node.to_owned(), None),
    };
    subject.push(DnType::CommonName, common_name);
    if let Some(organization) = organization {
        subject.push(DnType::OrganizationName, organization);
    }
    params.distinguished_name = subject;
    let key = KeyPair::generate().map_err(text)?;
    let csr = params.serialize_request(&key).and_then(|csr| csr.pem()).map_err(text)?;
    Ok(Wanted { key, csr })
}

impl Wanted {
    /// For the program that serves with it.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Whether the certificate is for our key and signed by that authority.
    pub fn check(&self, certificate: &str, ca: &str) -> Result<(), String> {
        let pem = |text: &str, what: &str| {
            parse_x509_pem(text.as_bytes())
                .map(|(_, pem)| pem)
                .map_err(|e| format!("the {what} is no PEM: {e}"))
        };
        let (leaf, ca) = (pem(certificate, "certificate")?, pem(ca, "authority")?);
        let leaf = leaf.parse_x509().map_err(|e| format!("the certificate is not X.509: {e}"))?;
        let ca = ca.parse_x509().map_err(|e| format!("the authority is not X.509: {e}"))?;
        if leaf.public_key().raw != self.key.subject_public_key_info() {
            return Err("the certificate is for another key".to_owned());
        }
        if leaf.issuer() != ca.subject() {
            return Err("the certificate names another issuer than its authority".to_owned());
        }
        leaf.verify_signature(Some(ca.public_key()))
            .map_err(|e| format!("the certificate is not signed by its authority: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateSigningRequestParams, IsCa, Issuer};

    fn authority(name: &str) -> (String, Issuer<'static, KeyPair>) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        (pem, Issuer::new(params, key))
    }

    #[test]
    fn a_certificate_of_another_key_or_authority_is_noticed() {
        let (ca, issuer) = authority("etcd");
        let (other_ca, _) = authority("etcd");
        let wanted = request("etcd-peer", "m-0", Some([10, 0, 0, 5].into())).unwrap();
        let signed = |csr: &str| {
            let csr = CertificateSigningRequestParams::from_pem(csr).unwrap();
            csr.signed_by(&issuer).unwrap().pem()
        };
        let good = signed(&wanted.csr);
        assert_eq!(wanted.check(&good, &ca), Ok(()));
        assert!(wanted.check(&good, &other_ca).unwrap_err().contains("not signed"));
        let foreign = request("etcd-peer", "m-1", None).unwrap();
        assert!(foreign.check(&good, &ca).unwrap_err().contains("another key"));
        assert!(wanted.check("", &ca).unwrap_err().contains("no PEM"));
    }
}
