//! What a node is after its first contact: a key of its own, and a certificate of the bootstrap
//! listener's CA that says which node of which cluster on which server has it.

use aws_lc_rs::digest::{SHA256, digest};
use uuid::Uuid;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::authority::{Authority, Leaf};
use super::csr;
use super::{KeyPairPem, PkiError};
use crate::base::clock::Timestamp;
use crate::base::id::Entropy;
use crate::model::ClusterId;

/// Stands before the names in the certificate's URI.
const SCHEME: &str = "magnumd://";

/// Which node a certificate is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster: ClusterId,
    /// The server's name.
    pub node: String,
    /// The Nova server's UUID.
    pub instance: String,
    /// When the name was bound to the key: of two certificates the later one counts.
    pub since: Timestamp,
}

/// SHA-256 of the public key of a request that its owner signed, in hex.
pub fn key_of_request(request: &str) -> Result<String, PkiError> {
    Ok(hex(&csr::public_key(&csr::der(request)?)?))
}

impl Identity {
    /// A certificate for a request's key. It is valid whenever the CA is: a node asks only once,
    /// and a clock that is set back must not lock it out.
    pub fn issue(
        &self,
        authority: &KeyPairPem,
        request: &str,
        entropy: &Entropy,
    ) -> Result<String, PkiError> {
        let authority = Authority::load(&authority.pem, &authority.key)?;
        let leaf = Leaf {
            common_name: self.node.clone(),
            uris: vec![format!(
                "{SCHEME}{}/{}/{}/{}",
                self.cluster,
                self.node,
                self.instance,
                self.since.micros()
            )],
            // For clients only: it must not pass for the listener.
            client: true,
            ..Leaf::default()
        };
        let (begin, end) = (authority.begins_at(), authority.ends_at());
        authority.issue(request, &leaf, end.since(begin), begin, entropy)
    }

    /// Whose a certificate is, and its key's digest as [`key_of_request`] gives it. Whoever calls
    /// has verified who signed it. None for one that is no node's.
    pub fn read(certificate: &[u8]) -> Option<(Self, String)> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let names = certificate.subject_alternative_name().ok()??;
        let uri = names.value.general_names.iter().find_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix(SCHEME),
            _ => None,
        })?;
        let mut parts = uri.split('/');
        let (Some(cluster), Some(node), Some(instance), Some(since), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return None;
        };
        let identity = Self {
            cluster: ClusterId::new(Uuid::try_parse(cluster).ok()?),
            node: node.to_owned(),
            instance: instance.to_owned(),
            since: Timestamp::from_micros(since.parse().ok()?),
        };
        Some((identity, hex(certificate.public_key().raw)))
    }
}

fn hex(key: &[u8]) -> String {
    digest(&SHA256, key).as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::listener;
    use rcgen::{CertificateParams, KeyPair};

    #[test]
    fn a_certificate_says_which_node_has_the_key_and_serves_for_nothing_else() {
        let (now, entropy) = (Timestamp::parse("2026-08-01T00:00:00Z").unwrap(), Entropy::new());
        let ca = listener::authority(now, &entropy).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut asked = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
        asked.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let request = asked.serialize_request(&key).unwrap().pem().unwrap();
        let identity = Identity {
            cluster: ClusterId::new(Uuid::from_u128(7)),
            node: "k1-x-master-0".to_owned(),
            instance: Uuid::from_u128(9).to_string(),
            since: now,
        };
        let pem = identity.issue(&ca, &request, &entropy).unwrap();
        let der = csr::pem_body(&pem, "CERTIFICATE").unwrap();
        let read = Identity::read(&der).unwrap();
        assert_eq!(read, (identity, key_of_request(&request).unwrap()));
        let (_, made) = X509Certificate::from_der(&der).unwrap();
        let usage = made.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth && !usage.any && !made.is_ca());
        assert_eq!(made.subject().to_string(), "CN=k1-x-master-0");
        let years = now.plus(std::time::Duration::from_secs(25 * 365 * 86_400));
        assert!(made.validity().not_after.timestamp() > years.micros() / 1_000_000);

        let listeners = listener::certificate(&ca, "192.0.2.1", now, &entropy).unwrap();
        let der = csr::pem_body(&listeners.pem, "CERTIFICATE").unwrap();
        assert_eq!(Identity::read(&der), None, "the listener's own is no node's");
        assert_eq!(Identity::read(b"no certificate"), None);
        assert!(key_of_request("").is_err());
    }
}
